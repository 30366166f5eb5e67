"""Settings as options of a command: `--section.key VALUE`, types checked, errors of one line."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NoReturn, TypeVar

from sdnjax.errors import InputError, did_you_mean
from sdnjax.settings import (
    Setting,
    check_value,
    is_section,
    settings,
    text_of,
    type_name,
    without_none,
)

T = TypeVar("T")


_SCRIPTS = "train|eval|predict|check|convert|figures|plan|export|report|serve|study"


def as_called(text: str) -> str:
    """`python train.py …` in a text as `sdnjax train …` where the command was called so."""
    if not sys.argv[0].startswith("sdnjax "):
        return text
    text = re.sub(r"python -m sdnjax\.(?:data|commands)\.(\w+)", r"sdnjax \1", text)
    # Beside "python NAME.py" also a script's bare name, but no file of a folder.
    text = re.sub(r"python (\w+)\.py\b", r"sdnjax \1", text)
    return re.sub(rf"(?<![\w/])({_SCRIPTS})\.py\b", r"\1", text)


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the nearest option suggested."""

    def __init__(self, **kwargs: Any):
        formatter = argparse.RawDescriptionHelpFormatter
        for key in ("usage", "description"):
            if kwargs.get(key):
                kwargs[key] = as_called(kwargs[key])
        super().__init__(allow_abbrev=False, formatter_class=formatter, **kwargs)
        self.unused: list[str] = []  # options that exist elsewhere

    def error(self, message: str) -> NoReturn:
        raise InputError(message)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            key = unknown[0].split("=")[0]
            if key in self.unused:
                raise InputError(f"{key} has no effect on this command; --help lists what has")
            hint = did_you_mean(key, self._option_string_actions)
            raise InputError(f"unknown option {key}{hint or '; --help lists all'}")
        assert found is not None
        return found


def add_overrides(
    parser: OneLineParser, config: Any, uses: Callable[[str], bool] = lambda key: True
) -> None:
    """One `--key VALUE` for every setting of `config`, grouped by section in the help.

    `uses` tells which settings the command reads; any other is refused by name.
    """
    groups: dict[str, Any] = {}
    others: list[str] = []
    for s in settings(config):
        if not s.on_command_line:
            if s.help and uses(s.key):
                others.append(f"  {s.key}: {s.help}")
            continue
        if not uses(s.key):
            parser.unused.append(f"--{s.key}")
            continue
        section = s.key.rpartition(".")[0] or "run"
        if section not in groups:
            groups[section] = parser.add_argument_group(f"settings: {section}")
        groups[section].add_argument(
            f"--{s.key}",
            dest=s.key,
            default=argparse.SUPPRESS,
            metavar=type_name(_words(s)),
            help=f"{s.help} [{text_of(s.value)}]".replace("%", "%%"),
        )
    if others:
        parser.add_argument_group("in the configuration file alone", "\n".join(others))


def apply_overrides(config: T, arguments: argparse.Namespace) -> T:
    """`config` with the settings that the command line named, types checked.

    Raises InputError also for a setting that has no effect beside the others: a section says
    so in its method `unused() -> {field: reason}`, if it has one, of a field or, by "part.field",
    of one inside it.
    """
    given = vars(arguments)
    changes = {
        s.key: _parse(given[s.key], _words(s), f"--{s.key}")
        for s in settings(config)
        if s.key in given
    }
    changed = replaced(config, changes)
    for key in changes:
        for section, name in _sections_of(changed, key):
            reasons = section.unused() if hasattr(section, "unused") else {}
            reason = reasons.get(name, reasons.get(name.partition(".")[0]))
            if reason is not None:
                raise InputError(f"--{key} has no effect: {reason}")
    return changed


def _words(s: Setting) -> Any:
    """The part of a declared type that a word can be, for `str | SomeClass`."""
    inner, optional = without_none(s.type)
    if typing.get_origin(inner) in (typing.Union, types.UnionType):
        plain = [k for k in typing.get_args(inner) if k in (bool, int, float, str)]
        plain += [k for k in typing.get_args(inner) if typing.get_origin(k) is Literal]
        return (plain[0] | None) if optional else plain[0]
    return s.type


def _sections_of(config: Any, key: str) -> Iterator[tuple[Any, str]]:
    """The sections that a setting lies in, and what is left of its key there."""
    while True:
        yield config, key
        part, _, key = key.partition(".")
        if not key:
            return
        config = config[int(part)] if part.isdecimal() else getattr(config, part)


def replaced(config: T, changes: dict[str, Any]) -> T:
    """`config` with values of dotted keys, all at once: settings are checked against each other."""
    own = {k: v for k, v in changes.items() if "." not in k}
    for name in dict.fromkeys(k.partition(".")[0] for k in changes if "." in k):
        inner = {k.partition(".")[2]: v for k, v in changes.items() if k.startswith(name + ".")}
        if isinstance(config, tuple):
            own[name] = replaced(config[int(name)], inner)
        else:
            own[name] = replaced(getattr(config, name), inner)
    if not own:
        return config
    if isinstance(config, tuple):
        return tuple(own.get(str(i), part) for i, part in enumerate(config))  # type: ignore[return-value]
    assert is_section(config)
    return dataclasses.replace(config, **own)  # type: ignore[type-var]


def _parse(text: str, kind: Any, where: str) -> Any:
    """A command line's text as a value of `kind`."""
    inner, optional = without_none(kind)
    if optional and text.lower() == "none":
        return None
    try:
        return check_value(_parse_inner(text, inner), kind, where)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        expected = type_name(inner) + (" or none" if optional else "")
        raise InputError(f"{where} must be {expected}, not {text!r}") from None


def _parse_inner(text: str, kind: Any) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:  # it may also hold an object, which has no form on the command line
        return text
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
