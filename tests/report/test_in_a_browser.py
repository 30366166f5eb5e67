"""The page in Chromium, where there is one: opened, pointed at, sorted, on a phone and in the dark.

A copy of the page gets a script that acts as a reader does and writes what it saw into the page,
which Chromium prints. Debian's package is `chromium`.
"""

import json
import re
import shutil
import subprocess
from html import escape

import pytest

from sdnjax.commands.report import write_report
from tests.report.made import CLASSES, Page, work_directory

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")

ACT = """
const seen = {errors: [], loaded: performance.getEntriesByType("resource").map((x) => x.name)};
addEventListener("error", (event) => seen.errors.push(event.message));
addEventListener("securitypolicyviolation", (event) => seen.errors.push(event.blockedURI));
const tip = document.querySelector(".tip");
function point(svg, x, y) {  // in the drawing's units, at whatever lies on top there
  svg.scrollIntoView({block: "center"});
  const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
  const target = document.elementFromPoint(at.x, at.y);
  const how = {bubbles: true, clientX: at.x, clientY: at.y};
  target.dispatchEvent(new PointerEvent("pointermove", how));
  return tip.hidden ? null : tip.textContent;
}
const [chart] = document.querySelectorAll("svg.chart");
const places = JSON.parse(chart.dataset.series)[0].points;
seen.first = point(chart, places[0][0] + 2, 100);
seen.last = point(chart, places.at(-1)[0] - 2, 100);
const box = tip.getBoundingClientRect();
seen.tipInside = box.left >= 0 && box.right <= innerWidth && box.bottom <= innerHeight;
const matrix = document.querySelector("svg.matrix");
const [margin, size] = JSON.parse(matrix.dataset.grid);
seen.cell = point(matrix, margin + 1.5 * size, margin + 0.5 * size);
seen.beside = point(matrix, 1, 1);
const table = document.querySelector("#classes").parentElement.querySelector("table.sortable");
const column = (i) => [...table.tBodies[0].rows].map((row) => row.cells[i].textContent);
const button = table.querySelectorAll("th button")[1];
seen.orders = [0, 1].map(() => { button.click(); return column(1); });
seen.sorted = button.parentElement.getAttribute("aria-sort");
table.querySelectorAll("th button")[0].click();
seen.names = column(0);
for (const one of document.querySelectorAll("details")) one.open = true;
seen.width = [document.documentElement.scrollWidth, innerWidth];
const right = (x) => x.getBoundingClientRect().right + scrollX;
const wide = (x) => right(x) > innerWidth + 1 && !x.closest(".wide, nav");
seen.wide = [...document.querySelectorAll("body *")].filter(wide).map((x) => x.className);
seen.paper = getComputedStyle(document.body).backgroundColor;
const letters = parseFloat(getComputedStyle(chart.querySelector("text")).fontSize);
seen.letters = letters * chart.getScreenCTM().a;
const result = document.createElement("pre");
result.id = "seen";
result.textContent = JSON.stringify(seen);
document.body.append(result);
"""


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    names = ("a_run_whose_name_is_rather_long_as_names_of_runs_are", "two")
    runs = {x: work_directory(folder / x, seed=i) for i, x in enumerate(names)}
    write_report(runs, folder / "page.html", experiments={}, report=lambda line: None)
    text = (folder / "page.html").read_text()
    return text.replace("</body>", f"<script>{ACT}</script></body>")


def visit(html, tmp_path, *options):
    """What the script saw."""
    path = tmp_path / "page.html"
    path.write_text(html)
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/own"]
    done = subprocess.run(
        [CHROMIUM, *words, *options, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    (seen,) = Page(found[0]).all("pre")
    return json.loads(seen["text"])


def test_a_reader_sees_values_and_sorts_tables(html, tmp_path):
    seen = visit(html, tmp_path, "--window-size=1200,900")
    assert seen["errors"] == [] and seen["loaded"] == []
    assert seen["first"].splitlines()[0] == "step 10" and seen["first"].endswith("two: 2")
    assert seen["last"].splitlines()[0] == "step 30" and seen["last"].endswith("two: 1.5")
    assert seen["cell"].startswith(f"true: {CLASSES[0]}\npredicted: {CLASSES[1]}\n")
    assert re.search(r"[\d.]+ % \(\d+ pixels\)$", seen["cell"])
    assert seen["beside"] is None and seen["tipInside"]
    up, down = ([float(x) for x in order] for order in seen["orders"])
    assert up == sorted(up) and down == up[::-1] and len(set(up)) == 3
    assert seen["sorted"] == "descending"
    assert seen["names"] == list(CLASSES)


def test_on_a_phone_nothing_is_wider_than_the_screen_and_letters_are_legible(html, tmp_path):
    # Chromium's own windows are at least 500 pixels wide, so the page is in a frame of a phone's.
    report = html.replace("document.body.append", "parent.document.body.append")
    frame = "<iframe style='width:360px;height:700px;border:0' srcdoc=\"{}\"></iframe>"
    outside = "<!doctype html><body>" + frame.format(escape(report)) + "</body>"
    seen = visit(outside, tmp_path, "--window-size=600,900")
    assert seen["wide"] == [] and seen["width"][0] <= seen["width"][1] == 360
    assert seen["letters"] >= 9
    assert seen["tipInside"] and seen["errors"] == []


def test_in_the_dark(html, tmp_path):
    light = visit(html, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = visit(html, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert light["paper"] == "rgb(251, 251, 252)"
    assert dark["paper"] == "rgb(20, 22, 26)"
