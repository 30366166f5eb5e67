"""Typed settings: one frozen dataclass, three forms — Python, command line, JSON.

A setting is a field of a frozen dataclass, declared with `setting(default, help)`. Nested
dataclasses become dotted keys: `data.crop_size` is written `--data.crop_size 96,96` on the
command line and `{"data": {"crop_size": [96, 96]}}` in a work directory.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import importlib.util
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

from sdnjax.errors import InputError

T = TypeVar("T")


def setting(default: Any, help: str, *, run_only: bool = False) -> Any:
    """A documented field of a configuration dataclass.

    `run_only` marks what may change between the parts of one run because it decides how
    the run goes, not what comes out: paths, logging, worker counts.
    """
    return dataclasses.field(default=default, metadata={"help": help, "run_only": run_only})


def check_types(config: Any) -> None:
    """For `__post_init__`: every field has its declared type, lists become tuples.

    Raises InputError that names the class and the field.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        where, value = f"{type(config).__name__}.{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(hints[field.name]):
            if not isinstance(value, hints[field.name]):
                expected = hints[field.name].__name__
                raise InputError(f"{where} must be {expected}(…), not {value!r}")
        else:
            object.__setattr__(config, field.name, _check(value, hints[field.name], where))


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: its dotted key, declared type, value and help."""

    key: str
    type: Any
    value: Any
    help: str
    run_only: bool


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """All leaves of `config`, in order of declaration."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        key, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from settings(value, key + ".")
        else:
            help, run_only = field.metadata.get("help", ""), field.metadata.get("run_only", False)
            yield Setting(key, hints[field.name], value, help, run_only)


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts of JSON types."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: dict[str, Any], where: str = "config", prefix: str = "") -> T:
    """Builds `cls` from nested dicts, with every key known and every type checked.

    Raises InputError that names `where` and the key.
    """
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in dataclasses.fields(cls)}
    if not isinstance(values, dict):
        raise InputError(f"{where}: {prefix or 'the file'} must hold settings, not {values!r}")
    for key in values:
        if key not in fields:
            raise InputError(f"{where}: unknown key {prefix + key}{nearest(key, fields)}")
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            arguments[name] = from_dict(hints[name], value, where, f"{prefix}{name}.")
        else:
            arguments[name] = _check(value, hints[name], f"{where}: {prefix}{name}")
    return cls(**arguments)


def differences(a: Any, b: Any) -> list[str]:
    """A phrase for every setting that decides results and differs: what a has, what b has."""
    theirs = {s.key: s.value for s in settings(b)}
    return [
        f"{s.key} is {_text(s.value)} there, {_text(theirs[s.key])} here"
        for s in settings(a)
        if not s.run_only and s.value != theirs[s.key]
    ]


def load_config(path: str | Path, cls: type[T]) -> T:
    """Runs a configuration file's `config()` and checks what it returns."""
    path = Path(path)
    if not path.is_file():
        known = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        listing = f"; {path.parent} has {', '.join(known)}" if known else ""
        raise InputError(f"no configuration file {path}{listing}")
    spec = importlib.util.spec_from_file_location(f"sdnjax_config_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file: a configuration is one with a config()")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "config", None)):
        raise InputError(f"{path} defines no config(): it must return one {cls.__name__}")
    result = module.config()
    if not isinstance(result, cls):
        raise InputError(f"{path}: config() returned {type(result).__name__}, not {cls.__name__}")
    return result


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the nearest option suggested."""

    def __init__(self, **kwargs: Any):
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def parse_args(self, args=None, namespace=None):  # type: ignore[override]
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            key = unknown[0].split("=")[0]
            hint = nearest(key, self._option_string_actions)
            raise InputError(f"unknown option {key}{hint or '; --help lists all'}")
        return namespace


def add_overrides(parser: argparse.ArgumentParser, config: Any) -> None:
    """One `--key VALUE` for every setting of `config`, grouped by section in the help."""
    groups: dict[str, Any] = {}
    for s in settings(config):
        section = s.key.rpartition(".")[0] or "run"
        if section not in groups:
            groups[section] = parser.add_argument_group(f"settings: {section}")
        groups[section].add_argument(
            f"--{s.key}",
            dest=s.key,
            default=argparse.SUPPRESS,
            metavar=_type_name(s.type),
            help=f"{s.help} [{_text(s.value)}]".replace("%", "%%"),
        )


def apply_overrides(config: T, arguments: argparse.Namespace) -> T:
    """`config` with the settings that the command line named, types checked."""
    given = vars(arguments)
    changes = {
        s.key: _parse(given[s.key], s.type, f"--{s.key}")
        for s in settings(config)
        if s.key in given
    }
    return _replace(config, changes)


def nearest(word: str, known: typing.Iterable[str], most: int = 1) -> str:
    """`; did you mean …?` for the closest of `known`, or nothing when none is close."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=most, cutoff=0.6)
    if not close:  # a forgotten section: crop_size for data.crop_size
        tail = word.lstrip("-").rpartition(".")[2]
        tails = {k.lstrip("-").rpartition(".")[2]: k for k in known}
        close = [tails[t] for t in difflib.get_close_matches(tail, tails, n=1, cutoff=0.6)]
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _replace(config: T, changes: dict[str, Any]) -> T:
    """`config` with all changes at once: settings are checked against each other."""
    own = {k: v for k, v in changes.items() if "." not in k}
    for section in {k.partition(".")[0] for k in changes if "." in k}:
        inner = {k.partition(".")[2]: v for k, v in changes.items() if k.startswith(section + ".")}
        own[section] = _replace(getattr(config, section), inner)
    return dataclasses.replace(config, **own) if own else config  # type: ignore[type-var]


def _optional(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was allowed."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return kind, False


def _check(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`: JSON's lists become tuples, integers may stand for floats."""
    kind, optional = _optional(kind)
    if value is None and optional:
        return None
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (tuple, list)):
        if arguments[-1] is Ellipsis:
            return tuple(_check(v, arguments[0], where) for v in value)
        if len(value) == len(arguments):
            return tuple(_check(v, a, where) for v, a in zip(value, arguments, strict=True))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    expected = _type_name(kind) + (" or none" if optional else "")
    raise InputError(f"{where} must be {expected}, not {value!r}")


def _parse(text: str, kind: Any, where: str) -> Any:
    """A command line's text as a value of `kind`."""
    inner, optional = _optional(kind)
    if optional and text.lower() == "none":
        return None
    try:
        return _check(_parse_inner(text, inner), kind, where)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        expected = _type_name(inner) + (" or none" if optional else "")
        raise InputError(f"{where} must be {expected}, not {text!r}") from None


def _parse_inner(text: str, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return next((a for a in arguments if str(a) == text), text)
    if origin is tuple:
        parts = [p for p in text.strip("()[] ").replace("x", ",").split(",") if p.strip()]
        return tuple(_parse_inner(p.strip(), arguments[0]) for p in parts)
    if kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            text.lower(), text
        )
    return kind(text)


def _type_name(kind: Any) -> str:
    inner, _ = _optional(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is Literal:
        return "|".join(str(a) for a in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{_type_name(arguments[0])},…"
        return ",".join(_type_name(a) for a in arguments)
    return "true|false" if inner is bool else inner.__name__


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_text(v) for v in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
