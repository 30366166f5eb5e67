"""The report of runs: what is in it, where it comes from, and what it refuses."""

import json
import math
import re

import numpy as np
import pytest

from sdnjax.commands.report import _widened, check_out, chosen, write_report
from sdnjax.errors import InputError
from sdnjax.inference.protocols import Evaluation
from sdnjax.report.charts import Series, line_chart, thinned, ticks
from sdnjax.report.html import Html, tag
from sdnjax.report.matrix import matrix
from sdnjax.report.page import page
from sdnjax.report.records import flat, read_run
from sdnjax.report.sections import Shown
from tests.bucket import *  # noqa: F403
from tests.commands.conftest import *  # noqa: F403 (the root's scripts as a user calls them)
from tests.report.made import CLASSES, Page, scores, work_directory, write_evaluation


@pytest.fixture
def one(tmp_path):
    return work_directory(tmp_path / "one")


def cells(page, caption):
    """The rows of a table, by its caption."""
    (table,) = [t for t in page.all("table") if t["text"].startswith(caption)]
    start = page.elements.index(table)
    rows = []
    for element in page.elements[start + 1 :]:
        if element["tag"] == "table":
            break
        if element["tag"] == "tr":
            rows.append([])
        elif element["tag"] in ("td", "th"):
            rows[-1].append(element["text"])
    return rows


def test_whatever_is_no_html_is_escaped():
    assert tag("a", "<&", href='"x"<') == '<a href="&quot;x&quot;&lt;">&lt;&amp;</a>'
    assert tag("b", tag("i", "<"), Html("<br>"), None, 3) == "<b><i>&lt;</i><br>3</b>"
    assert tag("p", hidden=True, title=None, aria_label=False, data_x={"a": ["'"]}) == (
        '<p hidden data-x="{&quot;a&quot;:[&quot;&#x27;&quot;]}"></p>'
    )


def test_a_report_of_one_run(one, tmp_path, call):
    out = tmp_path / "page.html"
    status, said, err = call("report.py", one, "--out", out)
    assert (status, err) == (0, "") and "page.html (0.0" in said
    text = out.read_text()
    assert "<script>alert" not in text and "<b>sky" not in text
    found = Page(text)
    assert all(x.startswith(("#", "data:")) for x in found.resources)
    assert not re.search(r"https?://|url\(|@import", text)
    titles = [e["text"] for e in found.all("h2")]
    assert titles == [
        *("Overview", "Curves", "Classes", "Boundaries", "Confusion matrix", "Costs"),
        *("Settings", "Versions"),
    ]
    anchors = {e["href"] for e in found.all("a")}
    assert anchors == {f"#{e['id']}" for e in found.all("h2")}
    # Every chart has a title and its values as a table.
    figures = found.all("figcaption")
    charts = found.all("svg", **{"class": "chart"})
    assert len(charts) == 9
    assert len(charts) + 1 == len(figures) == len(found.all("title")) - 1  # and the matrix
    results = json.loads((one / "evaluation" / "val_30_whole.json").read_text())["results"]
    rows = cells(found, "one, in percent")
    assert rows[0] == ["class", "IoU", "accuracy", "share", "F 1px", "F 3px"]
    assert [row[0] for row in rows[1:]] == list(CLASSES)
    assert rows[1][1] == f"{100 * results['per_class'][0]['iou']:.1f}"
    assert cells(found, "Loss: one")[1:] == [["10", "2"], ["20", "1.75"], ["30", "1.5"]]
    overview = cells(found, "Runs")[1]
    assert overview[2:4] == ["30", f"{100 * results['mIoU']:.2f}"]
    costs = dict(cells(found, "Costs")[1:])
    assert costs["images per second (median)"] == "16" and costs["device memory, the most"]
    assert costs["time of the logged steps"] == "15.0 s"
    assert re.fullmatch(r"\d+\.\d{3} M", costs["parameters"])
    start = cells(found, "Each start")[1]
    assert start[2:4] == ["2 × cpu, 1 process(es)", "0123abc"]
    assert ["seed", "0"] in cells(found, "All settings")


def test_several_runs_are_laid_over_each_other_and_compared_with_the_first(
    one,
    tmp_path,
    call,
    monkeypatch,
):
    monkeypatch.setattr("sdnjax.commands.report._costs", lambda experiment, record: None)
    two = work_directory(tmp_path / "two", seed=1, validations=2, batch_size=16)
    three = work_directory(tmp_path / "three", classes=("a", "b"), evaluated=False)
    status, _, err = call("report.py", one, two, three, "--out", tmp_path / "page.html")
    assert (status, err) == (0, "")
    found = Page((tmp_path / "page.html").read_text())
    loss = json.loads(found.all("svg", **{"class": "chart"})[0]["data-series"])
    assert [(x["name"], len(x["points"]), x["colour"]) for x in loss] == [
        *(("one", 3, 0), ("two", 2, 1), ("three", 3, 2)),
    ]
    settings = cells(found, "Settings that differ from one's")
    assert ["batch_size", "8", "16", "8"] in settings
    assert not any(row[0] == "seed" for row in settings)
    rows = cells(found, "IoU of every class")
    assert rows[0] == ["class", "one", "two", "Δ two"]
    a, b, change = map(float, rows[1][1:])
    assert change == pytest.approx(b - a, abs=0.11)
    assert [row[0] for row in cells(found, "three, in percent")[1:]] == ["class 0", "class 1"]


def test_a_run_that_has_only_begun_and_damaged_files(tmp_path, call):
    run = work_directory(tmp_path / "run", validations=1, evaluated=False)
    (run / "metrics.jsonl").unlink()
    (run / "runs.json").write_text("{")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "x.json").write_text('{"results": {"per_class": 3}}')
    status, out, err = call("report.py", run)
    assert (status, err) == (0, "") and "left out" in out and "runs.json is damaged" in out
    found = Page((run / "report.html").read_text())
    titles = [e["text"] for e in found.all("h2")]
    assert titles == ["Overview", "Costs", "Settings", "Versions"]


def test_which_scores_are_shown(one):
    rng, own = np.random.default_rng(5), Evaluation(flip=True)
    other = type("Other", (), {"evaluation": own})
    write_evaluation(one, other, scores(rng, 3), CLASSES, name="val_40_flip", step=40)
    assert read_run(one, "one").scores.source == "val, step 30, evaluation/val_30_whole.json"
    (one / "evaluation" / "val_30_whole.json").unlink()
    found = read_run(one, "one").scores
    assert found.source.endswith("val_40_flip.json") and found.confusion.sum() == 144
    (one / "evaluation" / "val_40_flip_confusion.csv").write_text("damaged,\n1,2,3\n")
    assert read_run(one, "one").scores.confusion is None


def test_a_report_overwrites_reports_alone(one, tmp_path, call, monkeypatch):
    monkeypatch.setattr("sdnjax.commands.report._costs", lambda experiment, record: None)
    own = tmp_path / "mine.html"
    own.write_text("<html>mine</html>")
    status, _, err = call("report.py", one, "--out", own)
    assert (
        status == 2 and "is there and no report" in err and own.read_text() == ("<html>mine</html>")
    )
    for _ in range(2):
        assert call("report.py", one)[0] == 0
    check_out(one / "report.html")
    with pytest.raises(InputError, match="is a folder"):
        check_out(one)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere is no work directory"),
        (["RUN/config.json"], "config.json is no work directory"),
        (["RUN", "--pictures", "99"], "from 0 to 12"),
        (["RUN", "--split", "train"], "--split has no effect"),
        (["RUN", "--data.dir", "x"], "--data.dir has no effect"),
        (["RUN", "--picture", "3"], "did you mean --pictures"),
    ],
)
def test_what_is_refused(words, message, one, call):
    status, _, err = call("report.py", *(w.replace("RUN", str(one)) for w in words))
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (one / "report.html").exists()


def test_in_a_bucket(one, bucket):
    for file in one.rglob("*"):
        if file.is_file():
            (bucket / "run" / file.relative_to(one).as_posix()).write_bytes(file.read_bytes())
    write_report({"run": bucket / "run"}, bucket / "run" / "report.html", experiments={})
    found = Page((bucket / "run" / "report.html").read_text())
    assert len(found.all("svg", **{"class": "matrix"})) == 1


def test_ticks_are_round_and_enclose():
    assert ticks(0, 160) == [0, 50, 100, 150, 200]
    assert ticks(0.013, 0.047) == [0.01, 0.02, 0.03, 0.04, 0.05]
    for low, high in ((-3.7, 12.1), (1e-7, 2e-7), (5, 5), (0, 0), (1e6, 3e6)):
        found = ticks(low, high)
        assert found[0] <= low and found[-1] >= high and 3 <= len(found) <= 12


def test_long_lines_are_thinned_by_means_and_holes_are_left_out():
    points = [(float(x), float(x % 2)) for x in range(1, 1001)]
    found = thinned(Series("x", points, 0)).points
    assert len(found) == 200 and {y for _, y in found} == {0.6, 0.4}
    assert found[0] == (3.0, 0.6)
    assert line_chart("x", [Series("x", [(1, math.nan)], 0)], x_name="step") is None
    large = line_chart("x", [Series("x", points * 100, 0)], x_name="step")
    assert len(large) < 40_000


def test_a_matrix_of_many_classes_is_small():
    rng = np.random.default_rng(0)
    confusion = rng.integers(0, 5, (150, 150)) + 100_000 * np.eye(150, dtype=int)
    names = [f"class {k}" for k in range(150)]
    found = matrix("Confusion", confusion, names)
    assert len(found) < 100_000
    (svg,) = Page(found).all("svg")
    assert json.loads(svg["data-cells"])[0] == [0, 0, 99.7, int(confusion[0, 0])]


def test_rows_of_the_matrix_are_true_classes():
    confusion = np.array([[90, 10, 0], [0, 0, 0], [30, 30, 40]])
    svg, *_ = Page(matrix("Confusion", confusion, ["a", "b", "c"])).all("svg")
    assert json.loads(svg["data-cells"]) == [
        *([0, 0, 90.0, 90], [0, 1, 10.0, 10]),
        *([2, 0, 30.0, 30], [2, 1, 30.0, 30], [2, 2, 40.0, 40]),
    ]


def test_settings_as_lines():
    values = {"a": {"b": [1, 2], "c": None}, "losses": [{"w": 1.0}, {"w": 2.0}], "d": [], "e": ""}
    assert flat(values) == {
        **{"a.b": "1, 2", "a.c": "none", "losses.0.w": "1.0", "losses.1.w": "2.0"},
        **{"d": "empty", "e": ""},
    }


def test_worst_and_typical():
    shares = dict(zip("abcdefg", (0.1, 0.9, 0.2, 0.3, 0.8, 0.25, 0.0), strict=True))
    assert chosen(shares, 2) == (["b", "e"], ["f", "c"])
    assert chosen({"a": 0.5}, 2) == (["a"], [])
    assert _widened(Evaluation(boundary_thresholds=(0.0075, 3))).boundary_thresholds == (
        *(0.0075, 1, 2, 3, 5, 9),
    )


def test_pictures_are_bounded(one):
    noise = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
    two_colours = np.where(noise[..., :1] > 128, np.uint8(255), np.uint8(0)).repeat(3, -1)
    example = Shown("<x>", [("picture", noise, True), ("errors", two_colours, False)])
    text = page([read_run(one, "one")], {"The worst": [example]})
    assert len(text) < 400_000
    images = Page(text).all("img")
    assert [e["alt"] for e in images] == ["<x>: picture", "<x>: errors"]
    assert images[0]["src"].startswith("data:image/jpeg;") and "png" in images[1]["src"][:20]
