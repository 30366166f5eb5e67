"""DifNet and Sim-Deeplab stated in PyTorch, with the names of the authors' checkpoints."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
WIDTHS, STRIDES, DILATIONS = (64, 128, 256, 512), (1, 2, 1, 1), (1, 1, 2, 4)


class Basic(nn.Module):
    expansion = 1

    def __init__(self, given, width, stride, dilation, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(given, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottle(nn.Module):
    expansion = 4

    def __init__(self, given, width, stride, dilation, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(given, width, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = shortcut

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class Seeds(nn.Module):
    """The sum of dilated classifiers."""

    def __init__(self, given, classes, dilations):
        super().__init__()
        self.conv2d_list = nn.ModuleList(
            nn.Conv2d(given, classes, 3, padding=d, dilation=d) for d in dilations
        )

    def forward(self, x):
        return sum(layer(x) for layer in self.conv2d_list)


class Body(nn.Module):
    """DifNet's ResNet; with classes, the classifier too."""

    def __init__(self, depth, classes=None, dilations=(6, 12, 18, 24), blocks=None):
        super().__init__()
        block = Basic if depth < 50 else Bottle
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        given = 64
        for s, count in enumerate(blocks or DEPTHS[depth]):
            layers = []
            for b in range(count):
                stride, width = STRIDES[s] if b == 0 else 1, WIDTHS[s]
                wide, shortcut = width * block.expansion, None
                if b == 0 and (stride > 1 or given != wide or s >= 2):
                    shortcut = nn.Sequential(
                        nn.Conv2d(given, wide, 1, stride, bias=False), nn.BatchNorm2d(wide)
                    )
                layers.append(block(given, width, stride, DILATIONS[s], shortcut))
                given = wide
            setattr(self, f"layer{s + 1}", nn.Sequential(*layers))
        self.width = given
        if classes is not None:
            self.layer5 = Seeds(given, classes, dilations)

    def stages(self, x):
        x = self.pool(F.relu(self.bn1(self.conv1(x))))
        found = []
        for s in range(4):
            x = getattr(self, f"layer{s + 1}")(x)
            found.append(x)
        return found

    def forward(self, x):
        return self.layer5(self.stages(x)[-1])


class Mask(nn.Module):
    """The importance map."""

    def __init__(self, classes):
        super().__init__()
        for i, (a, b) in enumerate(((classes, 8), (8, 4), (4, 1))):
            setattr(self, f"bn{i}", nn.BatchNorm2d(a))
            setattr(self, f"conv{i + 1}", nn.Conv2d(a, b, 5, padding=2, bias=False))

    def forward(self, x):
        for i in range(3):
            x = getattr(self, f"conv{i + 1}")(F.relu(getattr(self, f"bn{i}")(x)))
        return torch.sigmoid(x)


class Diffuse(nn.Module):
    """A random walk, with the whole matrix."""

    def __init__(self, given, dim=64):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))
        self.conv = nn.Conv2d(given, dim, 1)
        self.bn = nn.BatchNorm2d(dim)

    def forward(self, features, y, seed):
        psi = F.adaptive_max_pool2d(self.bn(self.conv(features)), y.shape[2:]).flatten(2)
        transition = torch.softmax(psi.transpose(1, 2) @ psi, dim=2)
        moved = (transition @ y.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(y.shape)
        mu, beta = 1 / (1 + torch.exp(self.alpha)), 1 / (1 + torch.exp(self.beta))
        return beta * (mu * moved + (1 - mu) * seed) + (1 - beta) * y


class DifNet(nn.Module):
    def __init__(self, seeds, similarity, classes, blocks=None, walks=(0, 1, 2, 3, 4)):
        super().__init__()
        self.model_sed = Body(seeds, classes, blocks=blocks)
        self.model_dif = Body(similarity)
        self.mask_layer = Mask(classes)
        self.walks = walks
        top = self.model_dif.width
        widths = (3, top // 8, top // 4, top // 2, top)
        for t in walks:
            setattr(self, f"diffuse{t}", Diffuse(widths[t]))

    def forward(self, x):
        scores = self.model_sed(x)
        y = seed = self.mask_layer(scores) * scores
        features = [x, *self.model_dif.stages(x)]
        for t in self.walks:
            y = getattr(self, f"diffuse{t}")(features[t], y, seed)
        return F.interpolate(y, x.shape[2:], mode="bilinear")


class SimDeeplab(Body):
    def forward(self, x):
        return F.interpolate(super().forward(x), x.shape[2:], mode="bilinear")
