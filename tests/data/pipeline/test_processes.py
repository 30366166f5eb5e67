"""Batches made by several processes are those of one, errors and all."""

import dataclasses
import shutil

import numpy as np
import pytest

from sdnjax.data.data_settings import Data
from sdnjax.data.pipeline.batches import train_batches
from sdnjax.data.pipeline.processes import ProcessBatches
from sdnjax.data.sets.shapes import SHAPES
from sdnjax.errors import InputError, RunError
from tests.data.pipeline.test_batches import run, same


@pytest.fixture
def data(camvid_dir):
    return Data(name="camvid", dir=str(camvid_dir), crop_size=(24, 32), workers=1)


def test_two_processes_make_the_batches_of_one(data):
    """From a step in the middle, of the second of two training processes; an end is an end."""
    options = {"start_step": 2, "process_index": 1, "process_count": 2}
    several = dataclasses.replace(data, processes=2)
    with train_batches(several, seed=3, batch_size=8, stop_step=5, **options) as batches:
        assert isinstance(batches, ProcessBatches)
        found = list(batches)
        assert batches.label_space.num_classes == 11 and batches.num_examples > 1
        assert batches.seconds["decoding"] > 0
        assert not found[0]["image"].flags.writeable
        with pytest.raises(StopIteration):
            next(batches)
    same(found, run(data, batch_size=8, stop_step=5, **options))


def test_a_bad_picture_is_the_same_line_and_a_lost_reader_has_one(data, tmp_path):
    folder = tmp_path / "camvid"
    shutil.copytree(data.dir, folder)
    for path in sorted((folder / "train").iterdir())[1:]:
        path.write_bytes(path.read_bytes()[:-40])
    several = dataclasses.replace(data, dir=str(folder), processes=2)
    with pytest.raises(InputError, match=r"\.png.*truncated or damaged"):
        run(several)
    skipping = dataclasses.replace(several, on_bad_image="skip")
    with train_batches(skipping, seed=3, batch_size=4) as batches:
        next(batches)
        assert len(batches.failures) > 0
        assert all("truncated" in said for said in batches.failures.messages.values())
        batches._processes[1].kill()
        with pytest.raises(RunError, match="reader process 1 is gone"):
            for _ in range(50):
                next(batches)
    assert all(process.poll() is not None for process in batches._processes)


def test_what_cannot_be_divided_is_refused(data):
    with pytest.raises(InputError, match="processes is 3, which does not divide the 4 images"):
        run(dataclasses.replace(data, processes=3))
    own = dataclasses.replace(data, name=SHAPES, processes=2)
    with pytest.raises(InputError, match="of your own is read by the process that trains"):
        run(own)


def test_types_and_shapes(data):
    batch = run(dataclasses.replace(data, processes=1), stop_step=1)[0]
    assert {k: (x.dtype.name, x.shape) for k, x in batch.items()} == {
        "image": ("float32", (4, 24, 32, 3)),
        "label": ("int32", (4, 24, 32)),
    }
    assert np.isfinite(batch["image"]).all()
