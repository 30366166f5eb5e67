"""Reads a pickle as data. It is a program for a stack machine; here it can call nothing.

`load` runs the machine over Python's plain types alone. A global is a `Name`; calling one
or making an object of one gives what `build` makes of it, else an `Opaque` that remembers the
name and swallows everything that is done to it. So settings and logs that trainers pickle
beside the tensors are skipped without the packages they come from. What `build` makes may have
a method `restore(state)`, which takes the state that the pickle gives the object.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from sdnjax.convert.words import shown

# What no checkpoint needs. Nothing would be called anyway, but whoever put it there meant harm.
_MODULES = (
    "os posix nt subprocess sys shutil socket ctypes importlib runpy pty code codeop marshal "
    "pickle multiprocessing webbrowser pdb timeit pip"
)
_BUILTINS = "eval exec execfile compile __import__ open input breakpoint"
_HOSTILE_MODULES, _HOSTILE_BUILTINS = frozenset(_MODULES.split()), frozenset(_BUILTINS.split())


class PickleError(ValueError):
    """A pickle that is damaged, or that names what no checkpoint needs."""


@dataclass(frozen=True)
class Name:
    """A global that a pickle names, as "torch._utils._rebuild_tensor_v2"."""

    name: str


@dataclass(frozen=True, eq=False)
class Opaque:
    """An object of a kind that is not read."""

    name: str


def load(
    file: BinaryIO,
    build: Callable[[str, tuple[Any, ...]], Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """The object of the pickle that starts here; the file is left after its end.

    Args:
      build: (name of a global, arguments) → value, or NotImplemented for an `Opaque`.
      persistent: the value of a persistent id.

    Raises:
      PickleError: it is damaged, or names a global of a module that runs code.
    """
    machine = _Machine(build, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode.name, argument)
        (result,) = machine.stack
    except PickleError:
        raise
    except (
        *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError),
        *(RecursionError, MemoryError),
    ) as error:
        raise PickleError(f"a damaged pickle ({type(error).__name__})") from None
    return result


class _Machine:
    def __init__(self, build: Callable[..., Any], persistent: Callable[[Any], Any]):
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.build, self.persistent = build, persistent

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name in ("PROTO", "FRAME", "STOP"):
            pass
        else:
            handler = getattr(self, "op_" + name.lower(), None)
            if handler is None:
                raise PickleError(f"a pickle with the unexpected instruction {name}")
            handler(argument) if name in ("GLOBAL", "INST", "PERSID") else handler()

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def op_mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def op_pop(self) -> None:
        self.stack.pop() if self.stack else self.since_mark()

    def op_pop_mark(self) -> None:
        self.since_mark()

    def op_dup(self) -> None:
        self.stack.append(self.stack[-1])

    def op_tuple(self) -> None:
        items = self.since_mark()
        self.stack.append(tuple(items))

    def op_tuple1(self) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def op_tuple2(self) -> None:
        self.stack[-2:] = [(self.stack[-2], self.stack[-1])]

    def op_tuple3(self) -> None:
        self.stack[-3:] = [(self.stack[-3], self.stack[-2], self.stack[-1])]

    def op_list(self) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def op_dict(self) -> None:
        items = self.since_mark()
        self.stack.append(plain_dict(zip(items[::2], items[1::2], strict=True)))

    def op_frozenset(self) -> None:
        self.since_mark()
        self.stack.append(Opaque("frozenset"))

    def op_append(self) -> None:
        item = self.stack.pop()
        self.extend([item])

    def op_appends(self) -> None:
        self.extend(self.since_mark())

    def extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)
        else:
            self.must_be_opaque("a list")

    def op_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.update([key, value])

    def op_setitems(self) -> None:
        self.update(self.since_mark())

    def update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(plain_dict(zip(items[::2], items[1::2], strict=True)))
        else:
            self.must_be_opaque("a dict")

    def op_additems(self) -> None:
        self.since_mark()
        self.must_be_opaque("a set")

    def must_be_opaque(self, what: str) -> None:
        if not isinstance(self.stack[-1], Opaque):
            raise PickleError(f"a damaged pickle (it needs {what})")

    def op_global(self, argument: str) -> None:
        self.stack.append(_named(*argument.split(" ", 1)))

    def op_stack_global(self) -> None:
        attribute, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_named(module, attribute))

    def op_reduce(self) -> None:
        arguments, what = self.stack.pop(), self.stack.pop()
        self.call(what, arguments)

    def op_newobj(self) -> None:
        self.op_reduce()

    def op_newobj_ex(self) -> None:
        _, arguments, what = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.call(what, arguments)

    def op_inst(self, argument: str) -> None:
        arguments = tuple(self.since_mark())
        self.call(_named(*argument.split(" ", 1)), arguments)

    def op_obj(self) -> None:
        what, *arguments = self.since_mark()
        self.call(what, tuple(arguments))

    def op_build(self) -> None:
        state = self.stack.pop()  # attributes, which mean nothing for most of what is read
        restore = getattr(self.stack[-1], "restore", None)
        if restore is not None:
            restore(state)

    def op_persid(self, argument: str) -> None:
        self.stack.append(self.persistent(argument))

    def op_binpersid(self) -> None:
        self.stack.append(self.persistent(self.stack.pop()))

    def call(self, what: Any, arguments: Any) -> None:
        if not isinstance(what, Name | Opaque) or not isinstance(arguments, tuple):
            raise PickleError("a damaged pickle (it calls what is no function)")
        result = NotImplemented
        if isinstance(what, Name):
            result = self.build(what.name, arguments)
        self.stack.append(Opaque(what.name) if result is NotImplemented else result)


def plain_dict(items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """A dict of the items whose keys are plain: hashing a nested one may never end."""
    return {k: v for k, v in items if type(k) in (str, int, float, bool, bytes, type(None))}


def _named(module: Any, attribute: Any) -> Name:
    if not isinstance(module, str) or not isinstance(attribute, str):
        raise PickleError("a damaged pickle (a global without a name)")
    name = f"{module[:100]}.{attribute[:100]}"
    if not name.isprintable():
        raise PickleError("a damaged pickle (a global without a printable name)")
    first = module.split(".")[0]
    builtin = first in ("builtins", "__builtin__") and attribute in _HOSTILE_BUILTINS
    if first in _HOSTILE_MODULES or builtin:
        raise PickleError(
            f"a pickle that wants to use {shown(name)}: refused, nothing of it was run"
        )
    return Name(name)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Opaque("set"),
}
_OPCODES = (
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
    "BINBYTES8 BYTEARRAY8"
)
_LITERALS = frozenset(_OPCODES.split())
