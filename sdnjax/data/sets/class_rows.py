"""The lines of a class file, in the forms that people and labelling tools write them.

- a table with a header: `class,value,color` with any of value and color left out, the columns
  in any order, also `name,r,g,b` and Roboflow's `Pixel Value, Class`;
- CVAT's `labelmap.txt`: `# label:color_rgb:parts:actions`, then `leaf:32,160,64::`;
- names alone, one a line: they have the values 0, 1, 2, …; in labelme's lists `__ignore__`
  comes first and does not count.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from sdnjax.errors import InputError, did_you_mean
from sdnjax.files import read_bytes

_HEADER = "class,value,color"
_COLUMNS = {
    "class": ("class", "name", "label", "class_name", "classname", "category"),
    "value": ("value", "id", "index", "pixel_value", "label_id", "class_id", "pixel"),
    "color": ("color", "colour", "hex", "rgb"),
    "r": ("r", "red"),
    "g": ("g", "green"),
    "b": ("b", "blue"),
}
_KNOWN = {word: column for column, words in _COLUMNS.items() for word in words}
_NAMES_OF_VOID = ("void", "__ignore__")


class Row(NamedTuple):
    """A line: its number, and its cells as text, empty where there is none."""

    line: int
    label: str
    value: str
    color: str


def class_rows(path: Path) -> list[Row]:
    """The lines of a class file below its header.

    Raises: InputError with file, line number and what would be right.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")  # spreadsheets write a byte-order mark
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8") from None
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise InputError(f"{path}: the file is empty; its header must be {_HEADER}")
    first = lines[0][1].lower()
    if first.startswith("#") and "label:color_rgb" in first.replace(" ", ""):
        return [_cvat(path, number, line) for number, line in lines[1:] if line[0] != "#"]
    plain = not any(mark in line for _, line in lines for mark in ",;\t")
    if plain and _KNOWN.get(_word(first)) is None:
        return _names(path, lines)
    if plain and len(lines) > 1 and _KNOWN[_word(first)] == "class":
        return _names(path, lines[1:])
    return _table(path, text)


def _cvat(path: Path, number: int, line: str) -> Row:
    parts = line.rsplit(":", 3)
    if len(parts) != 4:
        raise InputError(f"{path}, line {number}: expected label:r,g,b:parts:actions, not {line!r}")
    return Row(number, parts[0].strip(), "", parts[1].replace(",", " ").strip())


def _names(path: Path, lines: list[tuple[int, str]]) -> list[Row]:
    rows, value = [], 0
    for place, (number, name) in enumerate(lines):
        if name.lower() in _NAMES_OF_VOID:
            if name.lower() != "__ignore__" or place:
                raise InputError(
                    f"{path}, line {number}: names alone have the values 0, 1, 2, …, and it is "
                    f"open which one {name} has: write lines class,value under that header"
                )
            rows.append(Row(number, name, "255", ""))  # labelme's -1, in 8 bits
            continue
        if any(row.label == name for row in rows):
            raise InputError(f"{path}, line {number}: {name!r} is listed twice")
        rows.append(Row(number, name, str(value), ""))
        value += 1
    return rows


def _table(path: Path, text: str) -> list[Row]:
    lines = text.splitlines()
    head = next(line for line in lines if line.strip())
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(lines, strict=True, delimiter=delimiter)
    columns: list[str] | None = None
    rows = []
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            where = f"{path}, line {reader.line_num}"
            if columns is None:
                columns = _header(where, cells)
                continue
            if len(cells) != len(columns):
                raise InputError(
                    f"{where}: {len(cells)} cells; there must be {len(columns)}: "
                    f"{','.join(columns)}"
                )
            found = dict(zip(columns, cells, strict=True))
            color = found.get("color", "")
            if "r" in found:
                color = " ".join(found[c] for c in "rgb").strip()
            elif delimiter != "," or "," in color:
                color = color.strip("()[]").replace(",", " ")
            rows.append(Row(reader.line_num, found["class"], found.get("value", ""), color))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None
    return rows


def _header(where: str, cells: list[str]) -> list[str]:
    """The meaning of each column."""
    columns = [_KNOWN.get(_word(cell), "") for cell in cells]
    given = ",".join(cells)[:60]
    wrong = f"{where}: the header must be {_HEADER}, not {given}"
    if "class" not in columns or len(columns) < 2:
        raise InputError(wrong)
    for cell, column in zip(cells, columns, strict=True):
        if not column:
            raise InputError(f"{wrong}; unknown column {cell!r}{did_you_mean(_word(cell), _KNOWN)}")
        if columns.count(column) > 1:
            raise InputError(f"{wrong}; two columns for {column}")
    channels = [c for c in "rgb" if c in columns]
    if channels and (len(channels) < 3 or "color" in columns):
        raise InputError(f"{wrong}; a color is one column, or red, green and blue")
    if "value" not in columns and "color" not in columns and not channels:
        raise InputError(wrong)
    return columns


def _word(cell: str) -> str:
    return "_".join(cell.lower().replace("-", " ").split())
