"""From stored files to arrays: images, labels, superpixels, prepared data sets."""
