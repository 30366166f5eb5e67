"""Pallas kernels (Mosaic) for Google TPUs, v5e and later, on blocks of rows of images.

Checked in Pallas' interpreter and compiled for TPUs that were only described: no TPU has run them.
"""
