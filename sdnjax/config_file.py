"""Configuration files: Python whose `config()` returns one dataclass of settings.

A file may define or import whatever its objects are made of: a network, a loss, a similarity.
Modules beside it are found as they are for any Python script.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import sdnjax
from sdnjax.errors import InputError, unknown
from sdnjax.settings import CONFIG_MODULE, own_objects, to_dict

T = TypeVar("T")


def load_config(path: str | Path, cls: type[T], *, name: str | None = None) -> T:
    """Runs a configuration file's `config()` and checks what it returns.

    If that holds objects of the file's own, its field `code` names the file. Of a study file, which
    has a `study()` in its place, it is the experiment called `name`.

    Raises InputError, with file and line, for whatever goes wrong in it.
    """
    path = Path(path)
    result = load_made(path, "config", cls, name=name)
    if own_objects(to_dict(result)):
        result = dataclasses.replace(result, code=path.resolve())  # type: ignore[type-var]
    return result


def load_made(path: str | Path, function: str, cls: type[T], *, name: str | None = None) -> T:
    """What a function of a Python file returns, an object of `cls`; see `load_config`."""
    path = Path(path)
    if not path.is_file():
        known = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        listing = f"; {path.parent} has {', '.join(known)}" if known else ""
        raise InputError(f"no configuration file {path}{listing}")
    spec = importlib.util.spec_from_file_location(CONFIG_MODULE + path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: a configuration is one with a {function}()")
    module = importlib.util.module_from_spec(spec)
    # Registered, because dataclasses look their annotations up in the module of their name.
    sys.modules[module.__name__] = module
    with modules_beside(path.resolve()):
        _run(path, spec.loader.exec_module, module)
        make = getattr(module, function, None)
        if name is not None and callable(getattr(module, "study", None)):
            study = _run(path, module.study)
            if make is None or name in study.names:
                return _run(path, study.named, name)
        if not callable(make):
            others = [f for f in ("config", "study") if callable(getattr(module, f, None))]
            script = {"config": "train.py", "study": "study.py"}
            hint = f"; it has a {others[0]}(), which {script[others[0]]} takes" if others else ""
            raise InputError(
                f"{path} defines no {function}(): it must return one {cls.__name__}{hint}"
            )
        result = _run(path, make)
    if not isinstance(result, cls):
        raise InputError(
            f"{path}: {function}() returned {type(result).__name__}, not {cls.__name__}"
        )
    return result


def shipped(path: Path) -> Path:
    """The configuration of the library that a plain name means; any other path as it is.

    Raises: InputError with the nearest name if there is none.
    """
    if path.suffix or len(path.parts) != 1 or not path.name:
        return path
    library = Path(sdnjax.__file__).resolve().parent
    folder = library / "configs"  # of an installed wheel; of a checkout it lies beside the library
    folder = folder if folder.is_dir() else library.parent / "configs"
    known = {file.stem: file for file in folder.glob("*.py")}
    if path.name not in known:
        raise unknown("no file and no configuration of the library:", path.name, known)
    return known[path.name]


def sources(code: Path) -> dict[str, bytes]:
    """A configuration file and the modules beside it that it has imported: name → content.

    Names are relative to the file's folder. The library itself and installed packages are no
    part of it.
    """
    folder, library = code.parent, Path(sdnjax.__file__).resolve().parent
    files = {code}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not file or module.__name__ == "__main__" or not file.endswith(".py"):
            continue
        path = Path(file)
        if not path.is_absolute():  # no file of a module: some are named so without having one
            continue
        path = path.resolve()
        inside = path.is_relative_to(folder) and not path.is_relative_to(library)
        # An environment may lie in the folder; other configurations are not ours.
        if inside and "site-packages" not in path.parts and not _is_config(module):
            files.add(path)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


@contextlib.contextmanager
def modules_beside(path: Path) -> Iterator[None]:
    """Lets the modules in a file's folder be imported, as they are beside a script.

    One of the same name that was imported from elsewhere, say the original of a copy, is
    forgotten first. The folder stays last in the search path, for imports inside functions.
    """
    folder = path.parent
    for beside in [*folder.glob("*.py"), *(p.parent for p in folder.glob("*/__init__.py"))]:
        loaded = getattr(sys.modules.get(beside.stem), "__file__", None)
        if not loaded or beside.stem in sys.stdlib_module_names | {"sdnjax", "__main__"}:
            continue
        if not Path(loaded).resolve().is_relative_to(folder):
            for name in [n for n in sys.modules if n.split(".")[0] == beside.stem]:
                del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _is_config(module: types.ModuleType) -> bool:
    return module.__name__.startswith(CONFIG_MODULE)


def _run(path: Path, function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls the user's code; what it raises names the line of his file."""
    try:
        return function(*arguments)
    except InputError:
        raise
    except SyntaxError as error:
        raise InputError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename).resolve() == path.resolve()]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        reason = " ".join(str(error).split()) or "no reason given"
        raise InputError(f"{where}: {type(error).__name__}: {reason}") from error
