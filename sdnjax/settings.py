"""Typed settings: frozen dataclasses in three forms — Python, command line, JSON.

A setting is a field of a frozen dataclass, declared with `setting(default, help)`. Dataclasses
inside it become dotted keys: `data.crop_size` is written `--data.crop_size 96,96` on the command
line and `{"data": {"crop_size": [96, 96]}}` in a work directory. Elements of a tuple are numbered:
`--losses.0.weight 2`.

A field may also hold an object of the user's own (a module, a function). JSON then holds a
description of it alone, and `from_dict` takes the object itself from `base`, what the same
configuration file made anew.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import operator
import re
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar

from sdnjax.errors import InputError, did_you_mean

T = TypeVar("T")

_PLAIN = (bool, int, float, str)
# Keys of JSON objects that stand for objects: a dataclass by its type, a function of the library by
# its name; anything else is described.
TYPE, FUNCTION, OWN = "type", "function", "own"
# Configuration files are modules of this name and their own.
CONFIG_MODULE = "sdnjax_config_"


def setting(
    default: Any,
    help: str,
    *,
    run_only: bool = False,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Any:
    """A documented field of a configuration dataclass.

    Args:
      run_only: it may change between the parts of one run because it decides how the run goes,
        not what comes out: paths, logging, worker counts.
      least, above, most, below: the numbers that it may be, for every element of a tuple; the
        first and the third are allowed themselves. No number may be infinite or NaN.
    """
    bounds = {"least": least, "above": above, "most": most, "below": below}
    metadata = {"help": help, "run_only": run_only, "bounds": bounds}
    return dataclasses.field(default=default, metadata=metadata)


def fields_of(config: Any) -> Iterator[dataclasses.Field]:
    """The fields that are settings: those that take part in comparisons.

    Of a Flax module, which is a dataclass too, not the two that Flax adds.
    """
    fields = dataclasses.fields(config)
    names = {field.name for field in fields}
    added = {"parent", "name"} if "parent" in names else set()
    return (field for field in fields if field.compare and field.name not in added)


def is_section(value: Any) -> bool:
    """Whether a value is a dataclass of settings: plain values, or sections again."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return False
    fields = dataclasses.fields(value)
    if any("help" in field.metadata for field in fields):
        return True
    # A Flax module is a dataclass too; of the library's, those of plain values are settings.
    if any(field.name == "parent" for field in fields) and not _is_ours(type(value)):
        return False
    return all(_is_plain(getattr(value, field.name)) for field in fields_of(value))


def check_types(config: Any) -> None:
    """For `__post_init__`: every field has its declared type, lists become tuples, and numbers
    lie within the bounds of their `setting`.

    Raises InputError that names the class and the field.
    """
    hints = typing.get_type_hints(type(config))
    for field in fields_of(config):
        where, value = f"{type(config).__name__}.{field.name}", getattr(config, field.name)
        value = check_value(value, hints[field.name], where)
        object.__setattr__(config, field.name, value)
        _check_bounds(value, field.metadata.get("bounds", {}), where)


def _check_bounds(value: Any, bounds: Mapping[str, float | None], where: str) -> None:
    numbers = value if isinstance(value, tuple) else (value,)
    allowed = {
        "least": ("at least", operator.ge),
        "above": ("above", operator.gt),
        "most": ("at most", operator.le),
        "below": ("below", operator.lt),
    }
    limits = [(*allowed[k], limit) for k, limit in bounds.items() if limit is not None]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            continue
        fits = all(holds(number, limit) for _, holds, limit in limits)
        if not (math.isfinite(number) and fits):
            words = " and ".join(f"{word} {limit:g}" for word, _, limit in limits)
            # Experiment.steps is the option --steps, Data.workers is --data.workers.
            section, _, key = where.rpartition(".")
            if section == "Experiment":
                where = key
            elif section == section.capitalize():
                where = f"{section.lower()}.{key}"
            raise InputError(f"{where} must be {words or 'a finite number'}, not {value!r}")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One leaf of a configuration: its dotted key, declared type, value and help."""

    key: str
    type: Any
    value: Any
    help: str
    run_only: bool

    @property
    def on_command_line(self) -> bool:
        """Whether the value can be written as a word; objects cannot."""
        return _is_plain(self.value) and not _holds_objects(self.type)


def settings(config: Any, prefix: str = "") -> Iterator[Setting]:
    """All leaves of `config`, in order of declaration."""
    hints = typing.get_type_hints(type(config))
    for field in fields_of(config):
        key, value = prefix + field.name, getattr(config, field.name)
        parts = {key: value}
        if isinstance(value, tuple) and any(map(is_section, value)):
            parts = {f"{key}.{i}": part for i, part in enumerate(value)}
        help, run_only = field.metadata.get("help", ""), field.metadata.get("run_only", False)
        for name, part in parts.items():
            if is_section(part):
                yield from settings(part, name + ".")
            else:
                yield Setting(name, hints[field.name], part, help, run_only)


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dicts of JSON types."""
    hints = typing.get_type_hints(type(config))
    return {
        field.name: _encode(getattr(config, field.name), hints[field.name])
        for field in fields_of(config)
    }


def from_dict(
    cls: type[T], values: Any, where: str = "config", prefix: str = "", base: T | None = None
) -> T:
    """Builds `cls` from nested dicts, with every key known and every type checked.

    Args:
      base: the configuration that the same file makes anew; objects of the user's own come
        from there. Needed if there are any, see `own_objects`.

    Raises InputError that names `where` and the key.
    """
    hints, fields = typing.get_type_hints(cls), {f.name: f for f in fields_of(cls)}
    if not isinstance(values, dict):
        raise InputError(f"{where}: {prefix or 'the file'} must hold settings, not {values!r}")
    for key in values:
        if key not in fields:
            raise InputError(f"{where}: unknown key {prefix + key}{did_you_mean(key, fields)}")
    arguments = {}
    for name, value in values.items():
        given = fields[name].default if base is None else getattr(base, name)
        value = _decode(value, hints[name], given, where, prefix + name)
        arguments[name] = check_value(value, hints[name], f"{where}: {prefix}{name}")
    return cls(**arguments)


def own_objects(values: Any) -> list[str]:
    """The names of what JSON describes but cannot hold: objects and classes outside the library."""
    if isinstance(values, list):
        return [name for value in values for name in own_objects(value)]
    if not isinstance(values, dict):
        return []
    kind = values.get(TYPE, "")
    found = [str(values[OWN])] if OWN in values else []
    if isinstance(kind, str) and kind and not kind.startswith("sdnjax."):
        found.append(kind)
    return found + [name for value in values.values() for name in own_objects(value)]


def differences(a: Any, b: Any) -> list[str]:
    """A phrase for every setting that decides results and differs: what a has, what b has."""
    theirs = {s.key: s.value for s in settings(b)}
    ours = {s.key: s.value for s in settings(a)}
    decisive = [s.key for c in (a, b) for s in settings(c) if not s.run_only]
    return [
        f"{key} is {_shown(key, ours)} there, {_shown(key, theirs)} here"
        for key in dict.fromkeys(decisive)
        if _shown(key, ours) != _shown(key, theirs)
    ]


def without_none(kind: Any) -> tuple[Any, bool]:
    """The type without None, and whether None was allowed."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(kind) if a is not type(None)]
        if len(inner) < len(typing.get_args(kind)):
            return typing.Union[tuple(inner)], True  # noqa: UP007 (of a computed tuple)
    return kind, False


def check_value(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`: JSON's lists become tuples, integers may stand for floats."""
    kind, optional = without_none(kind)
    if kind is Any or (value is None and optional):
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for one in arguments:
            try:
                return check_value(value, one, where)
            except InputError:
                continue
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, (tuple, list)):
        if arguments[-1] is Ellipsis:
            return tuple(check_value(v, arguments[0], where) for v in value)
        if len(value) == len(arguments):
            return tuple(check_value(v, a, where) for v, a in zip(value, arguments, strict=True))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if kind in _PLAIN:
        if type(value) is kind:
            return value
    elif _accepts_object(kind, value):
        return value
    expected = type_name(kind) + (" or none" if optional else "")
    raise InputError(f"{where} must be {expected}, not {value!r}")


def type_name(kind: Any) -> str:
    """How a type is called in help and errors."""
    inner, _ = without_none(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin is Literal:
        return "|".join(str(a) for a in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_name(a) for a in arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"{type_name(arguments[0])},…"
        return ",".join(type_name(a) for a in arguments)
    if inner is bool:
        return "true|false"
    if isinstance(inner, type) and dataclasses.is_dataclass(inner):
        return f"{inner.__name__}(…)"
    if _is_callable_type(inner):
        return "a function"
    return getattr(inner, "__name__", str(inner))


def text_of(value: Any) -> str:
    """A value as the command line spells it."""
    if isinstance(value, tuple):
        return ",".join(text_of(v) for v in value)
    if _is_plain(value):
        return str(value).lower() if value is None or isinstance(value, bool) else str(value)
    return describe(value)


def describe(value: Any) -> str:
    """An object of the user's own in one line, the same in every process."""
    name = _qualified_name(value if isinstance(value, (type, types.FunctionType)) else type(value))
    if isinstance(value, (type, types.FunctionType)):
        return name
    text = " ".join(re.sub(r" at 0x[0-9a-f]+", "", repr(value)).split())
    return f"{name}: {text}"


def _shown(key: str, values: Mapping[str, Any]) -> str:
    return text_of(values[key]) if key in values else "not set"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, _PLAIN)


def _holds_objects(kind: Any) -> bool:
    """Whether a declared type has no form that a word on the command line could take."""
    inner, _ = without_none(kind)
    origin, arguments = typing.get_origin(inner), typing.get_args(inner)
    if origin in (typing.Union, types.UnionType):
        return all(map(_holds_objects, arguments))
    if origin is tuple:
        return any(_holds_objects(a) for a in arguments if a is not Ellipsis)
    return origin is not Literal and inner not in _PLAIN


def _is_callable_type(kind: Any) -> bool:
    return getattr(typing.get_origin(kind) or kind, "__module__", "") == "collections.abc"


def _accepts_object(kind: Any, value: Any) -> bool:
    """Whether an object may stand where `kind`, a class, protocol or Callable, is declared."""
    if _is_callable_type(kind) or getattr(kind, "_is_protocol", False):
        # A protocol of the library is one call; what is called wrongly says so itself.
        return callable(value)
    return isinstance(kind, type) and isinstance(value, kind)


def _encode(value: Any, kind: Any) -> Any:
    if isinstance(value, tuple):
        return [_encode(v, Any) for v in value]
    if is_section(value):
        # Where the type is declared it goes without saying.
        name = {} if kind is type(value) else {TYPE: _qualified_name(type(value))}
        return name | to_dict(value)
    if _is_plain(value):
        return value
    if isinstance(value, types.FunctionType) and _is_library_name(describe(value)):
        return {FUNCTION: describe(value)}
    return {OWN: describe(value)}


def _decode(value: Any, kind: Any, base: Any, where: str, key: str) -> Any:
    """What JSON stands for, with `base` in its place in the configuration."""
    if isinstance(value, list):
        bases = base if isinstance(base, tuple) and len(base) == len(value) else [None] * len(value)
        parts = zip(value, bases, strict=True)
        return tuple(_decode(v, Any, b, where, f"{key}.{i}") for i, (v, b) in enumerate(parts))
    inner, _ = without_none(kind)
    if isinstance(inner, type) and dataclasses.is_dataclass(inner) and value is not None:
        given = base if isinstance(base, inner) else None
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if k != TYPE}
        return from_dict(inner, value, where, key + ".", given)
    if not isinstance(value, dict):
        return value
    if OWN in value:
        if base is None or describe(base) != value[OWN]:
            there = "nothing" if base is None else describe(base)
            raise InputError(f"{where}: {key} was {value[OWN]}, and the code has {there} there")
        return base
    if FUNCTION in value:
        return _of_library(value[FUNCTION], f"{where}: {key}", types.FunctionType)
    name = value.get(TYPE, _qualified_name(type(base)) if is_section(base) else "")
    if is_section(base) and name == _qualified_name(type(base)):
        cls, given = type(base), base
    else:
        cls, given = _of_library(name, f"{where}: {key}", type), None
    rest = {k: v for k, v in value.items() if k != TYPE}
    return from_dict(cls, rest, where, key + ".", given)


def _of_library(name: Any, where: str, kind: type) -> Any:
    """The dataclass or function of the library called `name`.

    Nothing else is ever looked up for a JSON file, which may come from anybody, and nothing is
    called with what it holds but the constructors of settings.
    """
    found = None
    if isinstance(name, str) and _is_library_name(name):
        module, _, attribute = name.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except ImportError:
            found = None
    is_ours = _is_ours(found)
    fits = dataclasses.is_dataclass(found) if kind is type else isinstance(found, kind)
    if not (is_ours and fits):
        raise InputError(f"{where}: this version of the library has no {name!r}")
    return found


def _is_ours(found: Any) -> bool:
    return getattr(found, "__module__", "").startswith("sdnjax.")


def _is_library_name(name: str) -> bool:
    return re.fullmatch(r"sdnjax(\.[a-z_0-9]+)+\.[A-Za-z_0-9]+", name) is not None


def _qualified_name(value: Any) -> str:
    """Where a class or function lives: in the library, the package that shows it."""
    module, name = value.__module__.removeprefix(CONFIG_MODULE), value.__qualname__
    if module.startswith("sdnjax."):
        package = ".".join(module.split(".")[:2])
        if getattr(importlib.import_module(package), name, None) is value:
            module = package
    return f"{module}.{name}"
