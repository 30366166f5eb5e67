"""Work directories as train.py and eval.py leave them, without training; a page as its parts."""

import json
from html.parser import HTMLParser

import numpy as np

from sdnjax.commands.evaluate import write_confusion
from sdnjax.experiment import Experiment
from sdnjax.metrics import SegmentationMetrics
from sdnjax.models import Model
from sdnjax.settings import to_dict

CLASSES = ("road", "<b>sky</b>", "tree & bush")


def work_directory(path, *, seed=0, validations=3, evaluated=True, classes=CLASSES, **changes):
    """A run of `validations` times ten steps."""
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    model = Model("fcn_r18-d8")  # which is traced quickly
    own = Experiment(name=path.name, model=model, steps=10 * validations, **changes)
    (path / "config.json").write_text(json.dumps(to_dict(own)))
    start = {
        "time": "2026-01-02T03:04:05+0000",
        "command": ["train.py", "<script>alert(1)</script>"],
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "devices": ["cpu", "cpu"],
        "processes": 1,
        "git_commit": "0123abc",
    }
    (path / "runs.json").write_text(json.dumps([start]))
    lines = []
    for i in range(validations):
        loss = {"loss": 2.0 - 0.25 * i, "loss_auxiliary": 0.5, "gradient_norm": 1.0}
        rates = {"seconds_per_step": 0.5, "images_per_second": 16.0, "learning_rate": 0.1 / (i + 1)}
        lines.append({"step": 10 * i + 10, "train": {**loss, **rates, "device_memory_gb": 2.5}})
        metrics = scores(rng, len(classes))
        lines.append({"step": 10 * i + 10, "val": metrics.compute()})
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if evaluated:
        write_evaluation(path, own, metrics, classes)
    return path


def scores(rng, count):
    metrics = SegmentationMetrics.empty(count, boundary_thresholds=(1, 3))
    label = rng.integers(0, count, (12, 12))
    prediction = np.where(rng.random((12, 12)) < 0.7, label, rng.integers(0, count, (12, 12)))
    return metrics.update(label, prediction)


def write_evaluation(path, own, metrics, classes, *, name="val_30_whole", step=30):
    record = {"split": "val", "step": step, "classes": list(classes), "data": {}}
    record |= {"evaluation": to_dict(own.evaluation), "results": metrics.compute()}
    (path / "evaluation").mkdir(exist_ok=True)
    (path / "evaluation" / f"{name}.json").write_text(json.dumps(record))
    file = path / "evaluation" / f"{name}_confusion.csv"
    write_confusion(file, metrics["MeanIoU"].confusion, classes)


class Page(HTMLParser):
    """Elements in order, each with its attributes and the text inside; raises where tags cross."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self._open, self.resources = [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", **dict(attributes)}
        self.elements.append(element)
        self.resources += [v for k, v in attributes if k in ("src", "href", "srcset", "data")]
        if tag not in self.VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [
            e
            for e in self.elements
            if e["tag"] == tag and all(e.get(k) == v for k, v in attributes.items())
        ]
