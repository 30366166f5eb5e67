"""The class file of a user's own data set: which classes there are, and what label files hold.

Ours is `classes.csv`, one line for each label value:

    class,value,color
    background,0,#000000
    leaf,1,#30a040
    leaf,2,#208030
    void,255,#ffffff

Classes are numbered in the order in which they first occur. Lines of one class name merge
their values into it; what `void` has is ignored. `value` is what grey or palette PNGs hold,
`color` what RGB PNGs hold. Either column may be empty or missing: without values, labels are
read by colour; without colours, classes get some to be shown in.

The files that labelling tools write are read too (`class_rows.py`).
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from sdnjax.data.sets.class_rows import Row, class_rows
from sdnjax.data.sets.label_space import IGNORE, Color, LabelSpace, voc_color
from sdnjax.errors import InputError

OURS = "classes.csv"
_OTHERS = ("labelmap.txt", "_classes.csv", "class_dict.csv", "labels.txt", "classes.txt")
_VOID = ("void", "__ignore__")
_UNCLEAR = (
    "ignore",
    "ignored",
    "ignore_label",
    "dontcare",
    "don't care",
    "unlabeled",
    "unlabelled",
)
_MOST = 2**31 - 1  # what a 32-bit image holds


def find_class_file(root: Path) -> Path:
    """`classes.csv` of a folder, or the class file of another tool there or one level below.

    Raises: InputError if there are several that differ. Where there is none, `classes.csv`.
    """
    if (root / OURS).is_file():
        return root / OURS
    # Roboflow puts a copy into every split.
    places = [root, *sorted(p for p in root.glob("*") if p.is_dir())] if root.is_dir() else []
    for group in (places[:1], places[1:]):
        found = [p / name for p in group for name in _OTHERS if (p / name).is_file()]
        for other in found[1:]:
            if other.read_bytes() != found[0].read_bytes():
                raise InputError(
                    f"{found[0]} and {other} both list classes, and differ: "
                    f"write {root / OURS}, which comes first"
                )
        if found:
            return found[0]
    return root / OURS


def read_classes(path: Path, name: str = "folder") -> LabelSpace:
    """The label space that a class file describes, called `name`.

    Raises: InputError with file, line number and what would be right.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; it lists the classes: class,value,color")
    rows = class_rows(path)
    classes: dict[str, int] = {}
    values: dict[int, tuple[int, int]] = {}  # value → class, line
    colors: dict[Color, tuple[int, int]] = {}  # colour → class, line
    palette: dict[int, Color] = {}
    given: tuple[bool, bool] | None = None
    for row in rows:
        where = f"{path}, line {row.line}"
        value, color = row.value, row.color
        k = _number(row, where, classes)
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
            values[number] = k, row.line
        if color:
            rgb = _color(color, where)
            if rgb in colors and (colors[rgb][0] != k or not value):
                raise InputError(f"{where}: color {color} is in line {colors[rgb][1]} already")
            colors.setdefault(rgb, (k, row.line))
            palette.setdefault(k, rgb)
    if len(classes) < 2:
        raise InputError(
            f"{path}: {len(classes)} class(es); at least two are needed: what is no object is a "
            "class too, a line background with its value"
        )
    return LabelSpace(
        name,
        classes=tuple(classes),
        # Colour 0 is black, which is for nothing in particular.
        palette=tuple(palette.get(k) or voc_color(k + 1) for k in range(len(classes))),
        file_values=tuple((value, k) for value, (k, _) in values.items()),
        file_colors=tuple((rgb, k) for rgb, (k, _) in colors.items()),
    )


def _number(row: Row, where: str, classes: dict[str, int]) -> int:
    """The number of a line's class, which is added to `classes`, or `IGNORE`."""
    # One way to write a letter: names that look alike are one class.
    label = unicodedata.normalize("NFC", row.label)
    if not label:
        raise InputError(f"{where}: the class has no name")
    if any(unicodedata.category(c) == "Cc" for c in label):
        raise InputError(f"{where}: the class {label!r} has a control character in its name")
    if label.lower() in _VOID:
        return IGNORE
    if label.lower() in _UNCLEAR:
        raise InputError(
            f"{where}: {label!r} may be a class, or what is to be ignored: call it void if its "
            "pixels are to be ignored, otherwise something else"
        )
    if label not in classes:
        for other in classes:
            if other.casefold() == label.casefold():
                raise InputError(
                    f"{where}: {label!r} and {other!r} differ in capitals alone: write them alike "
                    "if they are one class, otherwise give them two names"
                )
        if len(classes) == IGNORE:
            raise InputError(f"{where}: {label!r} is the 256th class; there may be 255")
        classes[label] = len(classes)
    return classes[label]


def _value(text: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > _MOST:
        raise InputError(f"{where}: value must be a whole number from 0 to {_MOST}, not {text!r}")
    return int(text)


def _color(text: str, where: str) -> Color:
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    parts = text.split()
    if len(parts) == 3 and all(re.fullmatch(r"[0-9]{1,3}", p) and int(p) < 256 for p in parts):
        return int(parts[0]), int(parts[1]), int(parts[2])
    raise InputError(f"{where}: color must be #rrggbb, or red green blue to 255, not {text!r}")
