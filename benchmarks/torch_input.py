"""The training pipeline that PyTorch users have: a DataLoader, OpenCV, mmsegmentation's order.

Every stage works on 8-bit values of the whole scaled image, as there; it imports neither JAX
nor TensorFlow, because the DataLoader's processes import it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

IGNORE = 255


@dataclass(frozen=True)
class Settings:
    """What both pipelines are asked for; sizes are (height, width), base_size (long, short)."""

    crop_size: tuple[int, int]
    base_size: tuple[int, int] | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale_range: tuple[float, float] = (0.5, 2.0)
    max_class_share: float = 0.75


class Examples(Dataset):
    """Pairs of files as training examples, image [3, h, w] float32 and label [h, w] int64."""

    def __init__(self, pairs: list[tuple[str, str]], settings: Settings, decode_only: bool):
        self.pairs, self.settings, self.decode_only = pairs, settings, decode_only

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        image_file, label_file = self.pairs[index]
        image = cv2.imread(image_file, cv2.IMREAD_COLOR)
        label = cv2.imread(label_file, cv2.IMREAD_UNCHANGED)
        if self.decode_only:
            return torch.tensor(image[0, 0, 0]), torch.tensor(label[0, 0])
        rng = np.random.default_rng(torch.randint(2**31, ()).item())
        image, label = resize(image, label, self.settings, rng)
        image, label = crop(image, label, self.settings, rng)
        if rng.random() < 0.5:
            image, label = cv2.flip(image, 1), cv2.flip(label, 1)
        image = distort(image, rng)
        return finish(image, label, self.settings)


def resize(image, label, settings, rng):
    """The whole image and its label, by a random factor."""
    h, w = label.shape
    factor = rng.uniform(*settings.scale_range)
    if settings.base_size is not None:
        long, short = settings.base_size
        factor *= min(long / max(h, w), short / min(h, w))
    size = int(w * factor + 0.5), int(h * factor + 0.5)
    image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return image, cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)


def crop(image, label, settings, rng):
    """A window in which no class has more than its share, if one is found in ten tries."""
    h, w = settings.crop_size

    def window():
        top = rng.integers(max(label.shape[0] - h, 0) + 1)
        left = rng.integers(max(label.shape[1] - w, 0) + 1)
        return slice(top, top + h), slice(left, left + w)

    place = window()
    for _ in range(10):
        values, counts = np.unique(label[place], return_counts=True)
        counts = counts[values != IGNORE]
        if len(counts) > 1 and counts.max() / counts.sum() < settings.max_class_share:
            break
        place = window()
    return image[place], label[place]


def distort(image, rng):
    """Brightness, contrast, saturation, hue of a BGR image, each half the time."""
    if rng.random() < 0.5:
        image = _linear(image, shift=rng.uniform(-32, 32))
    contrast_first = rng.random() < 0.5
    if contrast_first and rng.random() < 0.5:
        image = _linear(image, factor=rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 1] = _linear(hsv[..., 1], factor=rng.uniform(0.5, 1.5))
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if rng.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + rng.integers(-18, 18)) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if not contrast_first and rng.random() < 0.5:
        image = _linear(image, factor=rng.uniform(0.5, 1.5))
    return image


def _linear(values, factor=1.0, shift=0.0):
    return np.clip(values.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)


def finish(image, label, settings):
    """Normalised, padded, channels first."""
    image = cv2.cvtColor(image.astype(np.float32), cv2.COLOR_BGR2RGB)
    cv2.subtract(image, np.float64(settings.mean)[None], image)
    cv2.multiply(image, 1 / np.float64(settings.std)[None], image)
    below, beside = (c - s for c, s in zip(settings.crop_size, label.shape, strict=True))
    if below or beside:
        border = (0, below, 0, beside, cv2.BORDER_CONSTANT)
        image = cv2.copyMakeBorder(image, *border, value=(0, 0, 0))
        label = cv2.copyMakeBorder(label, *border, value=IGNORE)
    image = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return image, torch.from_numpy(label.astype(np.int64))


def batches(pairs, settings: Settings, *, batch_size: int, workers: int, decode_only=False):
    """An endless iterator of batches made by `workers` processes."""
    examples = Examples(pairs, settings, decode_only)
    loader = DataLoader(
        examples,
        batch_size,
        sampler=torch.utils.data.RandomSampler(examples, replacement=True, num_samples=10**6),
        num_workers=workers,
        worker_init_fn=_one_thread,
        multiprocessing_context="spawn",
        persistent_workers=True,
    )
    return iter(loader)


def _one_thread(worker: int) -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
