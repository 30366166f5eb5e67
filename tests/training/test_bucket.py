"""Checkpoints, scores and metrics in a bucket, as on a disk."""

import json

import jax
import numpy as np
import pytest

from sdnjax.errors import InputError
from sdnjax.training import copies, metrics_log
from sdnjax.training.best import history
from sdnjax.training.checkpoints import (
    SEAL,
    CheckpointWriter,
    _items_of,
    abstract_variables,
    find_checkpoint,
    finished_steps,
    restore_latest,
    restore_state,
)
from sdnjax.training.loggers import LoggedRun, TensorBoard, Writers
from sdnjax.training.metrics_log import MetricsLog, read_metrics
from sdnjax.training.seal import write_seal
from sdnjax.training.sharding import data_mesh, split_by_batch
from tests.bucket import MemoryBucket, bucket  # noqa: F401  (a fixture)
from tests.training.test_checkpoints import abstract, assert_same, state_at, write
from tests.training.tiny import Tiny, recipe_of


@pytest.fixture(autouse=True)
def other_process():
    """Copies of one test do not serve another, nor the reader the writer's."""
    copies._copies.cache_clear()


def test_what_was_saved_comes_back_on_any_devices(bucket):  # noqa: F811
    write(bucket / "checkpoints", 3, 5, 7, keep=2)
    assert finished_steps(bucket / "checkpoints") == [5, 7]
    assert not (bucket / "checkpoints" / "3").exists()
    for devices in (1, 8):
        path = find_checkpoint(bucket / "checkpoints")
        assert_same(restore_state(path, abstract(state_at(0), devices)), state_at(7, seed=7))
    assert set(abstract_variables(path)) == {"params", "batch_stats"}


def test_a_step_is_replaced_as_a_whole(bucket):  # noqa: F811
    write(bucket / "c", 3)
    (bucket / "c" / "3" / "params" / "stray").write_text("of another time")
    writer = CheckpointWriter(bucket / "c", 2, {})
    writer.save(state_at(3, seed=9))
    writer.close()
    assert not (bucket / "c" / "3" / "params" / "stray").exists()
    assert_same(restore_state(find_checkpoint(bucket / "c"), abstract(state_at(0))), state_at(3, 9))


def test_an_upload_that_is_cut_off_counts_as_absent(bucket, monkeypatch):  # noqa: F811
    write(bucket / "c", 3)
    put = MemoryBucket.put_file
    sent = []

    def fail(self, source, target, **how):
        sent.append(target)
        if len(sent) > 4:
            raise OSError("connection lost")
        return put(self, source, target, **how)

    monkeypatch.setattr(MemoryBucket, "put_file", fail)
    writer = CheckpointWriter(bucket / "c", 2, {})
    writer.save(state_at(5))
    with pytest.raises(Exception, match=r"connection lost\); step 3 is safe"):
        writer.close()
    assert finished_steps(bucket / "c") == [3]


def test_a_damaged_one_is_named_by_its_url_and_the_one_before_is_taken(bucket):  # noqa: F811
    write(bucket / "c", 3, 5)
    name = max(
        (n for n in MemoryBucket.store if "/c/5/params/" in n),
        key=lambda n: MemoryBucket.store[n].size,
    )
    content = bytearray(MemoryBucket.store[name].getvalue())
    content[len(content) // 2] ^= 255
    (bucket / name.removeprefix("/bucket/")).write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"checkpoint s3://bucket/c/5 is damaged: .*has changed"):
        restore_state(find_checkpoint(bucket / "c"), abstract(state_at(0)))
    copies._copies.cache_clear()
    said = []
    state = restore_latest(bucket / "c", abstract(state_at(0)), report=said.append)
    assert_same(state, state_at(3, seed=3))
    assert "s3://bucket/c/5" in said[0]
    assert finished_steps(bucket / "c") == [3]
    assert (bucket / "c" / "5" / f"{SEAL}.damaged").exists()


def test_a_missing_object_is_damage(bucket):  # noqa: F811
    write(bucket / "c", 3)
    next(p for p in (bucket / "c" / "3" / "params").iterdir() if not p.is_dir()).unlink()
    with pytest.raises(InputError, match=r"params/.* is missing; train anew"):
        restore_state(find_checkpoint(bucket / "c"), abstract(state_at(0)))


def test_metrics_are_there_before_the_checkpoint_and_not_at_every_line(bucket):  # noqa: F811
    told = []
    run = LoggedRun("run", bucket, 0, {}, told.append)
    log = MetricsLog(bucket, start_step=0, writers=Writers((TensorBoard(),), run))
    assert "no TensorBoard files" in told[0]
    for step in (1, 2, 3):
        log.write(step, {"loss": 1.0})
    assert [x["step"] for x in read_metrics(bucket)] == [1]
    log.save()
    assert [x["step"] for x in read_metrics(bucket)] == [1, 2, 3]
    log.write(4, {"val": {"mIoU": 0.5}})
    assert read_metrics(bucket)[-1]["step"] == 4
    log.write(5, {"loss": 1.0})
    log.close()
    assert read_metrics(bucket)[-1]["step"] == 5
    assert not (bucket / "tensorboard").exists()
    log = MetricsLog(bucket, start_step=2)
    log.write(3, {"loss": 2.0})
    log.close()
    assert [x["step"] for x in read_metrics(bucket)] == [1, 2, 3]


def test_uploads_of_metrics_take_a_bounded_share_of_the_time(bucket, monkeypatch):  # noqa: F811
    clock = [0.0]
    monkeypatch.setattr(metrics_log.time, "monotonic", lambda: clock[0])
    log = MetricsLog(bucket, start_step=0)
    uploads = []
    path = type(log._file._path)
    write_text = path.write_text

    def slow(self, text):
        uploads.append(clock[0])
        clock[0] += 5.0
        return write_text(self, text)

    monkeypatch.setattr(path, "write_text", slow)
    for step in range(1000):
        log.write(step, {"loss": 1.0})
        clock[0] += 1.0
    assert len(uploads) * 5.0 <= 0.06 * clock[0]
    assert len(uploads) >= 8


def test_one_of_several_writes_in_a_process_of_its_own(tmp_path, monkeypatch):
    import optax

    state = recipe_of(Tiny(), optax.chain(optax.clip(1.0), optax.adamw(1e-3))).init_state()
    items = copies.on_host(_items_of(state))
    copies.WrittenApart(tmp_path / "7", items).result()
    write_seal(tmp_path / "7", {})
    assert_same(restore_state(tmp_path / "7", abstract(state, 8)), state)
    monkeypatch.setattr(copies, "_WRITE", "raise OSError('disk full')")
    with pytest.raises(OSError, match=r"OSError: disk full"):
        copies.WrittenApart(tmp_path / "8", items).result()


def test_what_is_split_is_put_together():
    mesh = data_mesh(8)
    array = np.arange(16.0, dtype=np.float32)
    split = jax.device_put(array, split_by_batch(mesh))
    whole = copies.on_host({"a": split, "b": np.int32(3)})
    assert isinstance(whole["a"], np.ndarray)
    np.testing.assert_array_equal(whole["a"], array)
    assert whole["b"] == 3


def test_scores_of_validations(bucket):  # noqa: F811
    record = {"name": "mIoU", "highest": True}
    scores = [{"step": 2, "score": 0.5}]
    (bucket / "best" / "scores.json").write_text(json.dumps({**record, "scores": scores}))
    assert history(bucket / "best", record) == scores
