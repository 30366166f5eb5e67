"""Looking at S: known cases have known areas under ROC."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from PIL import Image

from sdnjax.commands.similarities import area_under_roc, at_boundary, similarities
from sdnjax.commands.trained import Trained
from sdnjax.errors import InputError
from tests.commands.conftest import *  # noqa: F403 (the miniature camvid)
from tests.studies import tiny_study


def test_area_under_roc_is_the_share_of_pairs_in_order():
    scores, positive = np.array([3.0, 1, 2, 2]), np.array([True, False, True, False])
    # 3 > 1, 3 > 2, 2 > 1, and 2 = 2 counts half.
    assert area_under_roc(scores, positive) == 3.5 / 4
    assert area_under_roc(-scores, positive) == 0.5 / 4
    assert np.isnan(area_under_roc(scores, np.ones(4, bool)))


def test_boundaries_and_void():
    label = np.zeros((4, 7), np.uint8)
    label[:, 3:], label[0, 6] = 2, 255
    boundary, known = at_boundary(label)
    assert boundary[2].tolist() == [False, False, True, True, False, False, False]
    assert known[:2, 5:].tolist() == [[False, False], [False, False]]
    assert known.sum() == label.size - 4


def trained(camvid, network):
    base = tiny_study.study().base
    base = dataclasses.replace(
        base, model=network, data=dataclasses.replace(base.data, dir=str(camvid))
    )
    recipe = base.build(11)
    variables = jax.jit(lambda: recipe.init_state().variables)()
    return Trained(base, recipe.network, variables, tuple("abcdefghijk"), (), 0)


def test_the_oracle_knows_every_boundary(camvid, tmp_path):
    for file in (camvid / "valannot").iterdir():
        h, w = np.asarray(Image.open(file)).shape
        blocks = np.zeros((h, w), np.uint8)
        blocks[:, w // 2 :] = 3
        Image.fromarray(blocks).save(file)
    runs = {
        "oracle": trained(camvid, tiny_study.with_oracle),
        "sdc": trained(camvid, tiny_study.with_sdc),
    }
    lines = []
    found = similarities(runs, tmp_path / "out", report=lines.append)
    oracle = found["oracle"]["neck/sdn1"]
    assert oracle["auc"] == 1.0
    assert oracle["inside"]["mean"] == 1.0
    assert found["sdc"]["neck/sdn1"]["auc"] < 1.0
    assert sum(oracle["boundary"]["histogram"]) == oracle["boundary"]["pixels"] > 0
    assert json.loads((tmp_path / "out" / "similarities.json").read_text()) == found
    with pytest.raises(InputError, match="plain: network has no SDC"):
        similarities({"plain": trained(camvid, tiny_study.network)}, tmp_path)
