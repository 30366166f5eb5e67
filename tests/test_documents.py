"""What the documents print as Python runs as it is printed."""

import ast
import dataclasses
import json
import re
import subprocess
import sys
from unittest.mock import ANY

import numpy as np
import pytest
from PIL import Image

from benchmarks import plans
from sdnjax.commands.export import export_network
from sdnjax.data import label_space
from sdnjax.errors import InputError
from sdnjax.models import MODELS
from sdnjax.studies.table import interval
from sdnjax.visualize import save_png
from tests.commands.conftest import *  # noqa: F403 (the root's scripts as a user calls them)
from tests.commands.loaded import named, picture, seen, trained
from tests.report.made import work_directory

BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILES = (
    "small",
    "similarity",
    "operator_of_mine",
    "neck",
    "dice",
    "metric",
    "data_set",
    "majority",
    "optimizer",
    "csv_log",
)


def blocks(root, document):
    return BLOCK.findall((root / document).read_text())


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """`shapes` is generated once for all files."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def folder(request, tmp_path, monkeypatch, cache):
    """The folder of a user who has copied every block of docs/extending.md to its file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    found = blocks(request.config.rootpath, "docs/extending.md")
    names = [re.match(r"# (\w+)\.py\n", block).group(1) for block in found]
    assert tuple(names) == FILES
    for name, block in zip(names, found, strict=True):
        (tmp_path / f"{name}.py").write_text(block)
    rng = np.random.default_rng(0)
    for i in range(8):
        mask = rng.choice([0, 128, 255], (40, 48)).astype(np.uint8)
        save_png(tmp_path / "pictures" / f"{i}_mask.png", mask)
        picture = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i}.jpg")
    return tmp_path


# One of them is enough for every day.
CASES = [FILES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in FILES[1:])]


@pytest.mark.parametrize("name", CASES)
def test_every_file_of_extending_trains_evaluates_and_predicts(name, folder, call):
    """Touching no file of the library; evaluation and prediction see the work directory alone."""
    given = ("--data.dir", "pictures") if name == "data_set" else ()
    status, out, err = call("train.py", f"{name}.py", "--tensorboard=false", *given)
    assert (status, err) == (0, ""), err
    assert "step 2/2" in out
    if name == "csv_log":
        assert "2,val/mIoU,0." in (folder / "runs" / name / "metrics.csv").read_text()
    for file in folder.glob("*.py"):
        file.unlink()
    run = f"runs/{name}"
    status, out, err = call("eval.py", run, "--trust-code")
    assert (status, err) == (0, ""), err
    assert "mIoU" in out
    assert ("precision" in out) == (name == "metric")
    status, out, err = call("predict.py", run, "pictures/0.jpg", "--trust-code")
    assert (status, err) == (0, ""), err
    labels = np.asarray(Image.open(f"{run}/predictions/0_labels.png"))
    assert labels.shape == (40, 48)


def test_the_readme_runs_as_printed(request, run):
    namespace = {}
    found = blocks(request.config.rootpath, "README.md")
    assert len(found) == 3
    for block in found:
        exec(block, namespace)


def test_the_page_on_losses_runs_as_printed(request):
    namespace = {}
    for block in blocks(request.config.rootpath, "docs/losses.md"):
        exec(block, namespace)
    assert namespace["experiment"].losses[0].class_weights[0] < namespace["weights"][2]


def test_the_page_on_companions_runs_as_printed(request):
    namespace = {}
    for block in blocks(request.config.rootpath, "docs/companions.md"):
        exec(block, namespace)
    assert namespace["experiment"].build(3).network.has_edge_scores
    assert namespace["mended"].finish.before is not None


def test_the_page_on_training_runs_as_printed(request):
    (block,) = blocks(request.config.rootpath, "docs/training.md")
    exec(block, {})


def test_the_commands_of_the_page_on_reports_run_as_printed(request, tmp_path, monkeypatch, call):
    """But for evaluating: the networks are not there, which is the last thing that is asked."""
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "baseline", "sdn"):
        work_directory(tmp_path / "runs" / name)
    page = (request.config.rootpath / "docs/report.md").read_text()
    first, second = re.findall(r"^    python (report\.py .*)$", page, re.MULTILINE)
    assert call(*first.split()) == (0, ANY, "")
    assert "Parts of the loss" in (tmp_path / "runs/mine/report.html").read_text()
    words = second.split()
    status, _, err = call(*words)
    assert status == 2 and "no finished checkpoint in runs/baseline/checkpoints" in err
    assert call(*words[: words.index("--pictures")]) == (0, ANY, "")
    assert (tmp_path / "comparison.html").is_file()


def test_the_commands_of_the_page_on_serving_run_as_printed(request, run, monkeypatch, call):
    """Up to where the server would wait."""
    pytest.importorskip("starlette")
    served = []
    monkeypatch.setattr(
        "sdnjax.scripts.serve.serve_networks",
        lambda networks, **how: served.append(([*networks], how["host"], how["port"])),
    )
    run.save_pretrained("runs/camvid_fcn_r18")
    page = (request.config.rootpath / "docs/serve.md").read_text()
    for command in re.findall(r"^    python (serve\.py .*)$", page, re.MULTILINE):
        assert call(*command.split()) == (0, "", "")
    names = ["camvid_fcn_r18", "camvid_fcn_r18_sdn"]
    assert served == [(names[1:], "127.0.0.1", 8000), (names, "127.0.0.1", 8080)]


PLANS = re.compile(r"^    python (plan\.py .*)$", re.MULTILINE)


@pytest.fixture
def plan_page(request, monkeypatch, tmp_path):
    """The commands of docs/planning.md, and a folder that they may write to."""
    root = request.config.rootpath
    monkeypatch.chdir(tmp_path)
    commands = [c.split() for c in PLANS.findall((root / "docs/planning.md").read_text())]
    assert len(commands) == 4
    return [[str(root / w) if w.startswith("configs/") else w for w in c] for c in commands]


def test_the_commands_of_the_page_on_planning_are_understood(plan_page, call, monkeypatch):
    """Up to the compiler, which another machine may have; `tests/compile_only` runs them."""
    asked = []

    def compiled(recipe, target, batch_size, steps):
        asked.append((target.text, batch_size // target.count, recipe.num_classes))
        raise InputError("enough")

    monkeypatch.setattr("sdnjax.commands.plan.plan_of", compiled)
    for command in plan_page:
        status, _, err = call(*command)
        assert (status, err) == (2, "error: enough\n")
    assert asked == [("h100:8", 1, 11), ("h100:4x8", 4, 11), ("h100:8", 1, 11), ("h100:1", 8, 7)]


def test_the_page_on_planning_has_the_table_of_the_results(request):
    page = (request.config.rootpath / "docs/planning.md").read_text()
    assert plans.table(plans.configurations(), list(plans.TARGETS)) in page


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A folder with a trained network where the documents have theirs, and a picture."""
    monkeypatch.chdir(tmp_path)
    # One size for the network, whatever that of a picture: one compilation.
    network = seen(named("fcn_r18-d8"), size_multiple=128)
    network.save_pretrained("runs/camvid_fcn_r18_sdn")
    Image.fromarray(picture()).save("street.jpg")
    return network


def test_the_page_on_python_runs_as_printed(request, run):
    namespace = {}
    *found, exported, _ = blocks(request.config.rootpath, "docs/python.md")
    for block in found:
        exec(block, namespace)
    export_network(namespace["network"], "net.stablehlo", report=lambda line: None)
    exec(exported, namespace)
    same = np.asarray(namespace["labels"][0]) == namespace["result"].labels
    assert same.mean() > 0.99
    assert repr(namespace["again"]) == repr(namespace["network"])


@pytest.mark.slow
def test_the_saved_model_is_the_network(request, run, tmp_path):
    export_network(run, "net.stablehlo", report=lambda line: None)
    (tmp_path / "saved_model.py").write_text(blocks(request.config.rootpath, "docs/python.md")[-1])
    use = (
        "import numpy as np, tensorflow as tf\n"
        "network = tf.saved_model.load('saved_model')\n"
        "np.save('labels.npy', network.segment(tf.constant(np.load('x.npy')))['labels'].numpy())\n"
    )
    (tmp_path / "use.py").write_text(use)
    np.save("x.npy", picture()[None])
    for script in ("saved_model.py", "use.py"):
        done = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert (np.load("labels.npy")[0] == run(picture()).labels).mean() > 0.99


def test_the_notebook_runs_cell_by_cell(request, run, tmp_path):
    (tmp_path / "runs" / "demo" / "sdc").mkdir(parents=True)
    space = label_space("shapes")
    network = trained(run.experiment, space.num_classes)
    network = dataclasses.replace(network, classes=space.classes, palette=space.palette)
    network.save_pretrained("runs/demo/sdc/seed0")
    notebook = json.loads((request.config.rootpath / "examples" / "predict.ipynb").read_text())
    namespace, shown = {}, []
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            *body, last = ast.parse("".join(cell["source"])).body
            exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
            if isinstance(last, ast.Expr):
                shown.append(eval(compile(ast.Expression(last.value), "cell", "eval"), namespace))
            else:
                exec(compile(ast.Module([last], []), "cell", "exec"), namespace)
    assert [type(x).__name__ for x in shown] == [
        *("Trained", "Result", "Image", "NoneType", "Image", "NoneType")
    ]


def test_the_readme_counts_the_networks(request):
    text = (request.config.rootpath / "README.md").read_text()
    assert f"{len(MODELS)} by name" in text
    table = (request.config.rootpath / "docs/networks.md").read_text()
    assert [name for name in MODELS if f"| `{name}` |" not in table] == []


STUDIED = ("mIoU", "boundary_f.1px", "boundary_f.3px", "error_inside.3px")
AND_TRIMAPS = (*STUDIED[:3], "trimap_iou.3px", STUDIED[3])


@pytest.mark.parametrize(
    ("page", "title", "study", "scores"),
    [
        ("README.md", "## Does SDN help?", "camvid_first_stages", STUDIED),
        ("docs/studies.md", "### Operators at all four", "camvid_operators", STUDIED),
        ("docs/studies.md", "### Where the neck stands", "camvid_guidance", AND_TRIMAPS),
        ("docs/studies.md", "### The first stages again", "camvid_first_stages", AND_TRIMAPS),
        ("docs/studies.md", "## What shapes says", "shapes_operators", STUDIED),
    ],
)
def test_tables_of_studies_have_the_numbers_of_the_results(request, page, title, study, scores):
    root = request.config.rootpath
    found = json.loads((root / "studies" / f"{study}.json").read_text())
    assert found["missing"] == []
    part = (root / page).read_text().split(title)[1]
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \|$",
        part.split("\n\n1. ")[0].split("\n\n- ")[0].split("\n\n![")[0].split("\n\nNo ")[0],
        re.M,
    )
    assert len(rows) > 3
    for variant, cells in rows:
        row = found["variants"][variant]["metrics"]
        if variant == found["baseline"]:
            expected = [f"{row[m]['mean']:.2f}" for m in scores]
        else:
            expected = [f"{row[m]['difference']:+.2f} ± {row[m]['half_width']:.2f}" for m in scores]
        assert cells.split(" | ")[: len(scores)] == expected, variant


def test_the_page_shows_the_picture_of_the_study(request):
    root = request.config.rootpath
    shown = root / "docs" / "figures" / "study_camvid.png"
    assert shown.read_bytes() == (root / "studies" / "camvid_guidance.png").read_bytes()


@pytest.mark.parametrize(
    ("study", "variant", "other", "pages"),
    [
        ("camvid_operators", "oracle", "sdc_constant", 2),
        ("camvid_guidance", "sdc", "sdc_constant", 2),
        ("camvid_guidance", "sdc_relative", "sdc_constant", 2),
        ("camvid_guidance", "relative_stages12", "conv_stages12", 1),
        ("camvid_guidance", "constant_stages12", "conv_stages12", 1),
        ("camvid_guidance", "relative_stages12", "constant_stages12", 1),
        ("camvid_guidance", "relative_stages12", "sdc_relative", 1),
        ("camvid_guidance", "constant_stages12", "sdc_constant", 1),
        ("camvid_guidance", "sdc_lambda10", "sdc", 1),
        ("camvid_guidance", "sdc_relative", "sdc", 1),
        ("camvid_guidance", "sdc_shuffled", "sdc", 1),
        ("camvid_guidance", "relative_stages12", "none", 2),
        ("camvid_first_stages", "oracle_stages12", "constant_stages12", 2),
        ("camvid_first_stages", "relative_stages12", "constant_stages12", 2),
        ("camvid_first_stages", "relative_stages12", "conv_stages12", 2),
        ("camvid_first_stages", "constant_stages12", "conv_stages12", 2),
        ("camvid_first_stages", "relative_stages12_segfix", "none_segfix", 2),
        ("camvid_first_stages", "mean_stages12", "constant_stages12", 1),
        ("camvid_first_stages", "sum_stages12", "constant_stages12", 1),
        ("camvid_first_stages", "sum_stages12", "mean_stages12", 1),
        ("camvid_first_stages", "own_stages12", "relative_stages12", 1),
        ("camvid_first_stages", "plain_stages12", "relative_stages12", 1),
        ("camvid_first_stages", "relative_stages12_abl", "relative_stages12", 1),
        ("camvid_first_stages", "relative_stages12_crf", "none_crf", 1),
    ],
)
def test_pages_have_the_pairs_of_the_studies(request, study, variant, other, pages):
    """What is said of two variants that are both no baseline."""
    root = request.config.rootpath
    variants = json.loads((root / "studies" / f"{study}.json").read_text())["variants"]
    ours, theirs = ({r["seed"]: r["scores"] for r in variants[v]["runs"]} for v in (variant, other))
    for page in ("docs/studies.md", "README.md")[:pages]:
        text = (root / page).read_text()
        for score in ("boundary_f.1px", "boundary_f.3px"):
            mean, half = interval([100 * (ours[s][score] - theirs[s][score]) for s in ours])
            assert f"{mean:+.2f} ± {half:.2f}" in text, (page, score)


def test_the_page_on_networks_has_the_ratios_of_the_benchmark(request):
    root = request.config.rootpath
    page = (root / "docs" / "networks.md").read_text()
    rows = json.loads((root / "benchmarks/results/network_speed_cpu.json").read_text())["rows"]
    forms = ("eager", "channels last", "compiled")
    for row in rows:
        title = f"{row['network']}{' + SDN' if row['neck'] else ''}, {row['what']}"
        ratios = (row["ratios"].get(form) for form in forms)
        cells = " | ".join("—" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
        assert f"| {title} | {row['ms']['ours']:.0f} ms | {cells} |" in page


def test_the_readme_has_the_ratios_of_the_gpu(request):
    root = request.config.rootpath
    page = (root / "README.md").read_text()
    measured = json.loads((root / "benchmarks/results/h200.json").read_text())
    assert all(check["good"] and check["same_bits"] for check in measured["checks"])
    for shape in measured["timings"]:
        rows = {(row["direction"], row["program"]): row for row in shape["rows"]}
        ours, unfold = (
            [rows[direction, program] for direction in ("forward", "forward+backward")]
            for program in ("pallas_gpu", "torch unfold")
        )
        cells = ["×".join(map(str, ours[0]["shape"]))]
        cells += [f"{row['ratio']:.2f}" for row in ours]
        pairs = zip(unfold, ours, strict=True)
        cells.append(", ".join(f"{a['median_ms'] / b['median_ms']:.1f} ×" for a, b in pairs))
        cells.append(", ".join(f"{row['memory_maps']:.1f}" for row in ours))
        assert f"| {' | '.join(cells)} |" in page
