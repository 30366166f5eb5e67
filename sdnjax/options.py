"""Settings as options of a command: `--section.key VALUE`, types checked, errors of one line."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from typing import Any, Literal, NoReturn, TypeVar

from sdnjax.errors import InputError, did_you_mean
from sdnjax.settings import check_value, settings, text_of, type_name, without_none

T = TypeVar("T")


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
            hint = did_you_mean(key, self._option_string_actions)
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
            metavar=type_name(s.type),
            help=f"{s.help} [{text_of(s.value)}]".replace("%", "%%"),
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


def _replace(config: T, changes: dict[str, Any]) -> T:
    """`config` with all changes at once: settings are checked against each other."""
    own = {k: v for k, v in changes.items() if "." not in k}
    for section in {k.partition(".")[0] for k in changes if "." in k}:
        inner = {k.partition(".")[2]: v for k, v in changes.items() if k.startswith(section + ".")}
        own[section] = _replace(getattr(config, section), inner)
    return dataclasses.replace(config, **own) if own else config  # type: ignore[type-var]


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
