"""Imports TensorFlow Datasets after TensorFlow has been set up."""

from sdnjax.data import tf_setup  # noqa: F401, I001 (must come first)

import tensorflow_datasets as tfds

__all__ = ["tfds"]
