"""Typed settings: one frozen dataclass, three forms — Python, command line, JSON.

A setting is a field of a frozen dataclass, declared with `setting(default, help)`. Nested
dataclasses become dotted keys: `data.crop_size` is written `--data.crop_size 96,96` on the
command line and `{"data": {"crop_size": [96, 96]}}` in a work directory.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal, TypeVar

from sdnjax.errors import InputError, did_you_mean

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
            object.__setattr__(config, field.name, check_value(value, hints[field.name], where))


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
            raise InputError(f"{where}: unknown key {prefix + key}{did_you_mean(key, fields)}")
    arguments = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]):
            arguments[name] = from_dict(hints[name], value, where, f"{prefix}{name}.")
        else:
            arguments[name] = check_value(value, hints[name], f"{where}: {prefix}{name}")
    return cls(**arguments)


def differences(a: Any, b: Any) -> list[str]:
    """A phrase for every setting that decides results and differs: what a has, what b has."""
    theirs = {s.key: s.value for s in settings(b)}
    return [
        f"{s.key} is {text_of(s.value)} there, {text_of(theirs[s.key])} here"
        for s in settings(a)
        if not s.run_only and s.value != theirs[s.key]
    ]


def without_none(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was allowed."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return kind, False


def check_value(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`: JSON's lists become tuples, integers may stand for floats."""
    kind, optional = without_none(kind)
    if kind is Any or (value is None and optional):
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (tuple, list)):
        if arguments[-1] is Ellipsis:
            return tuple(check_value(v, arguments[0], where) for v in value)
        if len(value) == len(arguments):
            return tuple(check_value(v, a, where) for v, a in zip(value, arguments, strict=True))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str, bool) and type(value) is kind:
        return value
    expected = type_name(kind) + (" or none" if optional else "")
    raise InputError(f"{where} must be {expected}, not {value!r}")


def type_name(kind: Any) -> str:
    inner, _ = without_none(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is Literal:
        return "|".join(str(a) for a in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{type_name(arguments[0])},…"
        return ",".join(type_name(a) for a in arguments)
    return "true|false" if inner is bool else inner.__name__


def text_of(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(text_of(v) for v in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
