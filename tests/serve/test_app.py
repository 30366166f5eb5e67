"""The server by its addresses: what it answers, to whom, and what it says of what it cannot."""

import asyncio
import socket
import threading

import numpy as np
import pytest

pytest.importorskip("starlette")

from starlette.testclient import TestClient

from sdnjax.errors import InputError
from sdnjax.serve.app import NoMemory, application
from tests.serve.made import CLASSES, network, noise, png, unpacked

HERE = "http://127.0.0.1:8000"


def client(*networks, upload_limit=10**6, names=(), **how):
    app = application(networks or [network()], upload_limit=upload_limit, names=names)
    return TestClient(app, base_url=HERE, headers={"Origin": HERE}, **how)


def failing(segment):
    """A client of a network whose `segment` is a function of its own."""
    return client(network(segment=segment), raise_server_exceptions=False)


def test_the_page_its_parts_and_nothing_else():
    own = client()
    kinds = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
    for path, kind in kinds.items():
        response = own.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
    for path in ("/setup.cfg", "/..%2fapp.py", "/page.js/../app.py", "/networks/x", "/networks/-1"):
        response = own.get(path)
        assert (response.status_code, response.json()) == (404, {"error": "Not Found"})
    assert own.get("/networks/0").status_code == 405
    described = own.get("/networks").json()
    assert described["upload_limit"] == 10**6
    assert described["networks"][0]["classes"] == list(CLASSES)


def test_a_browser_may_load_nothing_from_elsewhere_and_keeps_nothing():
    own = client()
    answers = [own.get("/"), own.get("/nothing"), own.post("/networks/0", content=png(noise()))]
    answers.append(own.get("/", headers={"Host": "evil.example"}))
    for response in answers:
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy and "http" not in policy
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in response.headers


def test_each_network_answers_at_its_own_address():
    own, picture = client(network(), network("second", 1)), noise((4, 6))
    for index in (0, 1):
        response = own.post(f"/networks/{index}?name=a.png", content=png(picture))
        assert response.status_code == 200
        _, labels, classes, percents, boundaries, seen = unpacked(response.content)
        assert labels[0].tolist() == [index] * 3 + [index + 1] * 3
        assert classes[:, 0, 0].tolist() == [index, index + 1, (index + 2) % 3]
        assert percents[:, 0, 0].tolist() == [70, 25, 5]
        assert boundaries[0].tolist() == [0, 0, 1, 0, 0, 0]
        np.testing.assert_array_equal(seen, picture)
    absent = own.post("/networks/2", content=png(picture))
    assert (absent.status_code, absent.json()) == (404, {"error": "there is no network 2"})


def test_an_answer_is_compressed_for_whoever_asks():
    own = client()
    plain = own.post("/networks/0", content=png(noise()), headers={"Accept-Encoding": "identity"})
    packed = own.post("/networks/0", content=png(noise()), headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == "gzip"
    assert plain.content == packed.content


NAMES = ("127.0.0.1", "localhost:9000", "[::1]:8000", "192.168.0.7:8000", "bench.example")
STRANGERS = ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.", "")


@pytest.mark.parametrize("host", [*NAMES, *STRANGERS, socket.gethostname()])
def test_only_names_of_this_machine_are_answered(host):
    """A page that lets its own name point here is not one of this server."""
    own = client(names=["bench.example"])
    headers = {"Host": host, "Origin": f"http://{host}"}
    status = 403 if host in STRANGERS else 200
    assert own.get("/networks", headers=headers).status_code == status
    assert own.post("/networks/0", content=png(noise()), headers=headers).status_code == status


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9", "null", ""])
def test_only_the_page_of_this_server_may_send_pictures(origin):
    def segment(content, name):
        raise AssertionError("the network was asked")

    response = client(network(segment=segment)).post("/networks/0", headers={"Origin": origin})
    assert response.status_code == 403
    assert response.json() == {"error": "only the server's own page may send pictures"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_beyond_the_limit_is_refused(whole):
    content = bytes(2001)
    own = client(upload_limit=2000)
    response = own.post("/networks/0", content=content if whole else iter([content, content]))
    assert response.status_code == 413
    assert response.json()["error"].startswith("the file has more than 0.002 MB: --upload-limit")
    assert own.post("/networks/0", content=content[1:]).status_code == 422


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "a.png: the file is empty"),
        (b"<html>", "a.png: not an image but a page of the web or XML"),
        (png(noise())[:300], "a.png: the image is truncated or damaged"),
        (b"\x93NUMPY\x01\x00", "a.png: the array is damaged"),
    ],
)
def test_what_is_no_picture_is_one_line(content, words):
    response = client().post("/networks/0?name=a.png", content=content)
    assert response.status_code == 422
    line = response.json()["error"]
    assert line.startswith(words) and "\n" not in line


def test_a_name_of_a_file_is_one_short_line():
    response = client().post("/networks/0", params={"name": "a\r\nb\0" + "c" * 999}, content=b"")
    line = response.json()["error"]
    assert line.startswith("a b ccc") and len(line) < 250
    assert client().post("/networks/0").json()["error"].startswith("the picture: ")


def test_errors_have_their_status_and_no_traceback(capsys):
    def no_memory(content, name):
        raise NoMemory(f"{name}: out of memory")

    def defect(content, name):
        raise ZeroDivisionError("secret")

    def unfit(content, name):
        raise InputError(f"{name}: too\nlarge")

    answers = [failing(x).post("/networks/0?name=a") for x in (no_memory, defect, unfit)]
    assert [response.status_code for response in answers] == [503, 500, 422]
    assert [response.json()["error"] for response in answers] == [
        "a: out of memory",
        "the server failed on this picture: its terminal says how",
        "a: too large",
    ]
    err = capsys.readouterr().err
    assert err.count("Traceback") == 1 and "ZeroDivisionError: secret" in err


def test_pictures_come_one_after_another_and_not_any_number_of_them():
    inside, most, begun, go_on = [], [], threading.Event(), threading.Event()
    made = network().segment

    def segment(content, name):
        inside.append(name)
        most.append(len(inside))
        begun.set()
        assert go_on.wait(60)
        inside.remove(name)
        return made(content, name)

    statuses, refused = [], threading.Event()
    with client(network(segment=segment), network("second", segment=segment)) as own:

        def post(index):
            answer = own.post(f"/networks/{index % 2}?name={index}", content=png(noise()))
            statuses.append(answer.status_code)
            refused.set()

        threads = [threading.Thread(target=post, args=(i,)) for i in range(9)]
        threads[0].start()
        assert begun.wait(60)
        for thread in threads[1:]:
            thread.start()
        assert refused.wait(60)  # the ninth, whichever that is, does not wait
        go_on.set()
        for thread in threads:
            thread.join(60)
    assert sorted(statuses) == [200] * 8 + [503]
    assert most == [1] * 8


def test_nothing_is_computed_for_a_page_that_has_gone():
    asked = []
    own = application([network(segment=lambda *x: asked.append(x))], upload_limit=100)
    messages = [{"type": "http.request", "body": b"x"}, {"type": "http.disconnect"}]
    gone_early = [{"type": "http.request", "body": b"x", "more_body": True}, messages[1]]
    headers = [(b"host", b"localhost"), (b"origin", b"http://localhost")]
    scope = {"type": "http", "method": "POST", "path": "/networks/0", "query_string": b""}

    async def send(message):
        assert message.get("status", 400) == 400

    def receiving(left):
        async def receive():
            return left.pop(0)

        return receive

    for left in (messages, gone_early):
        asyncio.run(own({**scope, "headers": headers}, receiving(left), send))
    assert asked == []
