"""Every setting of an experiment changes what it says it changes.

Settings are tried where they arrive: in the network, optimizer, loss and augmentation that an
experiment builds, and in a short run's files.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from sdnjax.commands.train import train
from sdnjax.data.data_settings import Data
from sdnjax.errors import InputError
from sdnjax.experiment import Experiment
from sdnjax.losses import CrossEntropy
from sdnjax.models import Model, Neck
from sdnjax.models.families import likes
from sdnjax.recipe import own_losses
from sdnjax.settings import settings
from sdnjax.training.metrics_log import read_metrics
from sdnjax.training.optimizer import Optimizer
from sdnjax.training.parameter_rules import ParameterRule
from sdnjax.training.sharding import data_mesh, to_global
from tests.commands.conftest import *  # noqa: F403 (the miniature camvid)
from tests.training.tiny import Tiny, batch_of

SDC = Neck(operator="sdc", guidance_channels=4)
PLAIN = Model("fcn_r18-d8", neck=SDC)


def neck_output(**changes):
    """What the neck of a built network makes of a small stage 4, disturbed so that Y is seen."""
    neck = dataclasses.replace(PLAIN, neck=dataclasses.replace(SDC, **changes)).build(3).neck

    # One program: op by op, every primitive would be compiled on its own.
    @jax.jit
    def run():
        stage = jax.random.normal(jax.random.key(0), (1, 7, 8, 16))
        variables = neck.init(jax.random.key(1), (stage,), train=False)
        noise = jax.tree.map(
            lambda x: 0.1 * jax.random.normal(jax.random.key(2), x.shape), variables
        )
        variables = jax.tree.map(jnp.add, variables, noise)

        def energy(stage):
            (y,) = neck.apply(variables, (stage,), train=False)
            return jnp.sum(jnp.square(y))

        value, gradient = jax.value_and_grad(energy)(stage)
        return variables, value, jnp.sum(gradient)

    variables, value, gradient = run()
    return jax.tree.map(jnp.shape, variables), float(value), float(gradient)


NECKS = {
    "operator": "conv",
    "kernel_size": 5,
    "dilation": 2,
    "similarity": "gaussian",
    "scale": 0.3,
    "boundary": "zeros",
    "reduction": 2,
    "guidance_channels": 8,
    "guidance": "own",
    "stop_guidance_gradient": True,
    "fusion": "plain",
    "stages": (),
    "implementation": "reference",
}


def test_every_setting_of_the_neck_reaches_the_operator():
    assert NECKS.keys() == {s.key for s in settings(SDC)}
    before = neck_output()
    for key, value in NECKS.items():
        if key == "implementation":  # the same function; tests/ops and tests/models see to it
            continue
        assert neck_output(**{key: value}) != before, key
    shapes, *_ = neck_output(kernel_size=5)
    assert shapes["params"]["sdn1"]["kernel"] == (5, 5, 16, 16)
    stopped = neck_output(stop_guidance_gradient=True)
    assert stopped[1] == pytest.approx(before[1], rel=1e-5)  # the gradient alone


@pytest.mark.parametrize(
    ("change", "read"),
    [
        ({"name": "fcn_r34-d8"}, lambda n: n.backbone.depth),
        ({"dropout": 0.3}, lambda n: n.classifier.dropout),
        ({"align_corners": True}, lambda n: n.align_corners),
        ({"stem": "v1"}, lambda n: n.backbone.stem),
        ({"dtype": "bfloat16"}, lambda n: (n.backbone.dtype, n.decoder.dtype, n.neck.dtype)),
    ],
)
def test_settings_of_the_network(change, read):
    before, after = read(PLAIN.build(3)), read(dataclasses.replace(PLAIN, **change).build(3))
    assert before != after
    assert Experiment(model=dataclasses.replace(PLAIN, **change)).build(3).network.neck is not None


def test_whose_details_a_network_has():
    def details(name, like):
        network = Model(name=name, like=like).build(3)
        backbone = network.backbone
        names = ("epsilon", "position_resize", "patch_bias")
        found = [getattr(backbone, x) for x in names if hasattr(backbone, x)]
        return (*found, getattr(network.decoder, "projection", None))

    for name in ("segmenter_vit-t_mask", "segformer_mit-b0"):
        found = [details(name, like) for like in likes(name)]
        assert len(set(found)) == len(found) > 1
    assert Model(name="segformer_mit-b2", like="hf").build(3).decoder.channels == 768
    with pytest.raises(InputError, match="segformer_mit-b0 can be like mmseg, hf, not timm"):
        Model(name="segformer_mit-b0", like="timm")
    assert Model(name="fcn_r18-d8", like="hf").unused()["like"]


OPTIMIZERS = [
    ("sgd", "learning_rate", 0.2),
    ("sgd", "end_learning_rate", 0.05),
    ("sgd", "schedule", "constant"),
    ("sgd", "power", 2.0),
    ("sgd", "warmup_steps", 3),
    ("sgd", "weight_decay", 0.1),
    ("sgd", "momentum", 0.5),
    ("sgd", "clip_norm", 0.1),
    ("sgd", "rules", (ParameterRule(learning_rate=0.1),)),
    ("adamw", "learning_rate", 0.2),
    ("adamw", "b1", 0.5),
    ("adamw", "b2", 0.5),
    ("adamw", "weight_decay", 0.1),
    ("adamw", "clip_norm", 0.1),
    ("adamw", "rules", (ParameterRule(learning_rate=0.1),)),
    ("sgd", "reference_batch", 16),
    ("lars", "trust", 0.1),
    ("sgd", "milestones", (5,)),
    ("sgd", "step_factor", 0.5),
]


def trajectory(optimizer, steps=6):
    transformation = Experiment(model=Tiny, optimizer=optimizer, steps=steps).build(3).optimizer
    x = jnp.array([[1.0, -2.0, 0.5]])  # a kernel: of two dimensions
    state, path = transformation.init(x), []
    for t in range(steps):
        updates, state = transformation.update(jnp.sin(x * (t + 1)), state, x)
        x = optax.apply_updates(x, updates)
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize(("kind", "key", "value"), OPTIMIZERS)
def test_every_setting_of_the_optimizer_changes_the_parameters(kind, key, value):
    plain = Optimizer(kind=kind, learning_rate=0.1)
    if key in ("milestones", "step_factor"):
        plain = dataclasses.replace(plain, schedule="step", milestones=(2,))
    before, after = trajectory(plain), trajectory(dataclasses.replace(plain, **{key: value}))
    assert np.abs(before - after).max() > 1e-4
    tried = {k for _, k, _ in OPTIMIZERS}
    assert tried | {"kind"} == {s.key for s in settings(plain)}


def test_the_schedule_ends_with_the_run():
    """`steps` reaches the schedule: the last of them has nearly the last learning rate."""
    short, long = (trajectory(Optimizer(learning_rate=0.1), steps)[:6] for steps in (6, 60))
    assert np.abs(short - long).max() > 1e-3


def test_the_seed_decides_initial_values():
    def kernel(seed):
        state = Experiment(model=Tiny, seed=seed).build(3).init_state()
        return np.asarray(state.params["conv"]["kernel"])

    assert np.array_equal(kernel(0), kernel(0))
    assert not np.array_equal(kernel(0), kernel(1))


def test_a_network_that_announces_no_auxiliary_scores_has_one_loss():
    assert own_losses(nn.Dense(3)) == (CrossEntropy(),)
    assert own_losses(Tiny()) == (CrossEntropy(), CrossEntropy(weight=0.4, on="auxiliary"))


def test_settings_of_the_losses_change_the_step():
    def loss(*losses):
        recipe = Experiment(model=Tiny, losses=losses, seed=3).build(3)
        _, metrics = jax.jit(recipe.step)(recipe.init_state(), batch_of(0))
        return {k: float(v) for k, v in metrics.items()}

    base = loss(CrossEntropy(), CrossEntropy(weight=0.4, on="auxiliary"))
    heavier = loss(CrossEntropy(), CrossEntropy(weight=0.8, on="auxiliary"))
    assert heavier["loss"] - base["loss"] == pytest.approx(0.4 * base["loss_auxiliary"], rel=1e-4)
    assert heavier["gradient_norm"] != base["gradient_norm"]
    divided = loss(
        CrossEntropy(normalize_by="all_pixels"), CrossEntropy(weight=0.4, on="auxiliary")
    )
    # One image of eight is all void.
    assert divided["loss_decoder"] == pytest.approx(7 / 8 * base["loss_decoder"], rel=1e-5)
    assert divided["loss_auxiliary"] == base["loss_auxiliary"]


AUGMENTED = {
    "crop_size": (10, 14),
    "base_size": (40, 12),
    "scale_range": (1.5, 2.0),
    "max_class_share": 0.2,
    "flip": False,
    "photometric": False,
    "mean": (1.0, 2.0, 3.0),
    "std": (9.0, 8.0, 7.0),
}


@pytest.mark.parametrize("key", AUGMENTED)
def test_settings_of_the_augmentation_reach_the_devices(key):
    rng = np.random.default_rng(0)
    label = np.zeros((4, 24, 30), np.uint8)
    label[:, :, ::2] = 1  # half of every window, which .95 allows and .2 does not
    batch = {
        "image": rng.integers(0, 256, (4, 24, 30, 3), dtype=np.uint8),
        "label": label,
        "epoch": np.zeros(4, np.int32),
        "index": np.arange(4, dtype=np.int32),
    }
    plain = Data(crop_size=(12, 12), augment_on="device", max_class_share=0.95)

    def augmented(data):
        found = Experiment(model=Tiny, data=data).build(3).augment(batch)
        return jax.tree.map(np.asarray, found)

    before, after = augmented(plain), augmented(dataclasses.replace(plain, **{key: AUGMENTED[key]}))
    same = [np.array_equal(before[k], after[k]) for k in ("image", "label")]
    assert not all(same), key
    assert (
        Experiment(model=Tiny, data=dataclasses.replace(plain, augment_on="host")).build(3).augment
        is None
    )


def test_a_leaf_that_cannot_be_split_is_named():
    def split(path, leaf):
        return jax.sharding.PartitionSpec("data" if path == "params/conv/kernel" else None)

    with pytest.raises(InputError, match=r"^state_sharding: params/conv/kernel \(3, 3, 3, 8\): "):
        Experiment(model=Tiny, state_sharding=split).build(3).shardings(data_mesh(8))


def experiment(camvid, **changes):
    data = Data(name="camvid", dir=str(camvid), crop_size=(16, 16), workers=2)
    short = {"model": Tiny, "steps": 4, "tensorboard": False, "log_every": 1}
    return Experiment(**{"data": data, **short, **changes})


def run(settings, workdir):
    train(settings, workdir, report=lambda line: None)
    lines = read_metrics(workdir)
    steps = {kind: [x["step"] for x in lines if kind in x] for kind in ("train", "val")}
    saved = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdecimal())
    return lines, steps, saved


def test_settings_of_the_run(camvid, tmp_path):
    plain, steps, saved = run(experiment(camvid), tmp_path / "plain")
    assert (steps, saved) == ({"train": [1, 2, 3, 4], "val": [4]}, [4])
    changes = {"evaluate_every": 2, "checkpoint_every": 1, "keep_checkpoints": 3, "log_every": 2}
    logged = []

    class Recorder:
        def __init__(self, run):
            assert (run.name, run.workdir, run.start_step) == ("experiment", tmp_path / "other", 0)

        def write(self, step, values):
            logged.append((step, "train/loss" in values, "val/mIoU" in values))

        def close(self):
            logged.append("closed")

    changes |= {"loggers": (Recorder,), "tensorboard": True}
    other = experiment(camvid, **changes, seed=1, batch_size=16)
    lines, steps, saved = run(other, tmp_path / "other")
    assert (steps, saved) == ({"train": [2, 4], "val": [2, 4]}, [2, 3, 4])
    train_line, val_line = (True, False), (False, True)
    assert logged == [*((n, *kind) for n in (2, 4) for kind in (train_line, val_line)), "closed"]
    assert (tmp_path / "other" / "tensorboard").is_dir()
    assert not (tmp_path / "plain" / "tensorboard").exists()
    assert lines[0]["train"]["loss"] != plain[1]["train"]["loss"]


def test_the_state_lies_as_the_setting_says():
    """Split over eight devices it gives the losses of one that lies everywhere."""

    asked = set()

    def split(path, leaf):
        asked.add(path)
        spec = jax.sharding.PartitionSpec
        rows = leaf.shape[-1] if leaf.shape else 0
        is_wide = "params" in path and rows and rows % 8 == 0
        return spec(*[None] * (len(leaf.shape) - 1), "data") if is_wide else spec()

    def losses(**changes):
        recipe = Experiment(model=Tiny, seed=3, **changes).build(3)
        mesh = data_mesh(8)
        state, step = recipe.new_state(mesh), recipe.compiled_step(mesh)
        where = jax.tree.map(lambda x: x.sharding, recipe.placed(mesh))  # of a restored one
        assert where == jax.tree.map(lambda x: x.sharding, state)
        history = []
        for t in range(3):
            state, metrics = step(state, to_global(batch_of(t), mesh))
            history.append(float(metrics["loss"]))
        return history, state

    whole, replicated = losses()
    parts, sharded = losses(state_sharding=split)
    np.testing.assert_allclose(whole, parts, rtol=1e-5)
    assert asked >= {"step", "params/conv/kernel", "batch_stats/BatchNorm_0/mean"}
    kernel = sharded.params["conv"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (3, 3, 3, 1)
    assert replicated.params["conv"]["kernel"].sharding.is_fully_replicated
