"""Changes one thing at a time in a copy of the project and lists the changes that no test sees.

    python -m tests.mutate sdnjax/commands/train.py sdnjax/recipe.py \
        --tests tests/test_wiring.py --wider tests/commands tests/training --most 20

Dropped keyword arguments and statements, turned comparisons and conditions, other numbers and
signs. A survivor is a place to look at: some changes mean nothing. Run by hand, for hours;
`--tests` should take seconds, and what they miss is tried once more with `--wider`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPARISONS = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult}


def changes(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """A description, and the module with that change, for every place that can be changed."""
    count = sum(1 for _ in ast.walk(tree))
    for i in range(count):
        node = _node(tree, i)
        for k in range(_variants(node)):
            mutant = copy.deepcopy(tree)
            what = _change(mutant, i, k)
            if what:
                yield f"line {getattr(node, 'lineno', '?')}: {what}", mutant


def _node(tree: ast.AST, index: int) -> ast.AST:
    return next(n for i, n in enumerate(ast.walk(tree)) if i == index)


def _variants(node: ast.AST) -> int:
    return len(node.keywords) if isinstance(node, ast.Call) else 1


def _change(tree: ast.AST, index: int, k: int) -> str:
    node = _node(tree, index)
    if isinstance(node, ast.Call) and node.keywords[k].arg:
        return f"without {node.keywords.pop(k).arg}= of {ast.unparse(node.func)}"
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        before = ast.unparse(node)
        node.ops[0] = COMPARISONS[type(node.ops[0])]()
        return f"{before} → {ast.unparse(node)}"
    if isinstance(node, ast.BoolOp):
        before = ast.unparse(node)
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return f"{before} → {ast.unparse(node)}"
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        before = ast.unparse(node)
        node.op = OPERATORS[type(node.op)]()
        return f"{before} → {ast.unparse(node)}"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        before = ast.unparse(node)
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
        return f"{before} → its opposite"
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        node.value += 1
        return f"{node.value - 1} → {node.value}"
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
        return f"{not node.value} → {node.value}"
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        before = ast.unparse(node)
        node.value = ast.Constant(None)
        return f"without {before[:80]}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", required=True)
    parser.add_argument("--wider", nargs="+", default=[], help="tried where --tests see nothing")
    parser.add_argument("--only", nargs="+", default=[""], help="words, of which a change has one")
    parser.add_argument("--most", type=int, default=20, help="changes tried in each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600, help="after which a test has seen it")
    options = parser.parse_args()
    survivors, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".git", ".venv*", "runs", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, project, ignore=ignored, symlinks=True)
        for tests in filter(None, (options.tests, options.wider)):
            if failure := _failure(project, tests, options.seconds):
                print(f"without any change: {failure}")
                return 2
        for file in options.files:
            source = (project / file).read_text()
            found = [c for c in changes(ast.parse(source)) if any(w in c[0] for w in options.only)]
            random.Random(options.seed).shuffle(found)
            for what, mutant in found[: options.most]:
                (project / file).write_text(ast.unparse(mutant))
                begin = time.monotonic()
                failure = _failure(project, options.tests, options.seconds)
                if not failure and options.wider:
                    failure = _failure(project, options.wider, options.seconds)
                tried += 1
                verdict = f"seen by {failure}" if failure else "SURVIVED"
                print(f"{file}, {what}: {verdict} ({time.monotonic() - begin:.0f} s)", flush=True)
                survivors += [] if failure else [f"{file}, {what}"]
            (project / file).write_text(source)
    print(f"{len(survivors)} of {tried} changes were seen by no test")
    return 0


def _failure(project: Path, tests: list[str], seconds: float) -> str:
    """The first test that fails, or "" if all of them pass."""
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    # The scripts and processes that tests start see the copy too; what is compiled is kept,
    # since a change alters few of the programs.
    kept = {"JAX_COMPILATION_CACHE_DIR": str(project.parent / "compiled")}
    kept |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = {**kept, **os.environ, "PYTHONPATH": str(project)}
    try:
        done = subprocess.run(
            words,
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "the clock"
    if done.returncode == 0:
        return ""
    failed = [x for x in done.stdout.splitlines() if x.startswith(("FAILED ", "ERROR "))]
    return failed[0].split()[1] if failed else f"pytest, status {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
