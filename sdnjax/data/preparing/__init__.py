"""Preparing a data set: archives, checks, superpixels, and the files that TFDS writes."""
