"""The label of pixels that count nowhere."""

IGNORE = 255
