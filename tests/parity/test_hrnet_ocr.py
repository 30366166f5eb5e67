"""The authors' HRNet-OCR, stated in PyTorch over a state dict with their names."""

import jax
import jax.numpy as jnp
import numpy as np

from sdnjax.convert import hrnet, hrnet_ocr, load, to_torch
from tests.models.small import small_network
from tests.models.variables import random_variables
from tests.parity.harness import relative, torch

F = torch.nn.functional
K = 5


class Theirs:
    """Everything is resized with `align_corners`, coarse branches straight to the finer grid."""

    def __init__(self, state):
        self.state = {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}

    def conv(self, name, x, stride=1):
        kernel = self.state[f"{name}.weight"]
        bias = self.state.get(f"{name}.bias")
        return F.conv2d(x, kernel, bias, stride, kernel.shape[-1] // 2)

    def bn(self, name, x):
        s = self.state
        mean, var = s[f"{name}.running_mean"], s[f"{name}.running_var"]
        return F.batch_norm(x, mean, var, s[f"{name}.weight"], s[f"{name}.bias"])

    def pair(self, name, x, stride=1):
        """Entries 0 and 1 of a sequence."""
        return self.bn(f"{name}.1", self.conv(f"{name}.0", x, stride))

    def indices(self, name):
        """Of the entries of a sequence."""
        n = len(name) + 1
        entries = {k[n:].split(".")[0] for k in self.state if k.startswith(f"{name}.")}
        return sorted(int(i) for i in entries)

    def blocks(self, name, x, convs):
        for i in self.indices(name):
            x = self.block(f"{name}.{i}", x, convs)
        return x

    def block(self, name, x, convs):
        y = x
        for i in range(1, convs + 1):
            y = self.bn(f"{name}.bn{i}", self.conv(f"{name}.conv{i}", y))
            y = y if i == convs else F.relu(y)
        if f"{name}.downsample.0.weight" in self.state:
            x = self.pair(f"{name}.downsample", x)
        return F.relu(x + y)

    def exchange(self, name, branches):
        branches = [self.blocks(f"{name}.branches.{i}", x, 2) for i, x in enumerate(branches)]
        fused = []
        for i, target in enumerate(branches):
            total = target
            for j, x in enumerate(branches):
                layer = f"{name}.fuse_layers.{i}.{j}"
                if j > i:
                    total = total + resized(self.pair(layer, x), target.shape[2:])
                elif j < i:
                    for k in range(i - j):
                        x = self.pair(f"{layer}.{k}", x, 2)
                        x = F.relu(x) if k < i - j - 1 else x
                    total = total + x
            fused.append(F.relu(total))
        return fused

    def network(self, x):
        size = x.shape[2:]
        for i in (1, 2):
            x = F.relu(self.bn(f"bn{i}", self.conv(f"conv{i}", x, 2)))
        x = self.blocks("layer1", x, 3)
        branches = [F.relu(self.pair("transition1.0", x))]
        for s in (2, 3, 4):
            coarsest = x if s == 2 else branches[-1]
            new = F.relu(self.pair(f"transition{s - 1}.{s - 1}.0", coarsest, 2))
            branches = [*branches, new]
            for i in self.indices(f"stage{s}"):  # a small network has none at first
                branches = self.exchange(f"stage{s}.{i}", branches)
        x = torch.cat([resized(b, branches[0].shape[2:]) for b in branches], dim=1)

        coarse = self.conv("aux_head.3", F.relu(self.pair("aux_head", x)))
        x = F.relu(self.pair("conv3x3_ocr", x))
        where = coarse.flatten(2).softmax(dim=2)
        regions = (where @ x.flatten(2).transpose(1, 2)).transpose(1, 2)[..., None]

        def project(name, x, *indices):
            for i in indices:
                layer = f"ocr_distri_head.{name}"
                x = F.relu(self.bn(f"{layer}.{i + 1}.0", self.conv(f"{layer}.{i}", x)))
            return x

        query = project("object_context_block.f_pixel", x, 0, 2).flatten(2)
        key = project("object_context_block.f_object", regions, 0, 2).flatten(2)
        value = project("object_context_block.f_down", regions, 0).flatten(2)
        weights = (query.transpose(1, 2) @ key * query.shape[1] ** -0.5).softmax(dim=2)
        context = (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])
        context = project("object_context_block.f_up", context, 0)
        x = project("conv_bn_dropout", torch.cat([context, x], dim=1), 0)
        return [resized(y, size).permute(0, 2, 3, 1) for y in (self.conv("cls_head", x), coarse)]


def resized(x, size):
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def test_outputs_and_folded_biases(x64):
    """In float64: on one processor float32 was 1.6e-5 of the largest value away."""
    rng = np.random.default_rng(0)
    model = small_network("ocrnet_hr18", num_classes=K, align_corners=True, dtype=jnp.float64)
    images = rng.normal(size=(1, 65, 97, 3))
    variables = jax.tree.map(np.float64, random_variables(model, images, 2))
    state = to_torch(model, variables, hrnet_ocr)
    for name in ("conv3x3_ocr.0.bias", "aux_head.0.bias"):
        assert not state[name].any()
        state[name] = rng.normal(size=state[name].shape)

    said = []
    saved = {f"model.{k}": v for k, v in state.items()} | {"loss.criterion.weight": np.ones(K)}
    converted = load(model, saved, hrnet_ocr, dtype=np.float64, report=said.append)
    assert sum(line.startswith("folded: ") for line in said) == 2
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(converted, images)
    logits, auxiliary = Theirs(state).network(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert ours["logits"].dtype == np.float64
    assert relative(ours["logits"], logits.numpy()) < 1e-12
    assert relative(ours["auxiliary"], auxiliary.numpy()) < 1e-12


def test_pretrained_backbone():
    """ImageNet's checkpoint has the same names, and a classifier that is left."""
    model = small_network("ocrnet_hr18", num_classes=K)
    names = {row.variable: row.tensor for row in hrnet_ocr.rows(model)}
    rows = hrnet.rows(model)
    assert all(names[row.variable] == row.tensor for row in rows)
    assert len(rows) == sum(variable.split("/")[1] == "backbone" for variable in names)
    state = {row.tensor: np.zeros(1) for row in rows}
    extra = {"incre_modules.0.0.conv1.weight": np.ones(3), "classifier.bias": np.ones(3)}
    kept, notes = hrnet.adapt(model, state | extra)
    assert kept.keys() == state.keys()
    assert notes == ["left: 2 tensors of the classifier"]
