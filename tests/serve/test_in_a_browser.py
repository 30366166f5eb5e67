"""The page in Chromium, where there is one: a picture is dropped, pointed at and compared."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

from tests.browser import CHROMIUM, Browser
from tests.serve.made import CLASSES, PALETTE, network, served

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
GREY = 100


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def address():
    with served(network(), network("second, of a name that is rather long", 1)) as address:
        yield address


@pytest.fixture
def page(browser, address, tmp_path):
    """The browser with a grey picture of 30×20 pixels on the page, left and right two classes."""
    browser.errors.clear()
    browser.loaded.clear()
    return opened(browser, address, tmp_path)


def opened(browser, address, folder, **how):
    browser.screen(**{"width": 1200, "height": 900, **how})
    browser.open(address)
    browser.wait("document.title.startsWith('first')")
    Image.fromarray(np.full((20, 30, 3), GREY, np.uint8)).save(folder / "grey.png")
    browser.drop(folder / "grey.png", *browser.middle(".drop"))
    # Until every network has answered.
    browser.wait("!document.querySelector('#view').hidden")
    browser.wait("document.querySelector('#status').hidden")
    return browser


def pixel(page, x, y):
    """What is drawn at a pixel of the picture."""
    page.value("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    get = (
        f"[...document.querySelector('#canvas').getContext('2d').getImageData({x}, {y}, 1, 1).data]"
    )
    return page.value(get)[:3]


def mixed(k, opacity):
    return [round(GREY + opacity * (c - GREY)) for c in PALETTE[k]]


def near(found, expected):
    return np.abs(np.subtract(found, expected)).max() <= 2


def rows(page, selector):
    return page.value(
        f"[...document.querySelectorAll('{selector} table')].map((table) => "
        "[...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent)))"
    )


def set_to(page, selector, value):
    """A slider, as when somebody moves it."""
    page.value(
        f"{{ const slider = document.querySelector('{selector}'); slider.value = {value}; "
        "slider.dispatchEvent(new Event('input', {bubbles: true})); }"
    )


ROAD, SKY, TREE = CLASSES


def test_a_reader_drops_a_picture_and_points_at_it(page):
    assert near(pixel(page, 2, 5), mixed(0, 0.5))  # left of the divider, the first network
    page.move(*page.middle("#canvas", 2.5 / 30, 5.5 / 20))
    assert page.value("document.querySelector('#place').textContent") == "column 2, row 5"
    assert rows(page, "#points") == [
        [[ROAD, "70 %"], [SKY, "25 %"], [TREE, "5 %"]],
        [[SKY, "70 %"], [TREE, "25 %"], [ROAD, "5 %"]],
    ]
    page.move(*page.middle("#canvas", 29.5 / 30, 19.5 / 20))
    assert page.value("document.querySelector('#place').textContent") == "column 29, row 19"
    assert rows(page, "#points")[0] == [[SKY, "90 %"], [TREE, "10 %"], [ROAD, "< 1 %"]]
    assert rows(page, "#legends")[1] == [[SKY, "50 %"], [TREE, "50 %"]]
    page.value("document.querySelector('#zoom').value = 8")
    page.value("document.querySelector('#zoom').dispatchEvent(new Event('change'))")
    assert page.value("document.querySelector('#canvas').offsetWidth") == 8 * 30
    page.move(*page.middle("#canvas", 4.5 / 30, 7.5 / 20))
    assert page.value("document.querySelector('#place').textContent") == "column 4, row 7"
    assert page.errors == []
    own = page.value("location.origin")
    assert len(page.loaded) == 6 and all(url.startswith(own) for url in page.loaded)


def test_opacity_and_boundaries(page):
    set_to(page, "#opacity", 100)
    assert near(pixel(page, 2, 5), PALETTE[0])
    set_to(page, "#opacity", 0)
    assert near(pixel(page, 2, 5), [GREY] * 3)
    page.click(*page.middle("[value=boundaries]"))
    # Between columns 14 and 15: the metric's boundary is the pixel to the left.
    set_to(page, "#split", 1000)
    yellow = [255, 214, 0]
    assert [near(pixel(page, x, 5), yellow) for x in (13, 14, 15)] == [False, True, False]
    page.click(*page.middle("[value=classes]"))
    assert page.value("document.querySelector('#opacity').value") == "0"  # as it was left
    assert page.errors == []


def test_the_slider_and_the_divider_are_between_the_two_results(page):
    assert near(pixel(page, 13, 5), mixed(0, 0.5)) and near(pixel(page, 16, 5), mixed(2, 0.5))
    set_to(page, "#split", 0)
    assert near(pixel(page, 2, 5), mixed(1, 0.5))
    set_to(page, "#split", 500)
    assert near(pixel(page, 2, 5), mixed(0, 0.5))
    page.drag(page.middle("#divider"), page.middle("#canvas", 0.9, 0.5))
    assert near(pixel(page, 16, 5), mixed(1, 0.5)) and near(pixel(page, 28, 5), mixed(2, 0.5))
    assert page.value("Math.abs(document.querySelector('#split').value - 900) <= 5")
    assert page.errors == []


def test_without_a_pointer(page):
    page.value("document.querySelector('#zoom').focus()")
    page.key("Tab")
    assert page.value("document.activeElement.id") == "canvas"
    page.key("ArrowRight")
    page.key("ArrowDown", shift=True)
    assert page.value("document.querySelector('#place').textContent") == "column 16, row 19"
    spoken = page.value("document.querySelector('#spoken').textContent")
    assert spoken.startswith(f"column 16, row 19: first: {SKY}, {SKY} 90 %, {TREE} 10 %")
    page.key("Tab")
    before = page.value("document.querySelector('#split').value")
    page.key("ArrowLeft")
    assert page.value("document.activeElement.id") == "split"
    assert page.value("document.querySelector('#split').value") != before


def test_what_is_wrong_is_said_and_the_last_picture_stays(page, tmp_path):
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7")
    page.drop(tmp_path / "letter.pdf", *page.middle("#canvas"))
    page.wait("document.querySelector('#error').textContent")
    said = page.value("document.querySelector('#error').textContent")
    assert said == "letter.pdf: not an image but a PDF"
    (tmp_path / "large.tif").write_bytes(bytes(100001))
    page.drop(tmp_path / "large.tif", *page.middle("#canvas"))
    page.wait("document.querySelector('#error').textContent.startsWith('large.tif has more than')")
    assert near(pixel(page, 2, 5), mixed(0, 0.5))
    page.drop(tmp_path / "grey.png", *page.middle("#canvas"))
    page.wait("document.querySelector('#error').hidden")


def test_another_picture_takes_the_place_of_one_that_is_not_done(browser, tmp_path):
    go_on, made = threading.Event(), network().segment

    def segment(content, name):
        assert name != "first.png" or go_on.wait(60)
        return made(content, name)

    sizes = {"first.png": (20, 30), "second.png": (10, 40)}
    for name, size in sizes.items():
        Image.fromarray(np.full((*size, 3), GREY, np.uint8)).save(tmp_path / name)
    with served(network(segment=segment)) as address:
        browser.open(address)
        browser.wait("document.title.startsWith('first')")
        browser.drop(tmp_path / "first.png", *browser.middle(".drop"))
        browser.wait("document.querySelector('#status').textContent.includes('first.png')")
        browser.drop(tmp_path / "second.png", *browser.middle(".drop"))
        browser.wait("document.querySelector('#status').textContent.includes('second.png')")
        go_on.set()
        browser.wait("document.querySelector('#note').textContent == '40 × 10 pixels'")
        time.sleep(0.2)  # in which the first would come, if it still did
        assert browser.value("document.querySelector('#canvas').width") == 40
        # One network needs no divider.
        hidden = (
            "['#sides', '#split-label', '#divider'].every((x) => document.querySelector(x).hidden)"
        )
        assert browser.value(hidden)


def test_on_a_phone_nothing_is_wider_than_the_screen(browser, address, tmp_path):
    page = opened(browser, address, tmp_path, width=360, height=740, phone=True, sharpness=2)
    page.move(*page.middle("#canvas"))
    assert page.value("document.documentElement.scrollWidth") == 360
    wide = (
        "[...document.querySelectorAll('body *')].filter((x) => x.getBoundingClientRect().right > "
        "361 && !x.closest('.frame')).map((x) => x.id || x.className)"
    )
    assert page.value(wide) == []
    assert page.value("parseFloat(getComputedStyle(document.querySelector('td')).fontSize)") >= 13


def test_in_the_dark(browser, address, tmp_path):
    for dark, paper in ((False, "rgb(251, 251, 252)"), (True, "rgb(20, 22, 26)")):
        page = opened(browser, address, tmp_path, dark=dark)
        assert page.value("getComputedStyle(document.body).backgroundColor") == paper
