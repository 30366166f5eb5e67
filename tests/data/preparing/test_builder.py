import unittest

import numpy as np
import pytest
import tensorflow_datasets as tfds

from sdnjax.data.data_settings import Data
from sdnjax.data.preparing import builder
from sdnjax.data.preparing.builder import builder_class
from sdnjax.data.preparing.prepare import prepare
from sdnjax.data.sets import DATA_SETS
from sdnjax.data.sources import open_source

# Of a user's own nothing is known beforehand.
AVAILABLE = [name for name, data_set in DATA_SETS.items() if not data_set.is_own]


@pytest.mark.parametrize("name", AVAILABLE)
def test_facts_are_complete(name, tmp_path):
    data_set = DATA_SETS[name]
    cls = builder_class(data_set)
    assert cls.name == name
    assert str(cls.VERSION) == data_set.version == "1.0.0"
    info = cls(data_dir=tmp_path).info
    assert len(info.description) > 100
    assert info.redistribution_info.license
    assert set(info.features) == {"image", "label", "name"}
    if name != "shapes":
        assert info.homepage.startswith("http")
        assert info.citation.startswith("@")
        assert data_set.expected in cls.MANUAL_DOWNLOAD_INSTRUCTIONS


def test_all_can_be_prepared():
    assert all(data_set.version for data_set in DATA_SETS.values())
    assert set(DATA_SETS) - {"folder"} == set(AVAILABLE)


def test_they_are_not_registered(tmp_path):
    """TFDS has data sets of its own of these names, and raises when one is taken twice."""
    before = set(tfds.core.registered.list_imported_builders())
    for name in AVAILABLE:
        builder_class(DATA_SETS[name])
    assert set(tfds.core.registered.list_imported_builders()) == before


@pytest.mark.parametrize("limit", [1, 6000, 10**9])
def test_shards_keep_the_order(camvid_dir, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(builder, "_SHARD_BYTES", limit)
    prepare("camvid", tmp_path, camvid_dir, partial=True, progress=False)
    info = tfds.builder_from_directory(tmp_path / "camvid" / "1.0.0").info
    lengths = info.splits["train"].shard_lengths
    assert sum(lengths) == 7
    assert min(lengths) > 0
    if limit != 6000:
        assert len(lengths) == (7 if limit == 1 else 1)
    else:
        assert 1 < len(lengths) < 7
    source = open_source(Data(name="camvid", dir=str(tmp_path)), "train")
    assert [source.name(k) for k in range(7)] == [f"train_{k:03d}" for k in range(7)]
    folder = open_source(Data(name="camvid", dir=str(camvid_dir)), "train")
    for k in range(7):
        np.testing.assert_array_equal(source[k].label, folder[k].label)


@pytest.fixture(scope="module")
def tfds_test():
    """TFDS's own test of builders, for CamVid on miniature data.

    It reads through tf.data, which has no reader for ArrayRecord, hence TFRecord here.
    """
    pytest.importorskip("dill", reason="TFDS's tests need dill")

    class CamVidTest(tfds.testing.DatasetBuilderTestCase):
        DATASET_CLASS = builder_class(DATA_SETS["camvid"])
        SPLITS = {"train": 7, "val": 4}  # noqa: RUF012 (TFDS's own style)

        def _make_builder(self, config=None):
            return self.DATASET_CLASS(data_dir=self.tmp_dir, config=config, file_format="tfrecord")

    return CamVidTest


def test_tfds_own_test_of_builders(tfds_test, camvid_dir):
    tfds_test.EXAMPLE_DIR = camvid_dir
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(tfds_test)
    result = unittest.TestResult()
    suite.run(result)
    # The one that we leave out on purpose, see `test_they_are_not_registered`.
    wrong = {test.id().rpartition(".")[2]: text for test, text in result.failures + result.errors}
    assert set(wrong) == {"test_registered"}, wrong
    assert result.testsRun >= 5
