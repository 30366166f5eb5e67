"""An error of Orbax's threads is known before they have met the other processes."""

import logging
import threading
import types
from concurrent.futures import Future

import pytest
from orbax.checkpoint._src.checkpointers import async_checkpointer

from sdnjax.errors import RunError
from sdnjax.training.checkpoints import CheckpointWriter
from sdnjax.training.failed_saves import FailedSaves
from sdnjax.training.optimizer import Optimizer, make_optimizer
from tests.training.tiny import Tiny, recipe_of


@pytest.fixture
def failed_saves():
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # as our commands set it
    saves = FailedSaves()
    yield saves
    saves.close()
    assert logger.level == logging.CRITICAL
    assert saves not in logger.filters
    logger.setLevel(before)


class Full:
    """What Orbax waits for of one array: its disk is full."""

    def result(self, timeout=None):
        raise OSError(28, "No space left on device")


def test_orbax_logs_the_error_of_its_thread(failed_saves, tmp_path, caplog):
    """Its own manager of background saves: if it stops logging, nothing is seen."""
    manager = async_checkpointer._AsyncManager(
        barrier_sync_fn=lambda **how: None, timeout_secs=60, primary_host=0
    )
    manager.start_async_commit(tmp_path, [Full()], lambda: None)
    manager._thread.join()
    assert isinstance(failed_saves.first, OSError)
    assert not caplog.records  # it is reported by whom it stops

    hangs = Future()  # at a barrier
    with pytest.raises(OSError, match="No space left"):
        failed_saves.result(hangs)


def test_a_save_that_ends_is_waited_for(failed_saves):
    written = Future()
    threading.Timer(1.2, written.set_result, [None]).start()
    failed_saves.result(written)
    assert written.done()


def test_a_timeout_of_the_save_itself_is_its_error(failed_saves):
    written = Future()
    written.set_exception(TimeoutError("barrier"))
    with pytest.raises(TimeoutError, match="barrier"):
        failed_saves.result(written)


def test_of_several_processes_a_writer_waits_for_no_save_that_failed(tmp_path, monkeypatch):
    with monkeypatch.context() as several:
        two = types.SimpleNamespace(process_count=lambda: 2)
        several.setattr("sdnjax.training.checkpoints.jax", two)
        writer = CheckpointWriter(tmp_path, 1, {})
    met = threading.Event()  # the other process
    monkeypatch.setattr(writer, "_finish", lambda step, response: met.wait())
    try:
        writer.save(recipe_of(Tiny(), make_optimizer(Optimizer(), 9)).init_state())
        writer.check()
        writer._errors.first = OSError(28, "No space left on device")
        with pytest.raises(RunError, match="No space left"):
            writer.check()
        writer.close()
    finally:
        met.set()
