"""What a network is put together from: context, refinement, parts of one's own, extra inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sdnjax.errors import InputError
from sdnjax.models import EdgeHead, EncoderDecoder, Model, Neck, create_model
from sdnjax.models.decoders.fcn import FCNHead
from sdnjax.models.inputs import blank_inputs
from sdnjax.models.layers import BatchNorm, Classifier, Head, conv
from sdnjax.models.summary import summarize
from sdnjax.ops import resize_bilinear
from tests.models.context import SegmentMeans
from tests.models.small import small_network
from tests.models.variables import random_variables

IMAGES = np.random.default_rng(0).normal(size=(2, 16, 24, 3)).astype(np.float32)


class Stages(nn.Module):
    """A backbone of two stages, at strides 2 and 4."""

    @nn.compact
    def __call__(self, x, *, train):
        first = conv(4, 3, stride=2, name="conv1")(x)
        return first, conv(6, 3, stride=2, name="conv2")(nn.relu(first))


class Scale(nn.Module):
    """Multiplies a map, and names what it was."""

    factor: float
    main: str

    @nn.compact
    def __call__(self, x, *, train):
        return {self.main: self.factor * x, f"before_{self.main}": x}


def network(**parts):
    return EncoderDecoder(Stages(), Classifier(3, 0.5), decoder_stages=(1,), **parts)


def run(model, variables, train=False, **extras):
    rngs = {"dropout": jax.random.key(0)}
    return model.apply(variables, IMAGES, train=train, rngs=rngs, **extras)


def test_context_is_on_the_features_and_refine_on_the_scores():
    plain = network()
    variables = jax.tree.map(np.float32, random_variables(plain, IMAGES, 1))
    before = run(plain, variables)
    np.testing.assert_array_equal(before["features"], before["stage2"])
    assert before.keys().isdisjoint({"context", "refined", "auxiliary"})

    both = network(context=Scale(2.0, "features"), refine=Scale(3.0, "scores"))
    after = run(both, variables)
    seg = variables["params"]["classifier"]["seg"]
    expected = 2 * np.asarray(before["stage2"]) @ seg["kernel"][0, 0] + seg["bias"]
    np.testing.assert_array_equal(after["before_features"], before["stage2"])
    np.testing.assert_array_equal(after["features"], 2 * before["stage2"])
    np.testing.assert_array_equal(after["context"], after["features"])
    np.testing.assert_allclose(after["decoder"], expected, atol=1e-5)
    np.testing.assert_array_equal(after["before_scores"], after["decoder"])
    np.testing.assert_array_equal(after["refined"], 3 * after["decoder"])
    # Refined before they are resized to the image.
    alone = run(network(context=Scale(2.0, "features")), variables)
    np.testing.assert_allclose(after["logits"], 3 * alone["logits"], rtol=1e-6, atol=1e-6)
    assert after["logits"].shape == (2, 16, 24, 3)


def test_context_comes_before_dropout():
    """Half of the classifier's channels are dropped, none of the context's."""
    model = network(context=Scale(1.0, "features"))
    variables = jax.tree.map(np.float32, random_variables(model, IMAGES, 1))
    still, dropped = run(model, variables), run(model, variables, train=True)
    np.testing.assert_array_equal(still["context"], dropped["context"])
    assert np.abs(still["decoder"] - dropped["decoder"]).max() > 1e-3


def test_a_decoder_without_features_is_named():
    with pytest.raises(InputError, match="Scale returned a dict without 'features': it has scores"):
        network(decoder=Scale(1.0, "scores")).init(jax.random.key(0), IMAGES, train=False)


def test_several_stages_need_a_decoder():
    model = network().clone(decoder_stages=(0, 1))
    with pytest.raises(InputError, match=r"without a decoder one stage is read, not \(0, 1\)"):
        model.init(jax.random.key(0), IMAGES, train=False)


def test_a_head_has_its_features_directly_in_it():
    head = Head(FCNHead(5, convs=1, concat_input=False), Classifier(3))
    model = network(auxiliary=head).clone(auxiliary_stage=0)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    auxiliary = shapes["params"]["auxiliary"]
    assert auxiliary.keys() == {"conv1", "classifier"}
    assert auxiliary["classifier"]["seg"]["kernel"].shape == (1, 1, 5, 3)
    assert model.has_auxiliary_scores and not network().has_auxiliary_scores
    assert small_network("ocrnet_hr18", num_classes=3).has_auxiliary_scores


def test_an_edge_head_reads_what_the_classifier_reads_in_training():
    model = network(context=Scale(2.0, "features"), edge=EdgeHead())
    variables = jax.tree.map(np.float32, random_variables(model, IMAGES, 1))
    after = run(model, variables, train=True)
    seg = variables["params"]["edge"]["classifier"]["seg"]
    scores = np.asarray(after["features"]) @ seg["kernel"][0, 0] + seg["bias"]
    assert after["edge"].shape == (2, 16, 24, 1) and after["edge"].dtype == jnp.float32
    np.testing.assert_allclose(after["edge"], resize_bilinear(scores, (16, 24)), atol=1e-4)
    assert model.has_edge_scores and not network().has_edge_scores
    # In evaluation there is nothing of it, and nothing else changes.
    plain, still = network(context=Scale(2.0, "features")), run(model, variables)
    assert "edge" not in still
    del variables["params"]["edge"]
    np.testing.assert_array_equal(still["logits"], run(plain, variables)["logits"])


def test_an_edge_head_may_have_a_hidden_layer():
    model = network(edge=EdgeHead(hidden=5))
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), IMAGES, train=False))
    assert shapes["params"]["edge"]["conv1"]["conv"]["kernel"].shape[-1] == 5
    assert shapes["params"]["edge"]["classifier"]["seg"]["kernel"].shape == (1, 1, 5, 1)
    layers = {x.path: x for x in summarize(model, (16, 24))}
    assert (layers["edge"].kind, layers["edge"].multiply_adds) == ("EdgeHead", 0)
    assert layers["edge"].parameters > 0


class Normed(nn.Module):
    """A neck that behaves in training otherwise than in evaluation."""

    @nn.compact
    def __call__(self, stages, *, train):
        return tuple(BatchNorm(name=f"bn{i}")(x, train=train) for i, x in enumerate(stages))


@pytest.mark.parametrize("name", ["fcn_r18-d8", "maskformer_r50-d32"])
def test_a_neck_of_ones_own_may_have_batch_norm(name):
    model = Model(name=name, neck=Normed()).build(3)

    def both():
        variables = model.init(jax.random.key(0), IMAGES, train=False)
        rngs = {"dropout": jax.random.key(0)}
        options = {"mutable": ["batch_stats"], "rngs": rngs}
        return variables, model.apply(variables, IMAGES, train=True, **options)[1]

    before, after = jax.eval_shape(both)
    assert before["batch_stats"]["neck"]["bn0"].keys() == {"mean", "var"}
    assert after["batch_stats"]["neck"].keys() == before["batch_stats"]["neck"].keys()
    # In training the statistics are the batch's, so the neck has been told.
    neck, x = Normed(), (jnp.asarray(IMAGES) + 5.0,)
    variables = neck.init(jax.random.key(0), x, train=False)
    y, _ = neck.apply(variables, x, train=True, mutable=["batch_stats"])
    assert abs(jnp.mean(y[0])) < 1e-4
    assert jnp.mean(neck.apply(variables, x, train=False)[0]) > 1


def test_named_networks_take_context_and_refinement():
    context, refine = SegmentMeans(), Scale(2.0, "scores")
    for build in (
        lambda: create_model("fcn_r18-d8", num_classes=3, context=context, refine=refine),
        lambda: Model(context=context, refine=refine).build(3),
    ):
        model = build()
        assert (model.context, model.refine) == (context, refine)
        assert model.inputs == ("superpixels", "picture")
    with pytest.raises(InputError, match="context does not fit MaskFormer"):
        create_model("maskformer_r50-d32", num_classes=3, context=context)
    with pytest.raises(InputError, match="refine does not fit MaskFormer"):
        Model(name="maskformer_swin-t", refine=refine).build(3)
    with pytest.raises(InputError, match="edge does not fit MaskFormer"):
        Model(name="maskformer_swin-t", edge=EdgeHead()).build(3)
    assert Model(edge=EdgeHead(hidden=3)).build(3).edge == EdgeHead(hidden=3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Model(neck="sdn"), r"model.neck must be Neck\(…\) or a Linen module, not 'sdn'"),
        (lambda: Model(neck=Normed), r"model.neck must be Neck\(…\)"),
        (lambda: Model(context=SegmentMeans), r"model.context must be a Linen module, such as"),
        (lambda: Model(refine=jnp.sin), r"model.refine must be a Linen module"),
        (lambda: Model(edge=EdgeHead), r"model.edge must be a Linen module"),
        (lambda: EdgeHead(hidden=-1), r"EdgeHead.hidden must be at least 0, not -1"),
        (
            lambda: create_model("fpn_r18", num_classes=2, neck=Normed),
            "neck must be a Linen module",
        ),
        (lambda: Neck(similarity="cosin"), "model.neck.similarity.*'cosin'; did you mean cosine"),
        (lambda: Neck(implementation="refrence"), "model.neck.impl.*did you mean reference"),
        (lambda: Neck(similarity=3), "Neck.similarity must be charbonnier"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_extra_inputs_reach_the_part_that_names_them():
    model = network(context=SegmentMeans(), neck=Inked())
    assert model.inputs == ("picture", "superpixels")
    blank = blank_inputs(model, IMAGES.shape[:3])
    variables = jax.jit(lambda: model.init(jax.random.key(0), IMAGES, train=False, **blank))()
    rng = np.random.default_rng(0)
    segments = rng.integers(-1, 3, IMAGES.shape[:3]).astype(np.int32)
    picture = rng.uniform(size=IMAGES.shape).astype(np.float32)
    outputs = run(model, variables, superpixels=segments, picture=picture)

    # By hand: the neck adds a picture's mean; segments are those of every fourth pixel.
    features = np.asarray(outputs["stage2"]) + picture.mean(axis=(1, 2, 3))[:, None, None, None]
    np.testing.assert_allclose(outputs["neck2"], features, atol=1e-6)
    grid, brightness = segments[:, ::4, ::4], picture[:, ::4, ::4].mean(axis=-1)
    expected = features.copy()
    for b in range(2):
        for k in range(3):
            here = grid[b] == k
            if here.any():
                expected[b, here] += features[b, here].mean(axis=0)
    expected += np.asarray(variables["params"]["context"]["gain"]) * brightness[..., None]
    np.testing.assert_allclose(outputs["features"], expected, atol=1e-5)


class Inked(nn.Module):
    """A neck that reads the picture."""

    inputs = ("picture",)

    @nn.compact
    def __call__(self, stages, *, train, picture):
        return tuple(x + jnp.mean(picture, axis=(1, 2, 3), keepdims=True) for x in stages)


def test_inputs_that_are_missing_or_not_asked_for_are_named():
    model = network(context=SegmentMeans())
    blank = blank_inputs(model, IMAGES.shape[:3])
    for missing in blank:
        rest = {k: v for k, v in blank.items() if k != missing}
        with pytest.raises(InputError, match=f"EncoderDecoder needs the input '{missing}'"):
            model.init(jax.random.key(0), IMAGES, train=False, **rest)
    plain = network()
    with pytest.raises(InputError, match="does not ask for: 'superpixels'"):
        plain.init(jax.random.key(0), IMAGES, train=False, superpixels=blank["superpixels"])
    masks = create_model("maskformer_r50-d32", num_classes=2, neck=Inked())
    assert masks.inputs == ("picture",)
    with pytest.raises(InputError, match="MaskClassifier needs the input 'picture'"):
        masks.init(jax.random.key(0), IMAGES, train=False)


def test_an_input_that_nobody_supplies_is_named_with_its_part():
    class Deep(SegmentMeans):
        inputs = ("superpixel",)

    with pytest.raises(InputError, match=r"Deep asks for.*'superpixel'; did you mean superpixels"):
        _ = network(context=Deep()).inputs
