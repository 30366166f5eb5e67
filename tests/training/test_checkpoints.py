"""Checkpoints: exact, on any devices, and never trusted when damaged."""

import dataclasses
import json
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.errors import InputError, RunError
from sdnjax.training import checkpoints
from sdnjax.training.checkpoints import (
    SEAL,
    CheckpointWriter,
    describe,
    find_checkpoint,
    finished_steps,
    load_items,
    restore_latest,
    restore_state,
)
from sdnjax.training.optimizer import Optimizer, make_optimizer
from sdnjax.training.sharding import replicated
from sdnjax.training.state import create_state
from tests.training.test_step import mesh_of
from tests.training.tiny import Tiny, recipe_of

OPTIMIZER = make_optimizer(Optimizer(), 10)


def state_at(step, seed=0):
    state = recipe_of(Tiny(), OPTIMIZER, seed=seed).init_state()
    return dataclasses.replace(state, step=state.step + step)


def abstract(state, devices=1):
    sharding = replicated(mesh_of(devices))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def write(directory, *steps, keep=5):
    writer = CheckpointWriter(directory, keep, {"classes": ["a", "b"]})
    for step in steps:
        writer.save(state_at(step, seed=step))
    writer.close()


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)
        assert x.dtype == y.dtype


def largest_file(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_a_network_without_batch_norm(tmp_path):
    state = dataclasses.replace(state_at(2), batch_stats={})
    writer = CheckpointWriter(tmp_path, 1, {})
    writer.save(state)
    writer.close()
    restored = restore_state(find_checkpoint(tmp_path), abstract(state))
    assert restored.batch_stats == {}
    assert_same(restored, state)
    with pytest.raises(InputError, match=r"batch_stats/BatchNorm_0/mean is missing there"):
        restore_state(find_checkpoint(tmp_path), abstract(state_at(0)))


@pytest.mark.parametrize("devices", [1, 8])
def test_round_trip_is_bitwise_on_any_devices(tmp_path, devices):
    write(tmp_path, 3)
    restored = restore_state(find_checkpoint(tmp_path), abstract(state_at(0), devices))
    assert_same(restored, state_at(3, seed=3))
    assert len(jax.tree.leaves(restored.params)[0].sharding.device_set) == devices


def test_parameters_load_alone(tmp_path):
    write(tmp_path, 3)
    wanted = abstract(state_at(0)).variables
    path = find_checkpoint(tmp_path)
    largest_file(path / "training").unlink()  # nothing of the optimizer is looked at
    assert_same(load_items(path, wanted), state_at(3, seed=3).variables)
    assert describe(path)["classes"] == ["a", "b"]


def test_latest_and_named_steps_and_how_many_are_kept(tmp_path):
    write(tmp_path, 1, 2, 5, 9, keep=2)
    assert finished_steps(tmp_path) == [5, 9]
    assert find_checkpoint(tmp_path).name == "9"
    assert find_checkpoint(tmp_path, 5).name == "5"
    with pytest.raises(InputError, match=r"no checkpoint of step 2 .* it has 5, 9"):
        find_checkpoint(tmp_path, 2)
    with pytest.raises(InputError, match="train first"):
        find_checkpoint(tmp_path / "none")


def test_unfinished_checkpoint_counts_as_absent_and_is_replaced(tmp_path):
    write(tmp_path, 1, 2)
    (tmp_path / "2" / SEAL).unlink()
    assert find_checkpoint(tmp_path).name == "1"
    write(tmp_path, 2)
    assert finished_steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("damage", ["cut", "gone", "flipped", "seal"])
def test_damage_is_one_line_that_names_the_file_and_the_way_out(tmp_path, damage):
    write(tmp_path, 1, 2)
    path = tmp_path / "2"
    file = largest_file(path / "params")
    data = file.read_bytes()
    if damage == "cut":
        file.write_bytes(data[: len(data) // 2])
    elif damage == "gone":
        file.unlink()
    elif damage == "flipped":
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    else:
        (path / SEAL).write_text(json.dumps({"files": {}})[:-3])
    with pytest.raises(InputError) as error:
        restore_state(find_checkpoint(tmp_path), abstract(state_at(0)))
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    if damage == "seal":
        assert SEAL in message
    else:
        assert file.name in message
        assert "go on from step 1" in message
    if damage == "cut":
        assert f"{len(data) // 2} of {len(data)} bytes" in message


def test_another_network_does_not_fit(tmp_path):
    write(tmp_path, 1)
    other = recipe_of(Tiny(num_classes=4), OPTIMIZER).init_state()
    expected = r"does not fit .*: params/Classifier_0/seg/bias is \(3,\) .* \(4,\).*\(4 tensor"
    with pytest.raises(InputError, match=expected):
        restore_state(find_checkpoint(tmp_path), abstract(other))


def test_failed_write_names_the_step_that_is_safe(tmp_path, monkeypatch):
    write(tmp_path, 1)
    writer = CheckpointWriter(tmp_path, 5, {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sdnjax.training.seal._digest", full)
    writer.save(state_at(2))
    with pytest.raises(RunError, match=r"No space left on device.*step 1 is safe"):
        writer.wait()
    writer.close()
    assert finished_steps(tmp_path) == [1]


def test_a_checkpoint_whose_decoder_held_the_classifier(tmp_path):
    """Parameters and the optimizer's momentum of an older layout go to their new places."""

    def tree(seed, *, old):
        rng = np.random.default_rng(seed)
        conv, seg = (rng.normal(size=(3, 2)).astype(np.float32) for _ in range(2))
        inner = {"classifier": {"seg": {"kernel": seg}}}
        decoder = {"conv1": {"kernel": conv}}
        return {"decoder": {**decoder, **inner}} if old else {"decoder": decoder, **inner}

    def state(*, old):
        params = jax.tree.map(jnp.asarray, tree(0, old=old))
        fresh = create_state({"params": params}, OPTIMIZER)
        trace = iter(jax.tree.leaves(tree(1, old=True)) if old else jax.tree.leaves(params))
        structure = jax.tree.structure(params)
        moved = jax.tree.map(
            lambda node: (
                jax.tree.unflatten(structure, list(trace)) if isinstance(node, dict) else node
            ),
            fresh.opt_state,
            is_leaf=lambda node: isinstance(node, dict),
        )
        return fresh.replace(opt_state=moved)

    writer = CheckpointWriter(tmp_path, 1, {})
    writer.save(state(old=True))
    writer.close()
    found = restore_state(find_checkpoint(tmp_path), abstract(state(old=False)))
    assert_same(found.params, tree(0, old=False))
    (momentum,) = [
        node
        for node in jax.tree.leaves(found.opt_state, is_leaf=lambda x: isinstance(x, dict))
        if isinstance(node, dict)
    ]
    # The classifier's and the convolution's are told apart by their numbers, not their shapes.
    old = tree(1, old=True)["decoder"]
    np.testing.assert_array_equal(momentum["decoder"]["conv1"]["kernel"], old["conv1"]["kernel"])
    kernel = old["classifier"]["seg"]["kernel"]
    np.testing.assert_array_equal(momentum["classifier"]["seg"]["kernel"], kernel)


def test_a_checkpoint_counts_as_soon_as_it_is_written(tmp_path):
    """Also the only one that is kept: the one before goes when its successor is sealed."""
    writer = CheckpointWriter(tmp_path, 1, {})
    for step in (4, 8):
        writer.save(state_at(step))
        writer.wait()  # as long as nothing else is asked of it
        assert finished_steps(tmp_path) == [step]
    writer.save(state_at(12))
    deadline = time.monotonic() + 30
    while finished_steps(tmp_path) != [12] and time.monotonic() < deadline:
        assert finished_steps(tmp_path) in ([8], [8, 12])
        time.sleep(0.01)
    assert finished_steps(tmp_path) == [12]  # nobody has waited
    writer.close()


def test_until_the_new_one_is_sealed_the_old_one_stays(tmp_path, monkeypatch):
    write(tmp_path, 1, keep=1)
    released = threading.Event()
    seal = checkpoints.write_seal
    monkeypatch.setattr(checkpoints, "write_seal", lambda *a: released.wait(30) and seal(*a))
    writer = CheckpointWriter(tmp_path, 1, {})
    writer.save(state_at(2))
    while not (tmp_path / "2").is_dir():
        time.sleep(0.01)
    assert finished_steps(tmp_path) == [1]
    released.set()
    writer.close()
    assert finished_steps(tmp_path) == [2]


def test_no_flipped_bit_of_the_seal_is_taken_for_true(tmp_path):
    write(tmp_path, 1)
    path = tmp_path / "1" / SEAL
    whole = path.read_bytes()
    described = describe(tmp_path / "1")
    rng = np.random.default_rng(0)
    for place, bit in zip(rng.integers(0, len(whole), 300), rng.integers(0, 8, 300), strict=True):
        changed = bytearray(whole)
        changed[place] ^= 1 << bit
        path.write_bytes(changed)
        try:
            found = describe(tmp_path / "1")
        except InputError as error:
            assert SEAL in str(error)
        else:
            assert found == described  # such as one kind of white space for another
    for text in ("{}", "[]", '{"description": {}, "files": {}}', "[" * 5000, "", "null"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"sdnjax\.json is damaged"):
            describe(tmp_path / "1")
        with pytest.raises(InputError, match=r"sdnjax\.json is damaged"):
            load_items(tmp_path / "1", abstract(state_at(0)).variables)


def test_a_seal_of_an_earlier_version_has_no_digest(tmp_path):
    write(tmp_path, 1)
    path = tmp_path / "1" / SEAL
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))
    assert_same(restore_state(tmp_path / "1", abstract(state_at(0))), state_at(1, seed=1))


def test_damage_of_the_latest_step_falls_back_with_a_loud_line(tmp_path):
    write(tmp_path, 1, 2, 3)
    largest_file(tmp_path / "3" / "training").write_bytes(b"x")
    (tmp_path / "2" / SEAL).write_text("{}")
    lines = []
    state = restore_latest(tmp_path, abstract(state_at(0)), report=lines.append)
    assert_same(state, state_at(1, seed=1))
    assert [line.split(":")[0] for line in lines] == ["WARNING", "WARNING"]
    assert "3 is damaged" in lines[0] and "2: sdnjax.json is damaged" in lines[1]
    # They are out of the way of the run that comes to these steps again, and not deleted.
    assert finished_steps(tmp_path) == [1]
    assert {p.name for p in tmp_path.iterdir()} >= {"2.damaged", "3.damaged"}
    write(tmp_path, 2)
    assert finished_steps(tmp_path) == [1, 2]
    for step in (1, 2):
        (tmp_path / str(step) / SEAL).write_text("{}")
    with pytest.raises(InputError, match=r"/2: sdnjax\.json is damaged"):
        restore_latest(tmp_path, abstract(state_at(0)), report=lines.append)
    assert finished_steps(tmp_path) == [1, 2]


def test_inference_does_without_what_only_training_needs(tmp_path):
    write(tmp_path, 1)
    path = find_checkpoint(tmp_path)
    for file in (path / "training").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    wanted = abstract(state_at(0)).variables
    assert_same(load_items(path, wanted), state_at(1, seed=1).variables)
