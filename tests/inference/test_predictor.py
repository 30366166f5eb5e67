"""`Predictor` against the statement: padding, batches, compilations, memory."""

import contextlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.resampling import bucket
from sdnjax.models.layers import conv
from sdnjax.ops import resize_bilinear
from sdnjax.ops.normalization import Normalization
from tests.inference.fake import NORMALIZATION, Fake, fake_logits, picture
from tests.inference.statement import probabilities, resized


class Net(nn.Module):
    """A convolution: its border makes a window's logits differ from the whole image's."""

    @nn.compact
    def __call__(self, x, *, train):
        return {"logits": conv(4, 5, bias=True)(x)}


@pytest.fixture(scope="module")
def net():
    model = Net()
    return model, model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)


def predictor_of(network, **how):
    return Predictor(network, Evaluation(**how), NORMALIZATION)


def logits_of(net, x):
    return np.asarray(net[0].apply(net[1], x[None], train=False)["logits"])[0]


SLIDE = {"window": (20, 25), "stride": (13, 11)}
CASES = {
    "whole": {},
    "resized": {"resize_to": (90, 60)},
    "padded": {"resize_to": (90, 60), "size_multiple": 32, "flip": True},
    "padded scales": {"scales": (0.5, 1.75), "size_multiple": 32},
    "scales": {"scales": (0.5, 1.75), "flip": True},
    "slide": SLIDE,
    "slide, scales": {**SLIDE, "resize_to": (100, 70), "scales": (0.5, 2.0), "flip": True},
    "smaller": {"window": (80, 90), "stride": (80, 90), "flip": True},
    "smaller, padded": {"window": (80, 90), "stride": (80, 90), "flip": True, "small": "pad"},
    "side smaller": {"window": (70, 30), "stride": (30, 20), "flip": True},
    "side smaller, padded": {"window": (70, 30), "stride": (30, 30), "flip": True, "small": "pad"},
    "enlarged": {"window": (80, 90), "stride": (80, 60), "flip": True, "small": "enlarge"},
    "enlarged at one scale": {
        **{"window": (60, 60), "stride": (60, 60), "scales": (0.5, 0.75, 1.5), "flip": True},
        **{"small": "enlarge", "resize_to": (100, 64)},
    },
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_are_those_of_the_statement(case):
    align_corners = "scale" in case
    how = CASES[case]
    mode = "slide" if "window" in how else "whole"
    predictor = predictor_of(Fake(5, align_corners), mode=mode, **how)
    x = picture(67, 58)
    (found,) = predictor.probabilities({}, [x])
    expected = probabilities(
        lambda x: fake_logits(x, 5), NORMALIZATION(x), align_corners=align_corners, **how
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


FINISH = {"finish": lambda probabilities, picture: probabilities.argmin(-1)}


@pytest.mark.parametrize("how", [{}, {"scales": (0.5, 1.0), "flip": True}, FINISH])
def test_the_likeliest_classes_are_those_of_the_probabilities(how):
    predictor = predictor_of(Fake(5), **how)
    x = picture(150, 40)  # two strips
    (probabilities,) = predictor.probabilities({}, [x])
    (labels,) = predictor.labels({}, [x])
    ((found, likeliest),) = predictor.likeliest({}, [x], count=3)
    np.testing.assert_array_equal(found, labels)
    assert (found.dtype, likeliest.shape) == (np.uint8, (150, 40, 2, 3))
    order = np.argsort(-probabilities, axis=-1, kind="stable")[..., :3]
    np.testing.assert_array_equal(likeliest[..., 0, :], order)
    percent = 100 * np.take_along_axis(probabilities, order, -1)
    assert np.abs(likeliest[..., 1, :] - percent).max() <= 0.5001
    ((_, everything),) = predictor.likeliest({}, [x], count=9)
    assert everything.shape == (150, 40, 2, 5)


def test_strips_and_rings_go_round_many_times():
    """An image many windows and strips high, with logits on a grid coarser than the image."""
    how = {"window": (16, 24), "stride": (11, 24), "scales": (0.7, 1.3), "flip": True}
    x = picture(600, 30)
    (found,) = predictor_of(Fake(), mode="slide", **how).probabilities({}, [x])
    expected = probabilities(lambda x: fake_logits(x, 5), NORMALIZATION(x), **how)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_labels_are_the_most_probable_classes():
    predictor = predictor_of(Fake(), mode="slide", **SLIDE, flip=True)
    x = picture(31, 47)
    (labels,), (found,) = predictor.labels({}, [x]), predictor.probabilities({}, [x])
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, found.argmax(-1))
    many = predictor_of(Fake(300))
    assert many.labels({}, [x])[0].dtype == np.int32


def test_logits_on_a_coarser_grid_are_brought_to_the_window():
    class Coarse(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return {"logits": fake_logits(x[:, ::4, ::4], 5, jnp)}

    def fine(x):
        return resized(fake_logits(x[::4, ::4], 5), x.shape[:2])

    x = picture(300, 41)  # three strips, of which each reads other rows of the grid
    for how in ({}, {"size_multiple": 8}, {"scales": (0.5, 1.3), "flip": True}):
        (found,) = predictor_of(Coarse(), **how).probabilities({}, [x])
        np.testing.assert_allclose(found, probabilities(fine, NORMALIZATION(x), **how), atol=3e-5)


def test_whole_pictures_take_the_scores_that_the_network_resizes():
    class Resizing(nn.Module):
        align_corners: bool = True

        @nn.compact
        def __call__(self, x, *, train):
            scores = fake_logits(x[:, ::3, ::3], 5, jnp)
            logits = resize_bilinear(scores, x.shape[1:3], align_corners=True)
            return {"scores": scores, "logits": logits}

    def fine(x):
        return resized(fake_logits(x[::3, ::3], 5), x.shape[:2], align_corners=True)

    x = picture(200, 31)
    how = {"scales": (1.0, 0.7), "flip": True}
    expected = probabilities(fine, NORMALIZATION(x), align_corners=True, **how)
    (found,) = predictor_of(Resizing(), **how).probabilities({}, [x])
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_last_partial_batch_and_padding_do_not_change_an_image(net):
    predictor = predictor_of(net[0], batch_size=3, size_multiple=8)
    variables = predictor.place(net[1])
    a, b = picture(13, 10, 1), picture(13, 10, 2)
    together = predictor.labels(variables, [a, b])
    (alone,) = predictor.labels(variables, [b])
    assert [x.shape for x in together] == [(13, 10)] * 2
    np.testing.assert_array_equal(together[1], alone)
    padded = np.pad(NORMALIZATION(b), ((0, 3), (0, 6), (0, 0)))
    np.testing.assert_array_equal(alone, logits_of(net, padded).argmax(-1)[:13, :10])
    assert predictor.compilations["network"] == 1


def test_eight_devices_predict_as_one(net):
    images = [picture(9, 7, seed) for seed in range(8)]
    for how in ({}, {"mode": "slide", "window": (6, 6), "stride": (4, 4), "flip": True}):
        eight = predictor_of(net[0], batch_size=8, **how)
        one = predictor_of(net[0], batch_size=1, **how)
        found = eight.probabilities(eight.place(net[1]), images)
        for x, ours in zip(images, found, strict=True):
            (alone,) = one.probabilities(one.place(net[1]), [x])
            np.testing.assert_allclose(ours, alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_size", [8, 1])  # on eight devices, on the first
def test_sharded_parameters_predict_as_replicated_ones(batch_size, monkeypatch):
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return {"logits": conv(8, 3, bias=True)(nn.relu(conv(16, 3, bias=True)(x)))}

    network = Wide()
    variables = network.init(jax.random.key(1), jnp.zeros((1, 8, 8, 3)), train=False)
    mesh = jax.make_mesh((8,), ("fsdp",), axis_types=(AxisType.Auto,))
    last_axis = NamedSharding(mesh, PartitionSpec(None, None, None, "fsdp"))
    bias = NamedSharding(mesh, PartitionSpec("fsdp"))
    sharded = jax.tree.map(
        lambda x: jax.device_put(x, last_axis if x.ndim == 4 else bias), variables
    )
    assert not any(x.is_fully_replicated for x in jax.tree.leaves(sharded))

    def refuse(*_):
        raise AssertionError("parameters came to the host")

    monkeypatch.setattr(jax, "device_get", refuse)
    predictor = predictor_of(network, batch_size=batch_size, flip=True)
    placed = predictor.place(sharded)
    assert all(x.is_fully_replicated for x in jax.tree.leaves(placed))
    assert {len(x.devices()) for x in jax.tree.leaves(placed)} == {batch_size}
    pictures = [picture(21, 33, seed) for seed in range(batch_size)]
    ours, theirs = (
        np.stack(predictor.labels(v, pictures)) for v in (placed, predictor.place(variables))
    )
    np.testing.assert_array_equal(ours, theirs)
    assert len(np.unique(ours)) > 3
    for x, y in zip(jax.tree.leaves(placed), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(x, y)


def test_pictures_are_as_they_were_read():
    predictor = predictor_of(Fake(), batch_size=2)
    x = picture(6, 8)
    for pictures in ([NORMALIZATION(x)], [x, x[:5]], [x[..., :1]], [x[..., 0]]):
        with pytest.raises(InputError, match=r"pictures must be uint8 \[H, W, 3\] of one size"):
            predictor.labels({}, pictures)
    for pictures in ([], [x] * 3):
        with pytest.raises(InputError, match=r"pictures for a batch of 2"):
            predictor.labels({}, pictures)


def test_pictures_of_other_channels():
    class Infrared(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return {"logits": jnp.concatenate([x, -x.sum(-1, keepdims=True)], axis=-1)}

    normalization = Normalization((100.0, 50.0), (20.0, 30.0))
    x = np.random.default_rng(0).integers(0, 256, (9, 7, 2), dtype=np.uint8)
    (labels,) = Predictor(Infrared(), Evaluation(), normalization).labels({}, [x])
    y = (x - np.array([100.0, 50.0])) / [20, 30]
    np.testing.assert_array_equal(labels, np.dstack([y, -y.sum(-1)]).argmax(-1))


@contextlib.contextmanager
def counted_compilations():
    """Everything that XLA compiles inside, whoever asked for it."""
    count = [0]

    def listen(event, duration, **_):
        count[0] += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield count
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


MIXED = [(h, w) for h in (50, 64, 90, 96) for w in (70, 96, 110, 128)]
SLIDING = {
    "mode": "slide",
    "small": "pad",
    "window": (48, 40),
    "stride": (32, 40),
    "scales": (0.5, 1.0),
}


@pytest.mark.parametrize(
    ("how", "network"),
    [
        ({"flip": True, "size_multiple": 32}, {(h, w) for h in (64, 96) for w in (96, 128)}),
        (SLIDING, {(48, 40)}),
        ({**SLIDING, "batch_size": 8, "scales": (1.0,)}, {(48, 40)}),
    ],
)
def test_compilations_over_a_folder_of_mixed_sizes(how, network):
    predictor = predictor_of(Fake(), **how)
    with counted_compilations() as count:
        for h, w in MIXED:
            assert predictor.labels({}, [picture(h, w)])[0].shape == (h, w)
        buckets = {(bucket(h), bucket(w)) for h, w in MIXED}
        seen = predictor.compilations
        assert seen["network"] == len(network)
        # Zeros for a strip and for a ring, rows in, columns in, windows added, the way back (of
        # a ring or a whole picture's logits), class map: at most so many for each bucket and scale.
        scales = len(how.get("scales", (1.0,)))
        assert seen["resampling"] <= len(buckets) * (2 + 6 * scales)
        assert count[0] == seen.total()
        for h, w in MIXED:
            predictor.labels({}, [picture(h - 1, w - 1)])
        assert count[0] == seen.total()


def test_exact_sizes_are_compiled_once_each():
    predictor = predictor_of(Fake())
    for _ in range(2):
        for h, w in MIXED:
            predictor.labels({}, [picture(h, w)])
    assert predictor.compilations["network"] == len(MIXED)


def held(predictor, x):
    """Most bytes on the device whenever a strip is added to."""
    most, run = [0], predictor._run

    def measured(*arguments):
        most[0] = max(most[0], sum(a.nbytes for a in jax.live_arrays()))
        return run.add_probabilities(*arguments)

    predictor._run = run._replace(add_probabilities=measured)
    predictor.labels({}, [x])
    return most[0]


def test_memory_of_sliding_windows_does_not_grow_with_height():
    how = {"mode": "slide", "window": (32, 48), "stride": (32, 40), "flip": True}
    protocol = Evaluation(**how, scales=(0.5, 1.0))
    before = sum(a.nbytes for a in jax.live_arrays())
    low, high = (
        held(Predictor(Fake(19), protocol, NORMALIZATION), picture(h, 128)) - before
        for h in (512, 1536)
    )
    assert low == high
    # Each ring: a window and two strips of 128 rows; the strip, and the one before it.
    rings = sum(2 * (32 + 2 * 128) * width * 19 * 4 for width in (64, 128))
    strips, pieces_of_the_image = 2 * 128 * 128 * 19 * 4, 2**17
    assert high <= rings + strips + pieces_of_the_image
    assert high < 1536 * 128 * 19 * 4


def test_memory_of_a_whole_picture_at_one_scale_is_that_of_the_networks_grid():
    class Coarse(nn.Module):
        @nn.compact
        def __call__(self, x, *, train):
            return {"logits": fake_logits(x[:, ::8, ::8], 150, jnp)}

    before = sum(a.nbytes for a in jax.live_arrays())
    found = held(predictor_of(Coarse()), picture(1024, 256)) - before
    pixels = 1024 * 256
    # The logits, before and after they were padded; two strips; the picture in float32, twice.
    allowed = (2 * pixels // 64 + 2 * 128 * 256) * 150 * 4 + 2 * pixels * 3 * 4
    assert found <= 1.1 * allowed < pixels * 150 * 4 / 2


@pytest.mark.slow
def test_memory_of_a_large_image():
    """4096×8192, 19 classes: less than the logits of the whole image, 2.5 GB, image included."""
    code = (
        "import resource, numpy as np, jax\n"
        "from sdnjax.inference.protocols import Evaluation\n"
        "from sdnjax.inference.predictor import Predictor\n"
        "from tests.inference.fake import NORMALIZATION, Fake\n"
        "image = np.zeros((4096, 8192, 3), np.uint8)\n"
        "predictor = Predictor(Fake(19), Evaluation(mode='slide'), NORMALIZATION)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "predictor.labels({}, [image])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 4096 * 8192 * 19 * 4


@pytest.mark.parametrize("case", ["padded", "slide, scales"])
def test_classes_of_the_mirror_image_are_brought_back(net, case):
    """The statement with a network whose mirrored view is asked for the mirrored classes."""
    how = CASES[case]
    mirrored = (2, 1, 0, 3)
    image = picture(47, 61)
    found = Predictor(net[0], Evaluation(mode=mode_of(how), **how), NORMALIZATION, mirrored)
    (ours,) = found.probabilities(net[1], [image])
    own, turned = (
        Predictor(
            net[0], Evaluation(mode=mode_of(how), **{**how, "flip": False}), NORMALIZATION
        ).probabilities(net[1], [x])[0]
        for x in (image, np.ascontiguousarray(image[:, ::-1]))
    )
    expected = (own + turned[:, ::-1][..., list(mirrored)]) / 2
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    (plain,) = Predictor(net[0], Evaluation(mode=mode_of(how), **how), NORMALIZATION).probabilities(
        net[1], [image]
    )
    assert np.abs(ours - plain).max() > 1e-3


def mode_of(how):
    return "slide" if "window" in how else "whole"
