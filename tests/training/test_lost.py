"""An abort because another process is gone; with two processes: `test_interrupted_command.py`."""

import signal
import subprocess
import sys

import pytest

from sdnjax.training.lost import _Signs


@pytest.mark.parametrize(
    ("who", "status", "said"),
    [
        ("'process 3'", 75, "stopped: process 3 is gone; what was saved is safe"),
        ("None", -signal.SIGABRT, ""),
        ("1 / 0", -signal.SIGABRT, ""),
    ],
)
def test_an_abort_is_explained_if_somebody_is_gone(who, status, said):
    """By another thread, while the main one is busy, as the runtime's are."""
    code = (
        "import ctypes, threading\n"
        "from sdnjax.training.lost import catch_abort\n"
        f"catch_abort(lambda: {who})\n"
        "threading.Thread(target=ctypes.CDLL(None).abort, daemon=True).start()\n"
        "while True: pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(said) and bool(done.stderr) == bool(said)


def test_who_is_silent_is_measured_by_the_latest_word():
    signs = _Signs(0, 1.0)
    assert signs.silent(5) == []
    signs._seen = {0: ("9", 100.0), 1: ("9", 99.0), 2: ("4", 90.0)}
    assert signs.silent(5) == [2]
    # If this process itself saw nothing for long, nobody is to blame.
    signs._seen = {0: ("9", 50.0), 1: ("9", 50.0), 2: ("9", 49.0)}
    assert signs.silent(5) == []
