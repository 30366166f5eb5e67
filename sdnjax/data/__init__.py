"""Data sets, augmentation and the index-driven input pipeline.

The only package that imports TensorFlow, and it does so only in `pipeline`, `augment`
and `builders`: class names, colours and image reading are free of it.
"""
