"""HRNet, OCR and DeepLab stated a second time, in the manner of `torch_reference`.

Sizes are read off the variables: a block is there if it has parameters.
"""

import torch
import torch.nn.functional as F


def conv_bn(w, name, x, stride=1):
    return w.bn(f"{name}_bn", w.conv(f"{name}_conv", x, stride))


def residual(block, x, convs):
    y = x
    for i in range(1, convs + 1):
        y = block.bn(f"bn{i}", block.conv(f"conv{i}", y))
        y = F.relu(y) if i < convs else y
    if "downsample_conv" in block:
        x = conv_bn(block, "downsample", x)
    return F.relu(x + y)


def exchange(w, branches, convs=2, align_corners=False):
    branches = list(branches)
    for i, x in enumerate(branches):
        b = 0
        while f"branch{i + 1}_{b}" in w:
            x, b = residual(w[f"branch{i + 1}_{b}"], x, convs), b + 1
        branches[i] = x
    fused = []
    for i, target in enumerate(branches):
        total = target
        for j, x in enumerate(branches):
            name = f"fuse{j + 1}to{i + 1}"
            if j > i:
                x = conv_bn(w, name, x)
                if not align_corners:
                    x = F.interpolate(x, scale_factor=2 ** (j - i), mode="bilinear")
                grid = target.shape[2:]
                x = F.interpolate(x, grid, mode="bilinear", align_corners=align_corners)
                total = total + x
            elif j < i:
                for k in range(i - j):
                    x = conv_bn(w, f"{name}_{k}", x, 2)
                    x = F.relu(x) if k < i - j - 1 else x
                total = total + x
        fused.append(F.relu(total))
    return fused


def hrnet(w, x):
    x = w.conv_bn_relu("stem2", w.conv_bn_relu("stem1", x, 2), 2)
    b = 0
    while f"layer1_{b}" in w:
        x, b = residual(w[f"layer1_{b}"], x, 3), b + 1
    branches = [w.conv_bn_relu("transition1", x)]
    for s in (2, 3, 4):
        branches.append(w.conv_bn_relu(f"transition{s}", x if s == 2 else branches[-1], 2))
        m = 0
        while f"stage{s}_{m}" in w:
            branches, m = exchange(w[f"stage{s}_{m}"], branches), m + 1
    return branches


def hrnet2x(w, x):
    """HRNet with a branch at stride 2 besides; everything with align_corners."""
    x = w.conv_bn_relu("stem1", x, 2)
    branches = [w.conv_bn_relu("transition1_1", x), w.conv_bn_relu("transition1_2", x, 2)]
    branches = exchange(w["stage1_0"], branches, convs=3, align_corners=True)
    new = w.conv_bn_relu("transition2_3", branches[1], 2)
    branches = [w.conv_bn_relu(f"transition2_{i + 1}", branches[i]) for i in (0, 1)] + [new]
    for s in (2, 3, 4):
        if s > 2:
            branches.append(w.conv_bn_relu(f"transition{s}_{s + 1}", branches[-1], 2))
        m = 0
        while f"stage{s}_{m}" in w:
            branches = exchange(w[f"stage{s}_{m}"], branches, align_corners=True)
            m += 1
    return branches


def ocr_head(w, stages):
    """Features and auxiliary scores."""
    grid = stages[0].shape[2:]
    x = torch.cat([F.interpolate(s, grid, mode="bilinear") for s in stages], dim=1)
    auxiliary = w["auxiliary"]
    coarse = auxiliary.classifier(auxiliary.conv_bn_relu("conv1", x))
    x = w.conv_bn_relu("bottleneck", x)
    where = coarse.flatten(2).softmax(dim=2)  # [B, K, N]
    regions = (where @ x.flatten(2).transpose(1, 2)).transpose(1, 2)[..., None]  # [B, C, K, 1]

    w2 = w["attention"]
    query = w2.conv_bn_relu("query2", w2.conv_bn_relu("query1", x)).flatten(2)
    key = w2.conv_bn_relu("key2", w2.conv_bn_relu("key1", regions)).flatten(2)
    value = w2.conv_bn_relu("value", regions).flatten(2)
    attention = (query.transpose(1, 2) @ key / query.shape[1] ** 0.5).softmax(dim=2)  # [B, N, K]
    context = (value @ attention.transpose(1, 2)).unflatten(2, x.shape[2:])
    context = w2.conv_bn_relu("out", context)
    x = w2.conv_bn_relu("bottleneck", torch.cat([context, x], dim=1))
    return x, coarse


def separable(w, x, dilation=1):
    depthwise = w["depthwise"]
    x = F.relu(depthwise.bn("bn", depthwise.conv("conv", x, dilation=dilation)))
    return w.conv_bn_relu("pointwise", x)


def deeplabv3plus_head(w, fine, coarse):
    aspp = w["aspp"]
    mean = aspp.conv_bn_relu("image_pool", F.adaptive_avg_pool2d(coarse, 1))
    parts = [F.interpolate(mean, coarse.shape[2:], mode="bilinear")]
    parts.append(aspp.conv_bn_relu("rate1", coarse))
    parts += [separable(aspp[f"rate{i}"], coarse, d) for i, d in ((2, 12), (3, 24), (4, 36))]
    x = aspp.conv_bn_relu("bottleneck", torch.cat(parts, dim=1))
    fine = w.conv_bn_relu("fine", fine)
    x = torch.cat([F.interpolate(x, fine.shape[2:], mode="bilinear"), fine], dim=1)
    return separable(w["separable2"], separable(w["separable1"], x))


def deeplabv2_classifier(w, x):
    return sum(w.conv(f"seg{i}", x, dilation=6 * i) for i in (1, 2, 3, 4))
