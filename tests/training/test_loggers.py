"""Loggers: what they are told, that a run goes on in them, and that they never stop one.

`wandb` and `mlflow` are stand-ins, which know what the library calls and refuse what theirs do.
"""

import dataclasses
import json
import re
import sys
import types

import pytest

from sdnjax.commands.train import _log as log_of
from sdnjax.commands.train import train
from sdnjax.commands.workdir import open_workdir
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.settings import to_dict
from sdnjax.training.loggers import LoggedRun, MLflow, TensorBoard, WandB, Writers
from sdnjax.training.metrics_log import MetricsLog, read_metrics
from tests.bucket import bucket  # noqa: F401
from tests.commands.conftest import camvid  # noqa: F401
from tests.commands.test_train import experiment


@pytest.fixture
def wandb(monkeypatch):
    """Runs by id: the arguments of each `init`, and rows."""
    runs = {}

    class Run:
        def __init__(self, id):
            self.rows = runs[id]["rows"]
            self.metrics = {}

        def define_metric(self, name, step_metric=None):
            self.metrics[name] = step_metric

        def log(self, values):
            assert self.metrics["*"] == "step"
            self.rows.append(values)

        def finish(self):
            self.rows.append("finished")

    def init(*, id, resume, config, **how):
        assert resume == "allow"
        json.dumps(config)
        runs.setdefault(id, {"starts": [], "rows": []})["starts"].append({**how, "config": config})
        return Run(id)

    install(monkeypatch, "wandb", init=init)
    return runs


@pytest.fixture
def mlflow(monkeypatch):
    runs = {}

    class Client:
        def __init__(self, tracking_uri):
            assert tracking_uri == "here"

        def get_experiment_by_name(self, name):
            return None

        def create_experiment(self, name):
            return name

        def create_run(self, experiment, run_name):
            id = f"run{len(runs)}"
            runs[id] = {"name": (experiment, run_name), "params": {}, "metrics": [], "status": []}
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=id))

        def update_run(self, id, status):
            runs[id]["status"].append(status)

        def log_batch(self, id, metrics=(), params=()):
            assert len(metrics) <= 1000 and len(params) <= 100
            for param in params:
                assert len(param.value) <= 500 and runs[id]["params"].get(param.key) in (
                    None,
                    param.value,
                )
                runs[id]["params"][param.key] = param.value
            assert all(re.fullmatch(r"[\w\-. /]+", x.key) for x in [*metrics, *params])
            runs[id]["metrics"] += metrics

        def set_terminated(self, id):
            runs[id]["status"].append("FINISHED")

    entities = types.SimpleNamespace(
        Metric=dataclasses.make_dataclass("Metric", ["key", "value", "timestamp", "step"]),
        Param=dataclasses.make_dataclass("Param", ["key", "value"]),
    )
    install(monkeypatch, "mlflow", entities=entities)
    install(monkeypatch, "mlflow.tracking", MlflowClient=Client)
    return runs


def install(monkeypatch, name, **contents):
    module = types.ModuleType(name)
    module.__spec__ = types.SimpleNamespace()  # `find_spec` asks for it
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def steps_of(rows):
    return [row["step"] for row in rows if isinstance(row, dict)]


def test_a_run_goes_on_where_it_was_logged(tmp_path, wandb, mlflow):
    loggers = (WandB(project="p", tags=("a",)), MLflow("e", tracking_uri="here"))
    own = Experiment(name="name", steps=2, tensorboard=False, loggers=loggers)
    open_workdir(tmp_path / "run", own)
    for start, steps in ((0, (1, 2)), (1, (2, 3))):
        now = dataclasses.replace(own, steps=steps[-1])
        log = log_of(now, tmp_path / "run", start, print)
        for step in steps:
            log.write(step, {"train": {"loss": 1 / step}})
        log.write(steps[-1], {"val": {"boundary_f": {"1px,": 0.5}}})
        log.close()
    (online,) = wandb.values()
    assert steps_of(online["rows"]) == [1, 2, 2, 2, 3, 3] and online["rows"][-1] == "finished"
    assert {s["project"] for s in online["starts"]} == {"p"}
    assert [s["config"]["steps"] for s in online["starts"]] == [2, 3]
    assert online["starts"][0]["dir"] == str(tmp_path / "run")
    (served,) = mlflow.values()
    assert served["status"] == ["FINISHED", "RUNNING", "FINISHED"]
    assert served["name"] == ("e", "name") and served["params"]["steps"] == "2"
    logged = {(x.step, x.key): x.value for x in served["metrics"]}
    assert logged[1, "train/loss"] == 1 and logged[3, "val/boundary_f/1px_"] == 0.5
    assert [x["step"] for x in read_metrics(tmp_path / "run")] == [1, 2, 3, 3]
    # Anew, it is another run.
    open_workdir(tmp_path / "run", own, overwrite=True)
    assert LoggedRun("name", tmp_path / "run", 0, {}, print).identity("wandb") is None


class Failing:
    """Its constructor, its third line or its end fails."""

    def __init__(self, run, at):
        self.at = at
        self.fail("start")

    def write(self, step, values):
        self.fail(step)

    def close(self):
        self.fail("end")

    def fail(self, where):
        if where == self.at:
            raise ConnectionError("no network")


@pytest.mark.parametrize("at", ["start", 2, "end"])
def test_a_logger_that_fails_is_left_out_with_one_line(tmp_path, at):
    said, taken = [], []

    class Good(Failing):
        def __init__(self, run):
            super().__init__(run, None)

        def write(self, step, values):
            taken.append((step, values))

    def broken(run):
        return Failing(run, at)

    run = LoggedRun("name", tmp_path, 0, {}, said.append)
    log = MetricsLog(tmp_path, start_step=0, writers=Writers((broken, Good), run))
    for step in (1, 2, 3, 4):
        log.write(step, {"train": {"loss": 1.0, "per_class": [1]}})
    log.close()
    assert said == [
        "broken failed and is left out from here on (no network); metrics.jsonl has everything"
    ]
    assert taken == [(step, {"train/loss": 1.0}) for step in (1, 2, 3, 4)]
    assert [x["step"] for x in read_metrics(tmp_path)] == [1, 2, 3, 4]


def test_a_missing_package_is_told_before_anything_is_written(camvid, tmp_path, monkeypatch):  # noqa: F811
    find = sys.modules["importlib.util"].find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "wandb" else find(name, *a)
    )
    own = experiment(camvid, loggers=(WandB(),))
    with pytest.raises(InputError, match=r"pip install 'sdnjax\[wandb\]'"):
        train(own, tmp_path / "run", report=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_the_switch_of_tensorboard_and_the_logger_are_one():
    both = Experiment(loggers=(TensorBoard(), WandB()))
    assert both.all_loggers == (TensorBoard(), WandB())
    assert Experiment().all_loggers == (TensorBoard(),)
    assert dataclasses.replace(both, tensorboard=False).all_loggers == (WandB(),)


def test_work_directories_know_their_loggers_and_earlier_ones_had_none():
    own = Experiment(loggers=(TensorBoard(), WandB(project="p")))
    assert experiment_from_dict(json.loads(json.dumps(to_dict(own)))) == own
    old = to_dict(own)
    del old["loggers"]
    assert experiment_from_dict(old).loggers == ()


def test_identities_in_a_bucket(bucket):  # noqa: F811
    run = LoggedRun("name", bucket, 0, {}, print)
    assert run.identity("wandb") is None
    run.remember("wandb", "x")
    run.remember("mlflow", "y")
    assert (run.identity("wandb"), run.identity("mlflow")) == ("x", "y")
    (bucket / "loggers.json").write_text("{damaged")
    assert run.identity("wandb") is None
