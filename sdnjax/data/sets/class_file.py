"""The class file of a user's own data set: `classes.csv`, one line for each label value.

    class,value,color
    background,0,#000000
    leaf,1,#30a040
    leaf,2,#208030
    void,255,#ffffff

Classes are numbered in the order in which they first occur. Lines of one class name merge
their values into it; what `void` has is ignored. `value` is what grey or palette PNGs hold,
`color` what RGB PNGs hold. Either column may be empty, from top to bottom: without values,
labels are read by colour; without colours, classes get some to be shown in.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from sdnjax.data.sets.label_space import IGNORE, Color, LabelSpace, voc_color
from sdnjax.errors import InputError
from sdnjax.files import read_bytes

_HEADER = ["class", "value", "color"]
_VOID = "void"


def read_classes(path: str | Path, name: str = "folder") -> LabelSpace:
    """The label space that a class file describes, called `name`.

    Raises: InputError with file, line number and what would be right.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; it lists the classes: {','.join(_HEADER)}")
    classes: dict[str, int] = {}
    values: dict[int, tuple[int, int]] = {}  # value → class, line
    colors: dict[Color, tuple[int, int]] = {}  # colour → class, line
    palette: dict[int, Color] = {}
    given: tuple[bool, bool] | None = None
    for line, (label, value, color) in _rows(path):
        where = f"{path}, line {line}"
        if not label:
            raise InputError(f"{where}: the class has no name")
        is_void = label.lower() == _VOID
        k = IGNORE if is_void else classes.setdefault(label, len(classes))
        if k == IGNORE and not is_void:
            raise InputError(f"{where}: {label!r} is the 256th class; there may be 255")
        filled = bool(value), bool(color)
        if given is None:
            given = filled
        if filled != given or filled == (False, False):
            raise InputError(
                f"{where}: value and color are each filled in every line or in none, "
                f"and one of them is; here they are {value or 'empty'} and {color or 'empty'}"
            )
        if value:
            number = _value(value, where)
            if number in values:
                raise InputError(f"{where}: value {number} is in line {values[number][1]} already")
            values[number] = k, line
        if color:
            rgb = _color(color, where)
            if rgb in colors and (colors[rgb][0] != k or not value):
                raise InputError(f"{where}: color {color} is in line {colors[rgb][1]} already")
            colors.setdefault(rgb, (k, line))
            palette.setdefault(k, rgb)
    if len(classes) < 2:
        raise InputError(f"{path}: {len(classes)} class(es); at least two are needed")
    return LabelSpace(
        name,
        classes=tuple(classes),
        # Colour 0 is black, which is for nothing in particular.
        palette=tuple(palette.get(k) or voc_color(k + 1) for k in range(len(classes))),
        file_values=tuple((value, k) for value, (k, _) in values.items()),
        file_colors=tuple((rgb, k) for rgb, (k, _) in colors.items()),
    )


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and the three cells of every line below the header, spaces removed."""
    try:
        text = read_bytes(path).decode("utf-8-sig")  # spreadsheets write a byte-order mark
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    header = None
    reader = csv.reader(text.splitlines(), strict=True)
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if header is None:
                header = cells
                if header != _HEADER:
                    raise InputError(
                        f"{path}, line {reader.line_num}: the header must be "
                        f"{','.join(_HEADER)}, not {','.join(cells)[:60]}"
                    )
            elif len(cells) != len(_HEADER):
                raise InputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells; "
                    f"there must be three: {','.join(_HEADER)}"
                )
            else:
                yield reader.line_num, cells
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None
    if header is None:
        raise InputError(f"{path}: the file is empty; its header must be {','.join(_HEADER)}")


def _value(text: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,3}", text) or int(text) > 255:
        raise InputError(f"{where}: value must be a whole number from 0 to 255, not {text!r}")
    return int(text)


def _color(text: str, where: str) -> Color:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise InputError(f"{where}: color must be #rrggbb, not {text!r}")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
