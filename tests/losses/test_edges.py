"""Losses of edges, and of pixels where edges are seen, against float64 restatements."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.losses import EdgeAttention, EdgeCrossEntropy, ImageCrossEntropy
from tests.ops.oracles import slope
from tests.ops.test_edges import restated as edges_of

K = 4


def example(images=3, size=(7, 6), seed=0):
    """Scores, edge logits and labels with void; the last class does not occur."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((images, *size), int)
    labels[:, 3:, 2:] = 1
    labels[0, :2] = 2
    labels[-1, 4:, :3] = 255
    return rng.normal(0, 2, (images, *size, K)), rng.normal(0.5, 1, (images, *size, 1)), labels


def cross_entropy(scores, labels, over="image", images="mean"):
    """One image after the other."""
    losses = []
    everything = labels[labels != 255]
    for x, y in zip(scores, labels, strict=True):
        x, y = x[y != 255], y[y != 255]
        if not len(y):
            continue
        n = np.bincount(everything if over == "batch" else y, minlength=K)
        w = np.array([2 - n[k] / n.sum() if n[k] else 1.0 for k in range(K)])[y]
        log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
        losses.append(-(w * log_p[np.arange(len(y)), y]).sum() / w.sum())
    return sum(losses) if images == "sum" else sum(losses) / max(len(losses), 1)


def attention(scores, edge, labels, above=0.8, **how):
    return cross_entropy(scores, np.where(edge[..., 0] > above, labels, 255), **how)


def edge_loss(edge, labels, over="image", radius=2):
    total, maps = 0.0, edges_of(labels, radius)
    for x, m in zip(edge[..., 0], maps, strict=True):
        share = maps.mean() if over == "batch" else m.mean()
        p = 1 / (1 + np.exp(-x))
        total += -((1 - share) * m * np.log(p) + share * ~m * np.log(1 - p)).sum()
    return total / maps.size


def value(loss, scores, edge, labels):
    (mean,) = loss({"logits": scores, "edge": edge}, {"label": labels}).values()
    return mean.value()


RELEASED = {"over": "batch", "images": "sum"}
LOSSES = [
    (ImageCrossEntropy(), lambda s, e, y: cross_entropy(s, y)),
    (ImageCrossEntropy(**RELEASED), lambda s, e, y: cross_entropy(s, y, **RELEASED)),
    (EdgeAttention(), attention),
    (EdgeAttention(**RELEASED, above=0.2), partial(attention, above=0.2, **RELEASED)),
    (EdgeCrossEntropy(), lambda s, e, y: edge_loss(e, y)),
    (EdgeCrossEntropy(over="batch"), lambda s, e, y: edge_loss(e, y, "batch")),
    (EdgeCrossEntropy(radius=1), lambda s, e, y: edge_loss(e, y, radius=1)),
]
IDS = [f"{type(x).__name__}-{i}" for i, (x, _) in enumerate(LOSSES)]


@pytest.mark.parametrize(("loss", "restatement"), LOSSES, ids=IDS)
def test_value_and_gradients(x64, loss, restatement):
    scores, edge, labels = example()
    found, gradients = jax.jit(jax.value_and_grad(partial(value, loss), argnums=(0, 1)))(
        scores, edge, labels
    )
    assert found == pytest.approx(restatement(scores, edge, labels), rel=1e-12)
    np.testing.assert_allclose(
        gradients[0], slope(lambda x: restatement(x, edge, labels), scores), rtol=0, atol=1e-9
    )
    # Which pixels attention looks at has no gradient.
    np.testing.assert_allclose(
        gradients[1], slope(lambda x: restatement(scores, x, labels), edge), rtol=0, atol=1e-9
    )


@pytest.mark.parametrize(("loss", "restatement"), LOSSES, ids=IDS)
def test_void_alone_and_one_pixel(loss, restatement):
    scores, edge, labels = (jnp.asarray(x, jnp.float32) for x in example())
    labels = jnp.full(labels.shape, 255)
    found, gradients = jax.jit(jax.value_and_grad(partial(value, loss), argnums=(0, 1)))(
        scores, edge, labels
    )
    assert found == 0 and not any(np.asarray(g).any() for g in gradients)
    one = jnp.zeros((1, 1, 1), jnp.int32)
    assert np.isfinite(jax.jit(partial(value, loss))(scores[:1, :1, :1], edge[:1, :1, :1], one))


@pytest.mark.parametrize("loss", [x for x, _ in LOSSES if x.over == "image"])
def test_halves_add_up(loss):
    scores, edge, labels = (jnp.asarray(x) for x in example(4))
    labels = labels.at[1].set(255)

    @jax.jit
    def term(scores, edge, labels):
        (mean,) = loss({"logits": scores, "edge": edge}, {"label": labels}).values()
        return mean

    def of(part):
        return term(scores[part], edge[part], labels[part])

    whole, merged = of(slice(None)), of(slice(0, 2)).merge(of(slice(2, 4)))
    assert float(merged.value()) == pytest.approx(float(whole.value()), rel=1e-6)


def test_released_forms_depend_on_the_batch():
    """Images add up, and one image's classes weigh in the other."""
    scores, edge, labels = (jnp.asarray(x) for x in example(2))
    for loss in (ImageCrossEntropy(**RELEASED), EdgeCrossEntropy(over="batch")):
        of = jax.jit(partial(value, loss))
        each = [of(scores[i : i + 1], edge[i : i + 1], labels[i : i + 1]) for i in (0, 1)]
        both = of(scores, edge, labels)
        expected = sum(each) if hasattr(loss, "images") else sum(each) / 2
        assert both == pytest.approx(float(expected), rel=0.1)
        assert both != pytest.approx(float(expected), rel=1e-4)


def test_terms_have_names_of_their_own():
    scores, edge, labels = example(1)
    outputs = {"logits": scores, "auxiliary": scores, "edge": edge}
    names = {
        next(iter(jax.eval_shape(loss, outputs, {"label": labels})))
        for loss in (
            ImageCrossEntropy(),
            ImageCrossEntropy(on="auxiliary"),
            EdgeAttention(),
            EdgeCrossEntropy(),
        )
    }
    assert names == {"decoder", "auxiliary", "edge_attention", "edge"}


def test_refused():
    scores, _, labels = example(1)
    with pytest.raises(InputError, match="no output 'edge'"):
        EdgeCrossEntropy()({"logits": scores}, {"label": labels})
    with pytest.raises(ValueError, match=r"edge logits \(1, 7, 6, 4\) do not fit labels"):
        EdgeCrossEntropy(on="logits")({"logits": scores}, {"label": labels})
    with pytest.raises(ValueError, match=r"edge logits \(1, 7, 6, 4\) do not fit labels"):
        EdgeAttention(edge="logits")({"logits": scores}, {"label": labels})
    with pytest.raises(InputError, match=r"EdgeCrossEntropy\.radius must be at least 1"):
        EdgeCrossEntropy(radius=0)
    with pytest.raises(InputError, match=r"over must be image\|batch"):
        dataclasses.replace(EdgeAttention(), over="all")
