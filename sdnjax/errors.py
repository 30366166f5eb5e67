"""The errors that entry points turn into a single line and a non-zero exit.

Anything else that is raised is a defect of the library and keeps its traceback.
"""

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class InputError(ValueError):
    """A mistake in what the user gave: a path, a file, a setting. Exit status 2.

    The message is one line. It names the file or key and says what would be right.
    """


class RunError(RuntimeError):
    """A run that cannot go on: a loss that is no number, a full disk. Exit status 1.

    The message is one line. It says what happened, where, and what is safe.
    """


@contextlib.contextmanager
def as_one_line(what: str, otherwise: str = "") -> Iterator[None]:
    """An InputError "WHAT: reason" of whatever is raised inside: by a client of a cloud, say.

    `otherwise` follows the reason.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{what}: {reason}{otherwise}") from error


def unknown(
    what: str, word: str, known: Iterable[str], *, most: int = 1, otherwise: str = ""
) -> InputError:
    """The error "WHAT 'word'; did you mean …?", with all of `known` when none is close.

    `otherwise` replaces that list, for long ones.
    """
    known = list(known)
    hint = did_you_mean(word, known, most) or otherwise or f"; there are {', '.join(known)}"
    return InputError(f"{what} {word!r}{hint}")


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """`; did you mean …?` for the closest of `known`, or nothing when none is close."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=most, cutoff=0.6)
    if not close:  # a forgotten section: crop_size for data.crop_size
        tail = word.lstrip("-").rpartition(".")[2]
        tails = {k.lstrip("-").rpartition(".")[2]: k for k in known}
        close = [tails[t] for t in difflib.get_close_matches(tail, tails, n=1, cutoff=0.6)]
    return f"; did you mean {' or '.join(close)}?" if close else ""
