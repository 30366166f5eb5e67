"""The loop: exact resuming, stopping, what is logged, and what never is."""

import itertools
import json
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from sdnjax.errors import RunError
from sdnjax.training import loop, progress
from sdnjax.training.checkpoints import (
    CheckpointWriter,
    find_checkpoint,
    finished_steps,
    restore_state,
)
from sdnjax.training.feed import Feed
from sdnjax.training.loggers import LoggedRun, TensorBoard, Writers
from sdnjax.training.loop import fit
from sdnjax.training.metrics_log import MetricsLog, read_metrics
from sdnjax.training.optimizer import Optimizer, make_optimizer, schedule_of
from sdnjax.training.sharding import split_by_batch
from sdnjax.training.stopping import Stop, Stopped
from tests.training.test_checkpoints import abstract, assert_same
from tests.training.test_step import mesh_of
from tests.training.tiny import Tiny, batches, recipe_of

OPTIMIZER = make_optimizer(Optimizer(learning_rate=0.05), 20)
MESH = mesh_of(1)
RECIPE = recipe_of(Tiny(), OPTIMIZER, seed=0)
STEP = RECIPE.compiled_step(MESH)


def new_state():
    return RECIPE.new_state(MESH)


def run(workdir, *, source=None, step=STEP, steps=20, **options):
    """Trains in a directory from its latest checkpoint, as a run does."""
    directory = workdir / "checkpoints"
    state = new_state()
    if finished_steps(directory):
        state = restore_state(find_checkpoint(directory), abstract(state))
    start = int(state.step)
    workdir.mkdir(exist_ok=True)
    log = MetricsLog(workdir, start_step=start)
    writer = CheckpointWriter(directory, 3, {})
    options = {"checkpoint_every": 4, "log_every": 3, **options}
    try:
        return fit(
            state,
            step,
            batches(start) if source is None else source(start),
            mesh=MESH,
            steps=steps,
            checkpoints=writer,
            log=log,
            **{"report": lambda line: None, **options},
        )
    finally:
        writer.close()
        log.close()


def interrupting(at, number=signal.SIGINT):
    """A step that sends a signal to this process before step `at` is computed."""

    def step(state, batch):
        if int(state.step) == at:
            os.kill(os.getpid(), number)
        return STEP(state, batch)

    return step


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return run(tmp_path_factory.mktemp("unbroken") / "run", checkpoint_every=20)


@pytest.mark.parametrize(
    ("at", "number"),
    [(0, signal.SIGINT), (6, signal.SIGINT), (7, signal.SIGTERM), (19, signal.SIGINT)],
)
def test_interrupted_and_resumed_is_bitwise_the_unbroken_run(tmp_path, unbroken, at, number):
    stopped = run(tmp_path / "run", step=interrupting(at, number), checkpoint_every=8)
    assert int(stopped.step) == at + 1  # the step at hand is finished and saved
    assert finished_steps(tmp_path / "run" / "checkpoints")[-1] == at + 1
    assert_same(run(tmp_path / "run", checkpoint_every=8), unbroken)


def test_killed_run_goes_on_from_its_last_checkpoint_bitwise(tmp_path, unbroken):
    class Killed(BaseException):
        pass

    def source(start):
        for step, batch in enumerate(batches(start), start=start):
            if step == 11:
                raise Killed
            yield batch

    with pytest.raises(Killed):
        run(tmp_path / "b", source=source)
    assert finished_steps(tmp_path / "b" / "checkpoints") == [4, 8]
    assert_same(run(tmp_path / "b"), unbroken)
    steps = [line["step"] for line in read_metrics(tmp_path / "b")]
    assert steps == sorted(set(steps))  # steps 9 to 11 were not logged twice


def test_interrupted_while_waiting_for_a_batch(tmp_path, unbroken):
    """The signal comes while the main thread waits: the batch comes, its step is the last."""
    waiting = threading.Event()

    def source(start_step):
        for step, batch in enumerate(batches(start_step), start=start_step):
            if step == 6:
                waiting.wait(30)
            yield batch

    def interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        waiting.set()

    def step(state, batch):
        if int(state.step) == 5:
            threading.Timer(0.3, interrupt).start()
        return STEP(state, batch)

    stopped = run(tmp_path / "run", source=source, step=step, checkpoint_every=20)
    assert int(stopped.step) in (6, 7)
    assert_same(run(tmp_path / "run", checkpoint_every=20), unbroken)


def test_signal_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    run(tmp_path / "a", step=interrupting(2))
    assert signal.getsignal(signal.SIGINT) is before


def test_of_several_processes_all_stop_at_the_step_that_they_agree_on(monkeypatch):
    """A signal that one of them got does not stop it before the others. Ctrl-C is handed on as the
    SIGTERM that the runtime's own handler, here a stand-in, waits for."""
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", lambda at: at == 5)
    quiet = {"mesh": MESH, "report": lambda line: None}
    try:
        assert int(fit(new_state(), interrupting(2), batches(), steps=9, **quiet).step) == 5
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]


def test_the_exit_status_tells_what_stopped_a_run():
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)):
        with Stop() as stop:
            os.kill(os.getpid(), number)
            assert stop.asked(0) and stop.status == status


def test_stopped_in_a_validation(tmp_path, unbroken):
    """The state was saved before, the validation ends at once, and is made up for."""
    done = []

    def evaluate(state):
        done.append(int(state.step))
        if done == [4, 8]:
            assert finished_steps(tmp_path / "run" / "checkpoints")[-1] == 8
            os.kill(os.getpid(), signal.SIGTERM)
            raise AssertionError("the signal ends it")
        return {"mIoU": 0.5}

    options = {"evaluate": evaluate, "evaluate_every": 4, "checkpoint_every": 20}
    stopped = run(tmp_path / "run", **options)
    assert int(stopped.step) == 8
    assert [x["step"] for x in read_metrics(tmp_path / "run") if "val" in x] == [4]
    assert_same(run(tmp_path / "run", evaluated=False, **options), unbroken)
    assert done == [4, 8, 8, 12, 16, 20]


def test_stopped_before_the_first_step(tmp_path):
    """Compiling may take minutes, and there is nothing to save."""
    with Stop() as stop, pytest.raises(Stopped):
        run(tmp_path / "run", step=interrupting(0), stop=stop)
    assert stop.status == 130 and not finished_steps(tmp_path / "run" / "checkpoints")


def test_a_second_signal_acts_as_usual(tmp_path):
    def step(state, batch):
        if int(state.step) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return STEP(state, batch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", step=step)


@pytest.mark.parametrize("checkpoint_every", [4, 1])
def test_nan_stops_the_run_names_its_steps_and_saves_nothing_after(tmp_path, checkpoint_every):
    def source(start):
        for step, batch in enumerate(batches(start), start=start):
            if step >= 9:  # the tenth step
                batch["image"][2, 3, 4, 0] = np.nan
            yield batch

    with pytest.raises(RunError, match=r"not finite at step 10.*learning_rate") as error:
        run(tmp_path / "a", source=source, checkpoint_every=checkpoint_every)
    assert "\n" not in str(error.value)
    assert finished_steps(tmp_path / "a" / "checkpoints")[-1] == (8 if checkpoint_every == 4 else 9)


def test_what_is_logged(tmp_path):
    calls = []

    def evaluate(state):
        calls.append(int(state.step))
        return {"mIoU": 0.5}

    run(tmp_path / "a", evaluate=evaluate, evaluate_every=8)
    assert calls == [8, 16, 20]
    lines = read_metrics(tmp_path / "a")
    assert [x["step"] for x in lines if "train" in x] == [3, 6, 9, 12, 15, 18, 20]
    assert [x["step"] for x in lines if "val" in x] == calls
    first = lines[0]["train"]
    assert {"loss", "gradient_norm", "images_per_second", "data_wait_share"} <= set(first)
    assert 0 <= first["data_wait_share"] <= 1
    np.testing.assert_allclose(first["images_per_second"] * first["seconds_per_step"], 8, rtol=1e-6)


def test_next_batch_is_there_before_its_step():
    """In every step of a loop whose data is the faster part: no time is measured."""
    feeds, seen = [], []

    class Watched(Feed):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            feeds.append(self)

    def step(state, batch):
        # A slow step: it lasts until the next batch is on the devices, or fails.
        deadline = time.monotonic() + 30
        while len(seen) < 5 and not feeds[0].ready and time.monotonic() < deadline:
            time.sleep(1e-3)
        seen.append(feeds[0].ready)
        return STEP(state, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "Feed", Watched)
        fit(new_state(), step, batches(), mesh=MESH, steps=6, report=lambda line: None)
    assert seen[:-1] == [1] * 5  # and none is fetched for a step that never comes
    assert seen[-1] == 0


def test_feed_gives_what_it_got_in_order_and_raises_in_its_turn():
    def source():
        yield from itertools.islice(batches(), 3)
        raise ZeroDivisionError

    feed = Feed(source(), MESH, 10, ahead=2)
    for expected in itertools.islice(batches(), 3):
        taken = next(feed)
        np.testing.assert_array_equal(taken["image"], expected["image"])
        assert taken["image"].sharding == split_by_batch(MESH)
    with pytest.raises(ZeroDivisionError):
        next(feed)
    feed.close()
    assert feed.seconds["transfer"] > 0
    feed = Feed(batches(), MESH, 2)
    assert len(list(feed)) == 2
    feed.close()


class Timed:
    """Batches that say what they took."""

    def __init__(self, start):
        self.batches, self.seconds = batches(start), {"decoding": 0.0}

    def __iter__(self):
        return self

    def __next__(self):
        self.seconds["decoding"] += 2.0
        return next(self.batches)


def test_the_first_step_counts_for_no_rate(tmp_path, monkeypatch):
    """Its time is that of compiling; where it is alone it must count."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])

    def step(state, batch):
        now[0] += 100 if int(state.step) == 0 else 1
        return STEP(state, batch)

    def rates(name, log_every):
        (tmp_path / name).mkdir()
        log = MetricsLog(tmp_path / name, start_step=0)
        how = {"report": lambda line: None, "log": log, "log_every": log_every}
        fit(new_state(), step, batches(0), mesh=MESH, steps=6, **how)
        log.close()
        return [x["train"]["seconds_per_step"] for x in read_metrics(tmp_path / name)]

    assert rates("a", 3) == [1, 1]
    np.testing.assert_allclose(rates("b", 1), [100, 1, 1, 1, 1, 1])


def test_learning_rate_and_device_memory_are_logged(tmp_path, monkeypatch):
    peaks = iter(range(1, 99))
    monkeypatch.setattr(progress, "device_memory", lambda: next(peaks) / 2)
    log, lines = MetricsLog(tmp_path, start_step=0), []
    schedule = schedule_of(Optimizer(learning_rate=0.05), 6)
    how = {"log": log, "log_every": 3, "report": lines.append, "learning_rate": schedule}
    fit(new_state(), STEP, batches(0), mesh=MESH, steps=6, **how)
    log.close()
    logged = [x["train"] for x in read_metrics(tmp_path)]
    # Step 3 is made with the rate of t = 2.
    np.testing.assert_allclose([x["learning_rate"] for x in logged], [schedule(2), schedule(5)])
    assert [x["device_memory_gb"] for x in logged] == [0.5, 1.0]
    assert f"lr {float(schedule(2)):.3g}" in lines[1] and "0.5 GB of device memory" in lines[1]


def test_batches_without_a_label_are_shouted_about():
    def void(start):
        for batch in batches(start):
            yield {**batch, "label": np.full_like(batch["label"], 255)}

    for source, expected in ((void, 2), (batches, 0)):
        lines = []
        fit(new_state(), STEP, source(0), mesh=MESH, steps=4, log_every=2, report=lines.append)
        assert sum("no pixel had a label" in line for line in lines) == expected


def test_device_memory_is_the_most_of_any_device(monkeypatch):
    class Device:
        def __init__(self, stats):
            self.memory_stats = lambda: stats

    devices = [{"peak_bytes_in_use": 2e9}, None, {"peak_bytes_in_use": 3e9}]
    monkeypatch.setattr(progress.jax, "local_devices", lambda: [Device(s) for s in devices])
    assert progress.device_memory() == 3
    monkeypatch.setattr(progress.jax, "local_devices", lambda: [Device(None)])
    assert progress.device_memory() is None


def test_a_wait_is_explained_by_what_batches_took(tmp_path, monkeypatch):
    said, lines = [], []
    monkeypatch.setattr(progress, "_TOLERABLE_WAIT", -1.0)

    def explain(seconds):
        said.append(seconds)
        return "because"

    def train(name):
        (tmp_path / name).mkdir()
        log = MetricsLog(tmp_path / name, start_step=0)
        options = {"log": log, "log_every": 3, "explain": explain, "report": lines.append}
        fit(new_state(), STEP, Timed(0), mesh=MESH, steps=6, **options)
        log.close()

    train("a")
    # Two lines of three steps each; the batch ahead may be counted early.
    assert [set(x) for x in said] == [{"decoding", "transfer"}] * 2
    assert 6 <= said[0]["decoding"] <= 8
    assert sum(x["decoding"] for x in said) == 12
    assert lines.pop(0) == "compiling the training step ..."
    assert len(lines) == 2
    assert all("% (because)" in line for line in lines)
    logged = [x["train"]["data_seconds"] for x in read_metrics(tmp_path / "a")]
    np.testing.assert_allclose([x["decoding"] * 3 for x in logged], [x["decoding"] for x in said])
    monkeypatch.setattr(progress, "_TOLERABLE_WAIT", 1.0)
    lines.clear()
    train("b")
    assert len(lines) == 3
    assert not any("because" in line for line in lines)


def test_log_survives_a_line_cut_in_the_middle(tmp_path):
    run = LoggedRun("run", tmp_path, 0, {}, print)
    log = MetricsLog(tmp_path, start_step=0, writers=Writers((TensorBoard(),), run))
    for step in (1, 2, 3):
        log.write(step, {"train": {"loss": 1.0 / step}})
    log.close()
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])
    log = MetricsLog(tmp_path, start_step=1)
    log.write(2, {"train": {"loss": 0.25}})
    log.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    assert any((tmp_path / "tensorboard").iterdir())


def test_a_save_that_fails_ends_the_run_before_the_next_one(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sdnjax.training.checkpoints.write_seal", full)
    done = []

    def step(state, batch):
        time.sleep(0.5)  # the save runs meanwhile
        done.append(1)
        return STEP(state, batch)

    with pytest.raises(RunError, match=r"could not write checkpoint .*No space left.*no earlier"):
        run(tmp_path, step=step, steps=20, checkpoint_every=10)
    assert 10 < len(done) < 20
