"""The pictures of pages in the documents, taken with Chromium.

    python -m tests.screenshots serve docs/figures/serve.png RUN [RUN]
    python -m tests.screenshots report docs/figures/report.png RUN [RUN …]

Of networks that were trained on `shapes`, such as those of `make demo`: runs/demo/none/seed0.
"""

import io
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

import sdnjax
from sdnjax.commands.compilation_cache import keep_compiled_functions
from sdnjax.commands.report import write_report
from sdnjax.commands.serve import as_served
from sdnjax.commands.workdir import load_experiment
from sdnjax.data.sets.scenes import render_scene
from tests.browser import Browser
from tests.serve.made import served


def of_serve(runs, folder, browser):
    """A scene as two networks see it, the pointer near a boundary."""
    picture, _ = render_scene(1, 3, size=(288, 384))
    Image.fromarray(picture).save(folder / "scene.png")
    networks = {Path(run).name: sdnjax.load(run) for run in runs}
    functions = as_served(networks, threading.Lock())
    with served(*functions, upload_limit=10**7) as address:
        browser.screen(1280, 830)
        browser.open(address)
        browser.wait("document.querySelector('#about').textContent")
        browser.drop(folder / "scene.png", *browser.middle(".drop"))
        browser.wait("!document.querySelector('#view').hidden", 600)
        browser.wait("document.querySelector('#status').hidden", 600)
        browser.move(*browser.middle("#canvas", 0.32, 0.5))
        return browser.picture()


def of_report(runs, folder, browser):
    """The beginning of a report."""
    named = {Path(run).name: Path(run) for run in runs}
    own = {name: load_experiment(path) for name, path in named.items()}
    write_report(named, folder / "report.html", experiments=own)
    browser.screen(1280, 1100)
    browser.open((folder / "report.html").as_uri())
    return browser.picture()


def main(kind, out, *runs):
    keep_compiled_functions()
    with tempfile.TemporaryDirectory() as made, Browser(f"{made}/profile") as browser:
        content = {"serve": of_serve, "report": of_report}[kind](runs, Path(made), browser)
    # 256 colours are enough for a document, and a third of the bytes.
    Image.open(io.BytesIO(content)).convert("RGB").quantize(256).save(out, optimize=True)
    print(f"{out}: {Path(out).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
