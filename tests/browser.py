"""Chromium as people use it: real pointers, keys and files, sizes of screens, pictures of a page.

It is asked in the DevTools protocol, through a pair of pipes. Debian's package is `chromium`.
"""

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

# Chromium reads commands from its descriptor 3 and writes answers to 4.
_START = """
import fcntl, os, sys
read, write = (fcntl.fcntl(int(x), fcntl.F_DUPFD, 5) for x in sys.argv[1:3])
os.dup2(read, 3)
os.dup2(write, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page, inside a `with`; `errors` are what went wrong, `loaded` what it asked for."""

    def __init__(self, profile):
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        words += [f"--user-data-dir={profile}", "--no-first-run", "--hide-scrollbars"]
        down, up = os.pipe(), os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(down[0]), str(up[1]), CHROMIUM, *words],
            pass_fds=(down[0], up[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(down[0])
        os.close(up[1])
        self._write, self._read = os.fdopen(down[1], "wb", 0), os.fdopen(up[0], "rb")
        self._numbers, self._session = itertools.count(1), None
        self.errors, self.loaded, self._complete = [], [], set()

    def __enter__(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        return self

    def __exit__(self, *error):
        self._write.close()
        self._process.terminate()
        self._process.wait(20)
        self._read.close()

    def call(self, method, **parameters):
        """The result of a command; what happens meanwhile is noted."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _next(self):
        data = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            data += byte
        return json.loads(data)

    def _note(self, event):
        values = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(values["exceptionDetails"]["exception"].get("description"))
        elif event.get("method") == "Log.entryAdded" and values["entry"]["level"] == "error":
            self.errors.append(f"{values['entry']['text']} {values['entry'].get('url', '')}")
        elif event.get("method") == "Network.requestWillBeSent":
            self.loaded.append(values["request"]["url"])
        elif event.get("method") == "Page.lifecycleEvent" and values["name"] == "load":
            self._complete.add(values["loaderId"])

    def screen(self, width, height, *, dark=False, phone=False, sharpness=1):
        """Size in CSS pixels, colours, and whether it is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": sharpness, "mobile": phone},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url):
        loader = self.call("Page.navigate", url=url)["loaderId"]
        while loader not in self._complete:
            self._note(self._next())

    def value(self, expression):
        """What an expression of JavaScript comes to."""
        how = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        result = self.call("Runtime.evaluate", **how)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, expression, seconds=180):
        """Until an expression is true."""
        end = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} is not true yet; {self.errors}"
            time.sleep(0.05)

    def middle(self, selector, x=0.5, y=0.5):
        """A point of an element, as shares of its width and height, on the screen."""
        box = self.value(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [b.x, b.y, b.width, b.height]; })()"
        )
        return box[0] + x * box[2], box[1] + y * box[3]

    def move(self, x, y, *, pressed=False):
        held = {"button": "left", "buttons": 1} if pressed else {}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, **held)

    def drag(self, start, end):
        """With the left button from one point to another."""
        left = {"button": "left", "buttons": 1, "clickCount": 1}
        self.move(*start)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **left)
        self.move(*end, pressed=True)
        left["buttons"] = 0
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **left)

    def click(self, x, y):
        self.drag((x, y), (x, y))

    def drop(self, file, x, y):
        """A file from outside, let go at a point."""
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def key(self, key, *, shift=False):
        code = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}[key]
        how = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **how)
        self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def picture(self):
        """The screen as a PNG file's bytes."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
