"""How terms become one loss: weights, names, and means that are merged as sums and counts."""

import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.losses import CrossEntropy, Mean, total_loss

OUTPUTS = {"logits": jnp.zeros((1, 1, 2, 4)), "auxiliary": jnp.array([[[[1.0, 0.0]] * 2]])}
BATCH = {"label": np.array([[[1, 255]]])}


def halves(outputs, batch):
    return {"half": Mean(jnp.array(1.0), jnp.array(2))}


def test_weights_and_names():
    heads = (CrossEntropy(), halves, CrossEntropy(weight=0.25, on="auxiliary"), halves)
    loss, terms = total_loss(heads, OUTPUTS, BATCH)
    decoder, auxiliary = np.log(4), np.log(1 + np.e)
    expected = {"decoder": decoder, "half": 0.5, "auxiliary": auxiliary, "half_4": 0.5}
    assert {k: float(v) for k, v in terms.items()} == pytest.approx(
        {f"loss_{name}": value for name, value in expected.items()}
    )
    assert float(loss) == pytest.approx(decoder + 0.25 * auxiliary + 1.0)


def test_settings_of_cross_entropy():
    mmseg = CrossEntropy(normalize_by="all_pixels")
    assert float(mmseg(OUTPUTS, BATCH)["decoder"].value()) == pytest.approx(np.log(4) / 2)
    with pytest.raises(InputError, match=r"no output .*did you mean auxiliary"):
        CrossEntropy(on="auxilary")(OUTPUTS, BATCH)
    with pytest.raises(InputError, match=r"CrossEntropy\.weight must be at least 0, not -1"):
        CrossEntropy(weight=-1.0)


def test_merged_means_are_means_of_all():
    a = Mean(jnp.array([6.0, 0.0]), jnp.array([2, 0]))
    b = Mean(jnp.array([3.0, 5.0]), jnp.array([1, 4]))
    assert float(a.value()) == 3.0
    assert float(a.merge(b).value()) == pytest.approx(9 / 3 + 5 / 4)
