"""Settings in the API reference: what `setting(default, "help", …)` says, read without importing.

A field that is declared so is shown with its default and its help, the text that `train.py CONFIG
--help` prints too.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe


class Settings(griffe.Extension):
    """Gives attributes that are settings their default as value and their help as docstring."""

    def on_attribute_instance(self, *, node: Any, attr: griffe.Attribute, **kwargs: Any) -> None:
        call = getattr(node, "value", None)
        match call:
            case ast.Call(func=ast.Name("setting"), args=[_, ast.Constant(str(text)), *_]):
                assert isinstance(attr.value, griffe.ExprCall)
                attr.value = next(iter(attr.value.arguments))
                attr.docstring = attr.docstring or griffe.Docstring(text, parent=attr)
