"""serve.py: options change what they say, networks answer as `sdnjax.load` does, and it ends."""

import dataclasses
import io
import pickle
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")

import uvicorn
from starlette.testclient import TestClient

import sdnjax
from sdnjax.commands.serve import as_served
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from tests.commands.loaded import CLASSES, picture, seen, tiny, trained
from tests.serve.made import png, unpacked


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two networks in folders of their own, which need code; the second has other class names."""
    folder = tmp_path_factory.mktemp("runs")
    network = tiny(folder)
    network.save_pretrained(folder / "one")
    other = dataclasses.replace(network, classes=("a", "b", "c"), step=9)
    other.save_pretrained(folder / "two")
    return folder


@pytest.fixture
def serve(call, monkeypatch):
    """serve.py up to where it would wait: (status, output, error output, a client)."""

    def serve(*words, **how):
        found = {}

        def run(self, sockets):
            found["app"] = self.config.app
            (found["socket"],) = sockets
            sockets[0].close()

        monkeypatch.setattr(uvicorn.Server, "run", run)
        result = call("serve.py", *words, "--port", how.pop("port", 0))
        here = "http://127.0.0.1"
        app = found.get("app")
        return *result, app and TestClient(app, base_url=here, headers={"Origin": here}, **how)

    return serve


def answer(client, content, index=0, name="street.png"):
    response = client.post(f"/networks/{index}", params={"name": name}, content=content)
    assert response.status_code == 200, response.json()
    return unpacked(response.content)


def test_a_run_answers_as_the_loaded_network_does(runs, serve):
    status, out, err, client = serve(runs / "one", "--trust-code")
    assert (status, err) == (0, "")
    assert out.startswith("one at http://127.0.0.1:") and out.endswith("/ (Ctrl-C ends)\n")
    described = client.get("/networks").json()
    assert described["upload_limit"] == 100_000_000
    (network,) = described["networks"]
    assert network["classes"] == list(CLASSES) and network["about"].endswith("step 7")
    expected = sdnjax.load(runs / "one", trust_code=True)(picture(), probabilities=True)
    description, labels, classes, percents, _, shown = answer(client, png(picture()))
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_array_equal(shown, picture())
    probabilities = expected.probabilities()
    for y, x in ((0, 0), (17, 33)):
        for k, percent in zip(classes[:, y, x], percents[:, y, x], strict=True):
            assert abs(percent - 100 * probabilities[y, x, k]) <= 0.501
    assert description["likeliest"] == 3


def test_two_runs_keep_their_classes_and_share_the_settings(runs, serve):
    words = (runs / "one", runs / "two", "--trust-code", "--evaluation.flip", "true")
    status, out, err, client = serve(*words)
    assert (status, err) == (0, "") and out.startswith("one and two at ")
    first, second = client.get("/networks").json()["networks"]
    assert (first["classes"], second["classes"]) == (list(CLASSES), ["a", "b", "c"])
    assert second["about"].endswith("step 9")
    loaded = sdnjax.load(runs / "one", trust_code=True)
    plain, mirrored = (loaded, seen(loaded, flip=True))
    percents = [answer(client, png(picture()), index)[3] for index in (0, 1)]
    np.testing.assert_array_equal(*percents)
    for network, same in ((mirrored, True), (plain, False)):
        expected = network(picture(), probabilities=True).probabilities().max(-1)
        assert (np.abs(percents[0][0] - 100 * expected).max() <= 0.501) == same


def test_options_change_what_they_say(runs, serve):
    words = ("--trust-code", "--upload-limit", "0.005", "--data.max_pixels", "2000")
    _, _, _, client = serve(runs / "one", *words)
    assert client.get("/networks").json()["upload_limit"] == 5000
    too_large = client.post("/networks/0", content=bytes(5001))
    assert too_large.status_code == 413
    many = client.post("/networks/0", content=png(np.zeros((40, 56, 3), np.uint8)))
    assert many.status_code == 422
    assert "has 56×40 pixels, more than data.max_pixels 2000" in many.json()["error"]


def test_large_pictures_need_to_be_asked_for(runs, serve):
    """2²⁶ pixels, where predict.py takes 2²⁸: a megabyte can unpack to gigabytes."""
    buffer = io.BytesIO()
    Image.new("1", (2**13, 2**13 + 1)).save(buffer, "PNG")
    _, _, _, client = serve(runs / "one", "--trust-code")
    response = client.post("/networks/0", content=buffer.getvalue())
    assert response.status_code == 422 and "data.max_pixels 67108864" in response.json()["error"]


def test_a_picture_is_turned_as_the_camera_says_unless_told_otherwise(runs, serve):
    buffer, tags = io.BytesIO(), Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(picture((24, 40))).save(buffer, "JPEG", exif=tags)
    for words, size in (((), [40, 24]), (("--data.exif_orientation", "stored"), [24, 40])):
        _, _, _, client = serve(runs / "one", "--trust-code", *words)
        assert answer(client, buffer.getvalue())[0]["of"] == size


def test_nothing_in_an_array_is_executed(runs, serve, tmp_path):
    class Payload:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|O", "fortran_order": False, "shape": (1, 1)}
    )
    _, _, _, client = serve(runs / "one", "--trust-code")
    response = client.post("/networks/0", content=buffer.getvalue() + pickle.dumps(Payload()))
    assert response.status_code == 422 and not (tmp_path / "executed").exists()


def test_networks_of_other_bands(tmp_path):
    own = tiny(tmp_path).experiment
    four = {"channels": 4, "mean": (1.0,) * 4, "std": (2.0,) * 4, "photometric": False}
    data = dataclasses.replace(own.data, **four)
    (served,) = as_served({"four": trained(dataclasses.replace(own, data=data))}, threading.Lock())
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8))
    assert served.segment(buffer.getvalue(), "a.npy").picture.shape == (20, 24, 4)
    with pytest.raises(InputError, match=r"a\.png has 3 band\(s\), data\.channels is 4"):
        served.segment(png(picture()), "a.png")


def test_networks_that_need_more_than_pictures_or_read_them_otherwise(tmp_path, monkeypatch):
    network = tiny(tmp_path)
    own: Experiment = network.experiment
    stored = dataclasses.replace(own.data, exif_orientation="stored")
    other = dataclasses.replace(network, experiment=dataclasses.replace(own, data=stored))
    with pytest.raises(InputError, match=r"a and b turn pictures differently: --data\.exif"):
        as_served({"a": network, "b": other}, threading.Lock())
    monkeypatch.setattr("sdnjax.inference.predictor.inputs_of", lambda network: ("label",))
    with pytest.raises(InputError, match="an oracle that reads labels"):
        as_served({"a": network}, threading.Lock())


def test_mistakes_are_one_line(runs, serve, monkeypatch):
    one = runs / "one"
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    for words, line in (
        ((), "name the run first: python serve.py RUN [OTHER_RUN]; --help shows all"),
        ((one,), "--trust-code"),
        ((runs / "on",), "no such folder; did you mean"),
        ((one, "--trust-code", "--port", "x"), "must be a whole number from 0 to 65535, not 'x'"),
        ((one, "--trust-code", "--port", port), f"port {port} of 127.0.0.1 (Address already in"),
        ((one, "--trust-code", "--host", "a..b"), "no machine of this name"),
        ((one, "--trust-code", "--upload-limit", "0"), "must be megabytes above 0"),
        ((one, runs / "one/.", "--trust-code"), "is the same run twice"),
        ((one, "--trust-code", "--data.on_bad_image", "skip"), "has no effect on this command"),
        ((one, "--trust-code", "--step", "3"), "holds the network of step 7 alone"),
    ):
        own = {"port": words[-1]} if "--port" in words else {}
        status, _, err, client = serve(*(words[:-2] if own else words), **own)
        assert (status, client) == (2, None)
        assert line in err and err.count("\n") == 1, err
    taken.close()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err, client = serve(one, "--trust-code")
    assert (status, err) == (
        2,
        "error: serving needs Starlette and uvicorn: pip install 'sdnjax[serve]'\n",
    )


def test_whoever_lets_other_machines_in_is_told_so(runs, serve):
    status, out, _, client = serve(runs / "one", "--trust-code", "--host", "0.0.0.0")
    assert status == 0
    address, warning = out.splitlines()
    assert address.startswith(f"one at http://{socket.gethostname()}:")
    assert warning.startswith("WARNING: 0.0.0.0 is reachable from other machines: whoever ")
    assert client.get("/", headers={"Host": "192.168.0.7"}).status_code == 200


SLOW = """
import sys, threading, time
import sdnjax.commands.serve as serve
from sdnjax.__main__ import main

def slow(*_):
    print("begun", flush=True)
    time.sleep(300)

serve.decode_image = slow
main_status = main()
sys.exit(main_status)
"""


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_at_once_and_in_one_line(runs, busy):
    words = ["serve", str(runs / "one"), "--trust-code", "--port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = process.stdout.readline().split()[2]
        urllib.request.urlopen(address, timeout=60).close()
        if busy:
            headers = {"Origin": address.rstrip("/")}
            asked = urllib.request.Request(f"{address}networks/0", b"x", headers)

            def post():
                with pytest.raises(OSError):
                    urllib.request.urlopen(asked, timeout=60)

            thread = threading.Thread(target=post)
            thread.start()
            assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    if busy:
        thread.join(60)
