"""A network and batches small enough for tests of everything around them."""

import numpy as np
from flax import linen as nn

from sdnjax.losses import CrossEntropy
from sdnjax.models.layers import BatchNorm, Classifier, conv
from sdnjax.ops.normalization import Normalization
from sdnjax.recipe import Recipe

HEADS = (CrossEntropy(), CrossEntropy(weight=0.4, on="auxiliary"))


def recipe_of(network, optimizer, *, losses=HEADS, seed=0, **options):
    """A network's recipe for three classes and crops of 12×10 pixels that are not normalised."""
    identity = Normalization((0.0,) * 3, (1.0,) * 3)
    return Recipe(network, losses, optimizer, 3, (12, 10), identity, seed, **options)


class Tiny(nn.Module):
    """One convolution with batch norm, dropout and a classifier; an auxiliary head in training."""

    num_classes: int = 3
    dropout: float = 0.2
    align_corners: bool = False
    has_auxiliary_scores = True

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.relu(BatchNorm()(conv(8, 3, name="conv")(x), train=train))
        outputs = {"logits": Classifier(self.num_classes, self.dropout)(x, train=train)}
        if train or self.is_initializing():
            outputs["auxiliary"] = Classifier(self.num_classes, 0.0)(x, train=train)
        return outputs


def batch_of(step, *, batch_size=8, size=(12, 10), num_classes=3):
    """The batch of a step: labels that the image gives away, one image all void."""
    rng = np.random.default_rng([7, step])
    label = rng.integers(0, num_classes, (batch_size, *size)).astype(np.int32)
    image = np.eye(num_classes, dtype=np.float32)[label] + rng.normal(
        0, 0.3, (batch_size, *size, num_classes)
    ).astype(np.float32)
    label[0] = 255
    return {"image": image, "label": label}


def batches(start=0):
    """All batches from a step on."""
    step = start
    while True:
        yield batch_of(step)
        step += 1
