"""How far a pass over pictures has come: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

_SECONDS = 10.0  # between lines


def counted(
    items: Iterable[T],
    total: int,
    what: str,
    report: Callable[[str], None],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[T]:
    """The items, while their count, rate and remaining time are shown.

    Args:
      total: how many there are.
      what: what is done, such as "validation".
      report: takes a line every ten seconds where there is no terminal. The first tells
        that it has begun, because compiling comes before the first picture is done.
    """
    with tqdm(
        total=total, desc=what, unit="image", dynamic_ncols=True, disable=None, leave=False
    ) as bar:
        begin = last = clock()
        if bar.disable:
            report(f"{what}: {total} images ...")
        first_done = begin
        for done, item in enumerate(items):
            now = clock()
            if done == 1:
                first_done = now
            if bar.disable and now - last >= _SECONDS and done:
                # The first one's time is mostly compilation and would spoil the estimate.
                seconds = (now - first_done) / (done - 1) if done > 1 else now - begin
                left = tqdm.format_interval(seconds * (total - done))
                report(f"{what}: {done} of {total} images, {left} left")
                last = now
            yield item
            bar.update()
