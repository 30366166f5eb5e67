"""Names in pictures: fonts that have their letters, or their code points where none has.

Pillow's own font has little more than ASCII. What a font lacks it draws as one box for all,
so that 道路 and 森林 would look alike.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Where systems keep fonts of many scripts; the first that covers a name is taken.
_FONTS = {
    "linux": (
        "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
        "/usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
        "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
        "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
        "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",
    ),
    "darwin": (
        "/System/Library/Fonts/Supplemental/Arial Unicode.ttf",
        "/Library/Fonts/Arial Unicode.ttf",
        "/System/Library/Fonts/PingFang.ttc",
        "/System/Library/Fonts/Hiragino Sans GB.ttc",
        "/System/Library/Fonts/AppleSDGothicNeo.ttc",
    ),
    "win32": (
        "C:/Windows/Fonts/segoeui.ttf",
        "C:/Windows/Fonts/msyh.ttc",
        "C:/Windows/Fonts/YuGothR.ttc",
        "C:/Windows/Fonts/malgun.ttf",
        "C:/Windows/Fonts/Nirmala.ttf",
    ),
}
_NO_LETTER = "\U0010ffff"  # which no font has


class Text(NamedTuple):
    """A text that its font can draw."""

    text: str
    font: Font

    @property
    def width(self) -> float:
        return self.font.getlength(self.text)

    def draw(
        self,
        draw: ImageDraw.ImageDraw,
        at: tuple[int, int],
        color: tuple[int, int, int],
        anchor: str,
    ) -> None:
        draw.text(at, self.text, color, self.font, anchor=anchor)


def lettering(text: str, size: int) -> Text:
    """`text` in a font of `size` pixels that has all its letters.

    Where no font of the system has them, those that the default font lacks, and signs that
    cannot be seen, are written as code points: `<U+9053><U+8DEF>`. So different texts look
    different.
    """
    plain = _plain(size)
    visible = _visible(text)
    if covers(plain, visible):
        return Text(visible, plain)
    file = _font_file(frozenset(visible))
    if file is not None:
        return Text(visible, ImageFont.truetype(file, size))
    return Text("".join(c if covers(plain, c) else _code(c) for c in visible), plain)


def undrawable(texts: Iterable[str]) -> str:
    """The line that says which of `texts` no font of the system can draw; nothing if all are."""
    plain = _plain(16)
    lost = [
        text
        for text in texts
        if not covers(plain, _visible(text)) and _font_file(frozenset(_visible(text))) is None
    ]
    if not lost:
        return ""
    listing = ", ".join(lost[:3]) + ", …" * (len(lost) > 3)
    return (
        f"no font of this system has all letters of {listing}: pictures show their code points; "
        "installing one, Noto Sans CJK for instance, mends that"
    )


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Names of at most `longest` characters, cut in the middle, unless two become one."""
    head = (longest - 3) * 2 // 3
    tail = longest - 3 - head
    short = [n if len(n) <= longest else f"{n[:head]}...{n[-tail:]}" for n in names]
    return [
        name if short.count(cut) > 1 and len(name) > longest else cut
        for name, cut in zip(names, short, strict=True)
    ]


def covers(font: Font, text: str) -> bool:
    """Whether a font has all letters of a text."""
    return all(c == " " or _has(font, c) for c in set(text))


@functools.lru_cache(maxsize=4096)
def _has(font: Font, letter: str) -> bool:
    return _glyph(font, letter) != _glyph(font, _NO_LETTER)


@functools.lru_cache(maxsize=8)
def _plain(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _glyph(font: Font, letter: str) -> tuple:
    mask = font.getmask(letter)
    return mask.size, bytes(mask), font.getlength(letter)


def _visible(text: str) -> str:
    """`text` with signs that cannot be seen as code points, and what looks like one as well."""
    return "".join(
        _code(c)
        if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cn", "Co")
        or (c.isspace() and c != " ")
        or text.startswith("<U+", i)
        else c
        for i, c in enumerate(text)
    )


def _code(letter: str) -> str:
    return f"<U+{ord(letter):04X}>"


@functools.lru_cache(maxsize=256)
def _font_file(letters: frozenset[str]) -> str | None:
    """The file of a font of the system that has all `letters`."""
    for file in (*_FONTS.get(sys.platform, ()), *_by_fontconfig(letters)):
        try:
            if Path(file).is_file() and covers(ImageFont.truetype(file, 16), "".join(letters)):
                return file
        except OSError:  # no font that Pillow can read
            continue
    return None


def _by_fontconfig(letters: frozenset[str]) -> list[str]:
    """What fontconfig takes for the best fonts for these letters, if it is there."""
    if (command := shutil.which("fc-match")) is None:
        return []
    charset = " ".join(f"{ord(c):x}" for c in sorted(letters))
    try:
        done = subprocess.run(
            [command, "-s", "-f", "%{file}\n", f":charset={charset}"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()[:8]


def upwards(
    picture: Image.Image,
    text: Text,
    place: tuple[int, int],
    color: Color,
    paper: Color,
) -> None:
    """Text that runs upwards from `place`: x of the middle of its line, y of its beginning."""
    middle, bottom = place
    length = -int(-text.width // 1)
    height = -int(-1.4 * getattr(text.font, "size", 12) // 1)  # without FreeType: one size
    strip = Image.new("RGB", (length, height), paper)
    text.draw(ImageDraw.Draw(strip), (0, height // 2), color, "lm")
    picture.paste(strip.rotate(90, expand=True), (middle - height // 2, bottom - length))
