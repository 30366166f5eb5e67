"""EfficientNet-Lite in PyTorch under the names of `efficientnet-lite-pytorch`, padded as there."""

import math

import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional


class SameConv(nn.Conv2d):
    """Padded so that the output has ⌈size / stride⌉ pixels, the odd pixel on the far side."""

    def forward(self, x):
        pads = []
        for size, k, s in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((math.ceil(size / s) - 1) * s + k - size, 0)
            pads += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, pads), self.weight, None, self.stride, 0, 1, self.groups)


def norm(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class Block(nn.Module):
    def __init__(self, channels, features, kernel_size, stride, expansion):
        super().__init__()
        width = channels * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and channels == features
        if self.expands:
            self._expand_conv = SameConv(channels, width, 1, bias=False)
            self._bn0 = norm(width)
        self._depthwise_conv = SameConv(width, width, kernel_size, stride, groups=width, bias=False)
        self._bn1 = norm(width)
        self._project_conv = SameConv(width, features, 1, bias=False)
        self._bn2 = norm(features)

    def forward(self, x):
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.adds else y


class EfficientNetLite(nn.Module):
    """`groups` are rows of (blocks, kernel size, stride, expansion, features)."""

    def __init__(self, groups, num_classes=1000):
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, 32, 3, 2, bias=False), norm(32)
        self._blocks, channels = nn.ModuleList(), 32
        for blocks, kernel_size, stride, expansion, features in groups:
            for b in range(blocks):
                self._blocks.append(
                    Block(channels, features, kernel_size, stride if b == 0 else 1, expansion)
                )
                channels = features
        self._conv_head, self._bn1 = SameConv(channels, 1280, 1, bias=False), norm(1280)
        self._fc = nn.Linear(1280, num_classes)

    def forward(self, x):
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        x = F.relu6(self._bn1(self._conv_head(x)))
        return self._fc(x.mean((2, 3)))
