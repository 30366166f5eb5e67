"""What importing costs: neither TensorFlow nor PyTorch, and arrows that point one way."""

import ast
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "modules",
    [
        "sdnjax",
        "sdnjax.ops, sdnjax.models, sdnjax.metrics, sdnjax.losses, sdnjax.visualize",
        "sdnjax.convert",
        "sdnjax.experiment, sdnjax.inference.scoring, sdnjax.training.loop",
        "sdnjax.commands.predict, sdnjax.commands.trained, sdnjax.commands.export",
        "sdnjax.commands.convert, sdnjax.commands.compare",
        "sdnjax.commands.plan, sdnjax.commands.report, sdnjax.commands.serve",
    ],
)
def test_no_tensorflow_and_no_pytorch(modules):
    code = f"import sys, {modules}; print({{'tensorflow', 'torch'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_recipes_are_made_where_nothing_is_read(request):
    """On a machine for computing alone there is JAX and what comes with it."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('PIL', 'tqdm', 'tensorflow', 'array_record'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import sdnjax.experiment, benchmarks.gpu, benchmarks.steps"
    )
    how = {"cwd": request.config.rootpath, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "-c", code], check=False, **how)
    assert done.returncode == 0, done.stderr


# What each package may import of the library, besides itself, settings and errors.
MAY_IMPORT = {
    "ops": set(),
    "metrics": {"ops"},
    "losses": {"ops"},
    "visualize": {"ops"},
    "data": {"ops"},
    "models": {"ops"},
    "training": {"losses", "models", "ops"},
    "inference": {"metrics", "models", "ops"},
    "convert": {"models", "ops"},
    "report": {"training"},
    "serve": {"metrics", "visualize"},
    "planning": {"experiment", "models", "ops", "recipe", "training"},
}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_one_way(package, request):
    allowed = MAY_IMPORT[package] | {package, "settings", "options", "errors", "files", "places"}
    for path in (request.config.rootpath / "sdnjax" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                parts = node.module.split(".")
                if parts[0] == "sdnjax" and len(parts) > 1:
                    assert parts[1] in allowed, f"{path}: {node.module}"
                if parts[0] in ("tensorflow", "tensorflow_datasets"):
                    assert package == "data", path


def test_training_without_tensorflow_says_what_to_install():
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'tensorflow':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from sdnjax.__main__ import main\n"
        "sys.argv = ['sdnjax', 'train', 'shapes_fcn_r18']\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "error: reading data sets needs TensorFlow: pip install 'sdnjax[train]' (predicting and "
        "converting do without)\n"
    )


def test_no_module_imports_itself_by_way_of_others(request):
    """Imports inside functions and for types count: a hidden circle is one for its readers too."""
    root = request.config.rootpath
    files = {
        ".".join(p.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): p
        for p in (root / "sdnjax").rglob("*.py")
    }

    def named(path):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in files:
                # `from package import module` reads the module.
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                yield from (inner & files.keys()) or {node.module}
            elif isinstance(node, ast.Import):
                yield from {alias.name for alias in node.names} & files.keys()

    # The package itself names everything, for `sdnjax.load` after `import sdnjax`.
    left = {name: set(named(path)) - {"sdnjax", name} for name, path in files.items()}
    del left["sdnjax"]
    while free := [name for name, reads in left.items() if not reads & left.keys()]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or reading one: {sorted(left)}"
