"""CamVid in the SegNet layout: `{split}/NAME.png` and `{split}annot/NAME.png`."""

from __future__ import annotations

from pathlib import Path

from sdnjax.data.layouts.layout import Layout, Pair, matched


def splits(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        return ()
    folders = {p.name for p in root.iterdir() if p.is_dir()}
    return tuple(sorted(f for f in folders if f + "annot" in folders))


def pairs(root: Path, split: str) -> list[Pair]:
    images, labels = root / split, root / f"{split}annot"
    return matched(
        {p.stem: p for p in images.glob("*.png")},
        {p.stem: p for p in labels.glob("*.png")},
        lambda name: images / f"{name}.png",
        lambda name: labels / f"{name}.png",
    )


CAMVID = Layout(
    expected="train/*.png with trainannot/*.png, val/*.png with valannot/*.png",
    splits=splits,
    pairs=pairs,
    counts={"train": 367, "val": 101, "test": 233},
)
