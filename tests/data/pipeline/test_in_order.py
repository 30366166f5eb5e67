import dataclasses
import itertools
import threading

import numpy as np
import pytest

from sdnjax.data.pipeline.in_order import evaluation_examples
from sdnjax.data.sources import open_source
from sdnjax.errors import InputError


def test_examples_come_in_order_and_untouched(camvid):
    source = open_source(camvid, "val")
    examples = list(evaluation_examples(camvid))
    assert [e.name for e in examples] == [f"val_{k:03d}" for k in range(4)]
    for k, example in enumerate(examples):
        np.testing.assert_array_equal(example.image, source[k].image)
        np.testing.assert_array_equal(example.label, source[k].label)
        assert example.image.dtype == example.label.dtype == np.uint8


def test_processes_share_a_split(camvid):
    shares = [evaluation_examples(camvid, "train", p, 3) for p in range(3)]
    assert [s.total for s in shares] == [3, 2, 2]
    names = [[e.name for e in share] for share in shares]
    assert names[1] == ["train_001", "train_004"]
    assert sorted(itertools.chain(*names)) == [f"train_{k:03d}" for k in range(7)]


def test_more_processes_than_examples(camvid):
    share = evaluation_examples(camvid, "val", 5, 6)
    assert share.total == 0
    assert list(share) == []


def test_skip_drops_and_counts(camvid, own_camvid):
    (own_camvid / "val" / "val_001.png").write_bytes(b"")
    data = dataclasses.replace(camvid, dir=str(own_camvid), on_bad_image="skip")
    examples = evaluation_examples(data)
    assert [e.name for e in examples] == ["val_000", "val_002", "val_003"]
    assert examples.total == 4
    assert list(examples.failures.messages) == ["val_001"]


def test_raise_comes_at_its_turn(camvid, own_camvid):
    (own_camvid / "val" / "val_001.png").write_bytes(b"")
    examples = evaluation_examples(dataclasses.replace(camvid, dir=str(own_camvid)))
    assert next(examples).name == "val_000"
    with pytest.raises(InputError, match=r"val_001\.png: the file is empty"):
        next(examples)


def test_closing_early_ends_the_threads(camvid):
    with evaluation_examples(camvid, "train") as examples:
        next(examples)
    assert list(examples) == []
    for thread in threading.enumerate():
        if thread.name.startswith("sdnjax-read"):
            thread.join(5)
            assert not thread.is_alive()
