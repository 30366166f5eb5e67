"""Every named protocol against a statement of it in NumPy, to the last pixel."""

import dataclasses

import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import (
    PROTOCOLS,
    Evaluation,
    evaluation_record,
    protocol,
    protocol_name,
)
from sdnjax.inference.scoring import evaluate
from sdnjax.metrics import confusion_matrix
from tests.inference.fake import NORMALIZATION, Fake, fake_logits
from tests.inference.statement import probabilities

# As published: (long, short), window, stride; then the scales.
PUBLISHED = {
    "ade20k": ((2048, 512), None, None),
    "ade20k_slide512": ((2048, 512), (512, 512), (512, 512)),
    "ade20k_slide512_mmseg": ((2048, 512), (512, 512), (480, 480)),
    "cityscapes": ((2048, 1024), None, None),
    "cityscapes_slide769": ((2049, 1025), (769, 769), (513, 513)),
    "cityscapes_slide768": ((2048, 1024), (768, 768), (512, 512)),
    "cityscapes_slide768_mmseg": ((2048, 1024), (768, 768), (512, 512)),
    "pascal_context": ((520, 520), (480, 480), (320, 320)),
    "voc2012": ((2048, 512), None, None),
}
ENLARGED = ("ade20k_slide512", "cityscapes_slide768")  # Segmenter's own code
SUFFIXES = {
    "": ((1.0,), False),
    "_ms": ((0.5, 0.75, 1.0, 1.25, 1.5, 1.75), True),
    "_ms_sdn": ((0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0), True),
}
MARGIN = 1e-4  # between the two largest mean probabilities; below it rounding may decide


def test_names_and_settings():
    names = {name + suffix for name in PUBLISHED for suffix in SUFFIXES}
    assert set(PROTOCOLS) == names | {"voc2012_difnet"}  # tests/inference/test_canvas.py
    for name, (resize_to, window, stride) in PUBLISHED.items():
        for suffix, (scales, flip) in SUFFIXES.items():
            found = protocol(name + suffix)
            assert (found.resize_to, found.scales, found.flip) == (resize_to, scales, flip)
            assert found.mode == ("whole" if window is None else "slide")
            if window is not None:
                assert (found.window, found.stride) == (window, stride)
            assert found.small == ("enlarge" if name in ENLARGED else "shrink")
            assert found.size_multiple == 1
            city = name.startswith("cityscapes")
            assert found.boundary_absent == ("one" if city else "skip")
            assert found.boundary_iou_ratio == (0.005 if city else 0.02)
            assert found.boundary_thresholds == (1, 3)


def test_settings_of_earlier_work_directories():
    old = {"mode": "slide", "window": (8, 8), "size_multiple": 32}
    assert evaluation_record(old)["small"] == "pad"
    assert evaluation_record({**old, "size_multiple": 1})["small"] == "shrink"
    assert evaluation_record({**old, "small": "enlarge"})["small"] == "enlarge"
    whole = {"mode": "whole", "size_multiple": 32}
    assert evaluation_record(whole) == whole


def test_wrong_name_shows_the_nearest():
    with pytest.raises(InputError, match=r"did you mean cityscapes_slide769\?"):
        protocol("cityscapes_slide_769")
    with pytest.raises(InputError, match="there are ade20k, "):
        protocol("xyz")


def test_names_of_settings():
    assert protocol_name(Evaluation()) == "whole"
    assert protocol_name(Evaluation(size_multiple=32)) == "whole_pad32"
    pascal = dataclasses.replace(protocol("pascal_context"), small="pad")
    assert protocol_name(pascal) == "slide480x480-320x320_pad_resize520x520"
    assert protocol_name(dataclasses.replace(protocol("ade20k_ms"), batch_size=4)) == "ade20k_ms"
    assert (
        protocol_name(Evaluation("slide", (90, 60), (8, 9), (4, 5), scales=(0.5, 1.0), flip=True))
        == "slide8x9-4x5_resize90x60_scales0.5-1_flip"
    )


@dataclasses.dataclass
class Example:
    image: np.ndarray
    label: np.ndarray
    name: str


def pictures(sizes, num_classes, seed=0):
    """Smooth random images of the sizes, and random labels with void."""
    rng = np.random.default_rng(seed)
    for i, (h, w) in enumerate(sizes):
        coarse = rng.uniform(0, 256, (h // 6 + 2, w // 6 + 2, 3))
        image = coarse.repeat(6, 0).repeat(6, 1)[:h, :w].astype(np.uint8)
        label = rng.integers(0, num_classes, (h, w)).astype(np.uint8)
        label[rng.uniform(size=(h, w)) < 0.05] = 255
        yield Example(image, label, f"{i}.png")


def check(evaluation, published, sizes, num_classes=5, align_corners=False):
    """The library's confusion matrix is the statement's."""
    examples, expected, unsure, pixels = [], 0, 0, 0
    for e in pictures(sizes, num_classes):
        mean = probabilities(
            lambda x: fake_logits(x, num_classes),
            NORMALIZATION(e.image),
            align_corners=align_corners,
            **published,
        )
        top = np.sort(mean, axis=-1)
        near = top[..., -1] - top[..., -2] < MARGIN
        e.label[near] = 255
        unsure, pixels = unsure + near.sum(), pixels + near.size
        expected = expected + confusion_matrix(e.label, mean.argmax(axis=-1), num_classes)
        examples.append(e)
    assert unsure < 0.01 * pixels
    predictor = Predictor(Fake(num_classes, align_corners), evaluation, NORMALIZATION)
    metrics = evaluate(
        predictor,
        {},
        examples,
        num_classes=num_classes,
        protocol=evaluation,
    )
    np.testing.assert_array_equal(metrics["MeanIoU"].confusion, expected)
    assert (expected.sum(axis=0) > 0).sum() >= min(num_classes, 5)  # not one class everywhere
    return predictor


def published(name, suffix="", shrink=1):
    resize_to, window, stride = (
        None if pair is None else tuple(n // shrink for n in pair) for pair in PUBLISHED[name]
    )
    scales, flip = SUFFIXES[suffix]
    how = {"resize_to": resize_to, "window": window, "stride": stride}
    how["small"] = "enlarge" if name in ENLARGED else "shrink"
    return {**how, "scales": scales, "flip": flip}


def shrunk(evaluation, shrink):
    def smaller(pair):
        return tuple(n // shrink for n in pair)

    return dataclasses.replace(
        evaluation,
        resize_to=smaller(evaluation.resize_to),
        window=smaller(evaluation.window),
        stride=smaller(evaluation.stride),
    )


SIZES = [(40, 53), (40, 53), (40, 53), (61, 45)]  # two at a time: a full batch, two partial ones
OWN_SIZE = ("ade20k", "ade20k_slide512", "ade20k_slide512_mmseg", "pascal_context")


@pytest.mark.parametrize("name", OWN_SIZE)
def test_protocols_at_their_own_sizes(name):
    check(protocol(name), published(name), [(61, 45)])


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - set(OWN_SIZE)))
def test_protocols_an_eighth_as_large(name):
    align_corners = name == "cityscapes_slide769"
    evaluation = dataclasses.replace(shrunk(protocol(name), 8), batch_size=2)
    check(evaluation, published(name, shrink=8), SIZES, align_corners=align_corners)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("ade20k", "_ms"), ("cityscapes_slide769", "_ms_sdn"), ("cityscapes_slide768", "_ms")],
)
def test_multi_scale_protocols_an_eighth_as_large(name, suffix):
    evaluation = shrunk(protocol(name + suffix), 8)
    check(evaluation, published(name, suffix, shrink=8), [(33, 80)])


def test_150_classes():
    evaluation = dataclasses.replace(shrunk(protocol("ade20k"), 8), flip=True)
    check(evaluation, published("ade20k", shrink=8) | {"flip": True}, [(61, 45)], num_classes=150)
