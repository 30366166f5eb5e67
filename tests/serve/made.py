"""Networks that are functions, and an answer read back."""

import contextlib
import io
import json
import threading

import numpy as np
import uvicorn
from PIL import Image

from sdnjax.data.reading.images import decode_image
from sdnjax.serve.answer import Segmented
from sdnjax.serve.app import Network, application

CLASSES = ("road", "<b>sky</b>", "tree & bush")
PALETTE = ((128, 64, 128), (70, 130, 180), (0, 128, 0))


def network(name="first", shift=0, **changes):
    """Left is class `shift` with 70 %, right the next with 90 %."""

    def segment(content, file):
        picture = decode_image(content, file)
        height, width = picture.shape[:2]
        right = np.broadcast_to(np.arange(width) >= width // 2, (height, width)).astype(int)
        labels = (shift + right) % 3
        classes = np.stack([labels, (labels + 1) % 3, (labels + 2) % 3], -1)
        percents = np.array([(70, 25, 5), (90, 10, 0)])[right]
        likeliest = np.stack([classes, percents], -2).astype(np.uint16)
        return Segmented(picture, labels.astype(np.uint8), likeliest)

    values = {"about": "made, step 7", "classes": CLASSES, "palette": PALETTE, "segment": segment}
    return Network(name, **{**values, **changes})


def unpacked(content):
    """An answer as (description, labels, classes, percents, boundaries, picture)."""
    length = int.from_bytes(content[:4], "little")
    description = json.loads(content[4 : 4 + length])
    h, w = description["size"]
    n, at = description["likeliest"], 4 + length
    assert at % 8 == 0
    arrays = []
    label = np.uint16 if description["wide"] else np.uint8
    for shape, kind in (((h, w), label), ((n, h, w), label), ((n, h, w), np.uint8)):
        count = int(np.prod(shape))
        arrays.append(np.frombuffer(content, kind, count, at).reshape(shape))
        at += arrays[-1].nbytes
    boundaries = np.frombuffer(content, np.uint8, h * w, at).reshape(h, w)
    image = Image.open(io.BytesIO(content[at + h * w :]))
    assert Image.MIME[image.format] == description["picture"]
    return description, *arrays, boundaries, np.asarray(image)


def png(picture):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


def noise(size=(20, 30), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


@contextlib.contextmanager
def served(*networks, upload_limit=10**5):
    """A server of networks for as long as the `with` lasts: its address."""
    app = application(networks, upload_limit=upload_limit)
    config = uvicorn.Config(
        app, port=0, log_config=None, log_level="critical", lifespan="off", loop="asyncio"
    )
    config.load()
    listening = config.bind_socket()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join(60)
