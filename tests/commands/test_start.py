"""How commands begin, and how they end when something outside them fails."""

import io
import subprocess
import sys

import jax
import pytest

from sdnjax.commands.command_line import run
from sdnjax.commands.compilation_cache import keep_compiled_functions

KEYS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """The user's cache, with JAX as it is outside the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = {key: getattr(jax.config, key) for key in KEYS}
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path
    for key, value in before.items():
        jax.config.update(key, value)


def test_compiled_functions_are_kept_in_the_cache_with_a_limit(cache):
    keep_compiled_functions()
    (folder,) = (cache / "sdnjax" / "compiled").iterdir()
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert 2**30 <= jax.config.jax_compilation_cache_max_size <= 2**33


def test_the_users_choice_of_a_cache_stays(cache):
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    keep_compiled_functions()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_enable_compilation_cache", False)
    keep_compiled_functions()
    assert jax.config.jax_compilation_cache_dir is None
    assert not list(cache.iterdir())


def test_without_a_place_for_the_cache_nothing_is_said(cache):
    (cache / "sdnjax").write_text("no folder")
    keep_compiled_functions()
    assert jax.config.jax_compilation_cache_dir is None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 4.00 GiB for an array"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes."),
    ],
)
def test_memory_that_ran_out_is_one_line(error, capsys):
    def main():
        raise error

    assert run(main) == 1
    err = capsys.readouterr().err
    assert err.startswith("stopped: out of memory; ")
    assert err.count("\n") == 1 and "evaluation.mode slide" in err


def test_other_errors_of_the_runtime_are_not_called_that():
    def main():
        raise jax.errors.JaxRuntimeError("INTERNAL: a broken driver")

    with pytest.raises(jax.errors.JaxRuntimeError, match="broken driver"):
        run(main)


def test_letters_that_the_output_has_not_are_written_in_another_way(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))

    def main():
        print("Straße 道路")
        return 0

    assert run(main) == 0
    assert raw.getvalue() == rb"Stra\xdfe \u9053\u8def" + b"\n"


def test_a_python_without_the_packages_is_told_in_one_line(request):
    """As the root's scripts end when the environment was forgotten."""
    code = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name: None if name == 'optax' else find(name)\n"
        "import sdnjax.commands"
    )
    how = {"capture_output": True, "text": True, "cwd": request.config.rootpath}
    done = subprocess.run([sys.executable, "-c", code], check=False, **how)
    assert done.returncode == 1
    assert done.stderr.startswith("error: optax is not installed for ")
    assert done.stderr.count("\n") == 1 and ".venv/bin/activate" in done.stderr
