"""What a user of the wheel does in an empty folder, command after command.

    python tests/use_wheel.py dist/sdnjax-0.1.0-py3-none-any.whl

with the Python of a new environment that has the wheel and what it requires; `[train]` and
`[serve]` are added on the way. Run by `make test-wheel`. It prints what it runs, and ends at the
first failure.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.request import urlopen

import numpy as np
from PIL import Image

RUN = "runs/shapes_fcn_r18_sdn"
SMALL = ("--steps", "2", "--batch_size", "2", "--data.crop_size", "32,32", "--tensorboard=false")

NO_TENSORFLOW = """
import sys
import sdnjax
from sdnjax.models import create_model
create_model("fcn_r18-d8", num_classes=3, neck="sdn")
assert not {"tensorflow", "torch"} & set(sys.modules)
"""

LOAD = """
import sys
import sdnjax
network = sdnjax.load("runs/shapes_fcn_r18_sdn")
result = network("street.png")
assert result.labels.shape == (40, 56), result.labels.shape
result.overlay().save("overlay.png")
network.save_pretrained("saved")
again = sdnjax.load("saved")("street.png")
assert (again.labels == result.labels).all()
assert not {"tensorflow", "torch"} & set(sys.modules)
"""

EXPORTED = """
import sys
import jax, numpy as np
from jax import export
from PIL import Image
with open("net.stablehlo", "rb") as file:
    exported = jax.jit(export.deserialize(bytearray(file.read())).call)
labels = exported(np.asarray(Image.open("street.png"))[None])["labels"]
assert labels.shape == (1, 40, 56), labels.shape
assert "sdnjax" not in sys.modules
"""


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
        Image.fromarray(noise).save(here / "street.png")

        # Without TensorFlow: the library, configurations by name, conversion.
        python(here, "-c", NO_TENSORFLOW)
        sdnjax(here, "--help", said="sdnjax train CONFIG")
        sdnjax(here, "train", "shapes_fcn_r18_sd", status=2, said="shapes_fcn_r18_sdn")
        sdnjax(here, "train", "shapes_fcn_r18", status=2, said="sdnjax[train]")
        sdnjax(here, "convert", "inspect", "fcn_r18-d8", said="multiply-adds")

        install(f"{wheel}[train,serve]")
        sdnjax(here, "train", "shapes_fcn_r18_sdn", *SMALL, said="step 2/2")
        sdnjax(here, "eval", RUN, said="mIoU")
        sdnjax(here, "predict", RUN, "street.png")
        assert (here / RUN / "predictions" / "street_labels.png").is_file()
        python(here, "-c", LOAD)
        sdnjax(here, "export", RUN, "net.stablehlo", "--size", "40,56")
        python(here, "-c", EXPORTED)
        sdnjax(here, "report", RUN)
        assert "</html>" in (here / RUN / "report.html").read_text()
        serve(here)
    print("the wheel does what it should")


def install(what: str) -> None:
    print("install", what, flush=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install"]
    subprocess.run([*pip, what], check=True)


def sdnjax(folder: Path, *words: str, status: int = 0, said: str = "") -> None:
    """The console command, whose status and output are looked at."""
    _run(folder, [str(Path(sys.executable).parent / "sdnjax"), *words], status, said)


def serve(folder: Path) -> None:
    """The page and the networks that it asks for, and Ctrl-C."""
    words = [str(Path(sys.executable).parent / "sdnjax"), "serve", RUN, "--port", "0"]
    print("sdnjax serve", flush=True)
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = re.search(r"http://\S+", server.stdout.readline())[0]
            for path, said in (("", "</html>"), ("page.js", "networks"), ("networks", "shapes")):
                with urlopen(address + path, timeout=60) as answer:
                    assert said in answer.read().decode(), path
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 130, server.returncode
        finally:
            server.kill()


def python(folder: Path, *words: str) -> None:
    _run(folder, [sys.executable, *words], 0, "")


def _run(folder: Path, words: list[str], status: int, said: str) -> None:
    shown = " ".join(words[1:3]) if words[1] != "-c" else words[2].strip().splitlines()[-1]
    begin = time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    print(f"{Path(words[0]).name} {shown}: {time.perf_counter() - begin:.1f} s", flush=True)
    output = done.stdout + done.stderr
    if done.returncode != status or said not in output:
        sys.exit(f"status {done.returncode}, wanted {status} and {said!r} in:\n{output}")


if __name__ == "__main__":
    main()
