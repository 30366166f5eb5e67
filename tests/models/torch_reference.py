"""FCN, SemanticFPN and the SDN neck stated a second time, in PyTorch's functional form.

They read the Flax variables by name and share no code with the library: padding, dilation,
pooling, interpolation and batch norm are PyTorch's own.
"""

import numpy as np
import torch
import torch.nn.functional as F

from tests.models import torch_cnn

BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class Weights:
    """A subtree of Flax variables as torch tensors; collects new batch-norm statistics."""

    def __init__(self, params, stats, train=False, path=(), new_stats=None):
        self.params, self.stats, self.train, self.path = params, stats, train, path
        self.new_stats = {} if new_stats is None else new_stats

    def __getitem__(self, name):
        return Weights(
            self.params[name],
            self.stats.get(name, {}),
            self.train,
            (*self.path, name),
            self.new_stats,
        )

    def __contains__(self, name):
        return name in self.params

    def conv(self, name, x, stride=1, dilation=1):
        p = self.params[name]
        kernel = p["kernel"].permute(3, 2, 0, 1)
        padding = dilation * (kernel.shape[-1] // 2)
        groups = x.shape[1] // kernel.shape[1]
        return F.conv2d(x, kernel, p.get("bias"), stride, padding, dilation, groups)

    def bn(self, name, x):
        p, s = self.params[name], self.stats[name]
        mean, var = s["mean"].clone(), s["var"].clone()
        y = F.batch_norm(x, mean, var, p["scale"], p["bias"], self.train, 0.1, 1e-5)
        self.new_stats[(*self.path, name)] = {"mean": mean, "var": var}
        return y

    def conv_bn_relu(self, name, x, stride=1):
        inner = self[name]
        return F.relu(inner.bn("bn", inner.conv("conv", x, stride)))

    def classifier(self, x):
        return self["classifier"].conv("seg", x)


def resnet(w, x, depth, output_stride):
    for i, stride in enumerate((2, 1, 1), start=1):
        x = w.conv_bn_relu(f"stem{i}", x, stride)
    x = F.max_pool2d(x, 3, 2, 1)
    strides = (1, 2, 2, 2) if output_stride == 32 else (1, 2, 1, 1)
    dilations = (1, 1, 1, 1) if output_stride == 32 else (1, 1, 2, 4)
    stages = []
    for s, count in enumerate(BLOCKS[depth]):
        for b in range(count):
            block = w[f"layer{s + 1}_{b}"]
            stride = strides[s] if b == 0 else 1
            dilation = dilations[s] // 2 if b == 0 and dilations[s] > 1 else dilations[s]
            if depth < 50:
                y = F.relu(block.bn("bn1", block.conv("conv1", x, stride, dilation)))
                y = block.bn("bn2", block.conv("conv2", y))
            else:
                y = F.relu(block.bn("bn1", block.conv("conv1", x)))
                y = F.relu(block.bn("bn2", block.conv("conv2", y, stride, dilation)))
                y = block.bn("bn3", block.conv("conv3", y))
            if "downsample_conv" in block:
                x = block.bn("downsample_bn", block.conv("downsample_conv", x, stride))
            x = F.relu(x + y)
        stages.append(x)
    return stages


def fcn_head(w, x, convs, concat_input):
    y = x
    for i in range(convs):
        y = w.conv_bn_relu(f"conv{i + 1}", y)
    if concat_input:
        y = w.conv_bn_relu("conv_cat", torch.cat([x, y], dim=1))
    return y


def fpn_head(w, stages):
    pyramid = w["pyramid"]
    levels = [pyramid.conv(f"lateral{i + 1}", x) for i, x in enumerate(stages)]
    for i in (2, 1, 0):
        levels[i] = levels[i] + F.interpolate(levels[i + 1], levels[i].shape[2:], mode="nearest")
    total = 0
    for i, x in enumerate(levels):
        y = pyramid.conv(f"out{i + 1}", x)
        for j in range(max(1, i)):
            y = w.conv_bn_relu(f"scale{i + 1}_{j}", y)
            if i > 0:
                y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + F.interpolate(y, levels[0].shape[2:], mode="bilinear")
    return total


def sdn(w, u, guidance):
    """Eq. 5 by unfolding U and V, no-flux borders by an unfolded map of ones."""
    v = F.interpolate(guidance, u.shape[2:], mode="bilinear", align_corners=False)

    def patches(x):  # [B, C, H, W] -> [B, C, 9, H, W]
        return F.unfold(x, 3, padding=1).unflatten(1, (-1, 9)).unflatten(3, x.shape[2:])

    d2 = (patches(v) - v[:, :, None]).square().sum(dim=1)
    inside = patches(torch.ones_like(u[:, :1]))[:, 0]
    s = inside / torch.sqrt(1 + d2 / torch.exp(w.params["log_scale"]) ** 2)
    kernel = w.params["kernel"].flatten(0, 1)  # [9, C, C]
    difference = s[:, None] * (patches(u) - u[:, :, None])
    y = torch.einsum("bikhw,kio->bohw", difference, kernel)
    return w.conv("fusion", torch.cat([u, y], dim=1))


def neck(w, stages):
    phi = w.conv("phi", stages[-1], stride=2)
    guidance = [*stages[1:], phi]
    return [
        sdn(w[f"sdn{i + 1}"], u, g) for i, (u, g) in enumerate(zip(stages, guidance, strict=True))
    ]


def network(params, stats, images, name, *, train=False):
    """`images [B, H, W, 3]` → (outputs in Flax's layout, new statistics by path)."""
    w = Weights(params, stats, train)
    x = images.permute(0, 3, 1, 2)
    fpn, ocrnet = name.startswith("fpn"), name.startswith("ocrnet")
    if ocrnet:
        stages = torch_cnn.hrnet(w["backbone"], x)
    else:
        depth = 50 if "conv3" in w["backbone"]["layer1_0"] else 18
        stages = resnet(w["backbone"], x, depth, 32 if fpn else 8)
    reads = (0, 1, 2, 3) if fpn or ocrnet else (0, 3) if "v3plus" in name else (3,)
    features = [stages[i] for i in reads]
    if "neck" in w:
        features = neck(w["neck"], features)
    scores = {}
    if fpn:
        read = fpn_head(w["decoder"], features)
    elif ocrnet:
        read, scores["auxiliary"] = torch_cnn.ocr_head(w["decoder"], features)
    elif "v3plus" in name:
        read = torch_cnn.deeplabv3plus_head(w["decoder"], *features)
    elif "v2" not in name:
        read = fcn_head(w["decoder"], features[0], 2, True)
    if "deeplabv2" in name:
        scores["logits"] = torch_cnn.deeplabv2_classifier(w["classifier"], *features)
    else:
        scores["logits"] = w.classifier(read)
    if "auxiliary" in w:
        head = w["auxiliary"]
        scores["auxiliary"] = head.classifier(fcn_head(head, stages[2], 1, False))
    outputs = {f"stage{i + 1}": s for i, s in enumerate(stages)}
    for key, value in scores.items():
        outputs[key] = F.interpolate(value, x.shape[2:], mode="bilinear", align_corners=False)
    return {k: v.permute(0, 2, 3, 1) for k, v in outputs.items()}, w.new_stats


def to_torch(tree, requires_grad=False):
    """A tree of arrays as a tree of tensors."""
    if isinstance(tree, dict):
        return {k: to_torch(v, requires_grad) for k, v in tree.items()}
    return torch.tensor(np.asarray(tree), requires_grad=requires_grad)
