"""Networks against an independent PyTorch statement: outputs, gradients, statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sdnjax.losses import cross_entropy

torch = pytest.importorskip("torch")

from tests.models import torch_reference  # noqa: E402
from tests.models.small import small_network  # noqa: E402
from tests.models.variables import random_variables  # noqa: E402

CASES = [
    pytest.param(("fcn_r18-d8", "sdn", (1, 65, 49)), id="fcn_r18-d8"),
    pytest.param(("fpn_r18", "sdn", (2, 97, 65)), id="fpn_r18"),
    pytest.param(("ocrnet_hr18", "sdn", (2, 41, 49)), id="ocrnet", marks=pytest.mark.slow),
    pytest.param(
        ("deeplabv3plus_r18-d8", None, (2, 41, 49)), id="deeplabv3plus", marks=pytest.mark.slow
    ),
    pytest.param(("deeplabv2_r50-d8", None, (1, 65, 49)), id="deeplabv2", marks=pytest.mark.slow),
    *(
        pytest.param((name, "sdn", (2, 41, 49)), id=f"{name}-sdn", marks=pytest.mark.slow)
        for name in ("deeplabv3plus_r18-d8", "deeplabv2_r50-d8")
    ),
    pytest.param(("fcn_r50-d8", None, (1, 97, 65)), id="fcn_r50-d8", marks=pytest.mark.slow),
    pytest.param(("fpn_r50", "sdn", (1, 97, 161)), id="fpn_r50", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """Name, options, float64 variables, images and labels of a network."""
    name, neck, (b, h, w) = request.param
    options = {"num_classes": 5, "neck": neck, "dropout": 0.0}
    rng = np.random.default_rng(1)
    images = rng.normal(size=(b, h, w, 3))
    labels = rng.integers(0, 5, (b, h, w))
    labels[:, :7] = 255
    variables = random_variables(small_network(name, **options), images, 3)
    return name, options, variables, images, labels


def relative(ours, theirs):
    theirs = theirs.detach().numpy()
    return np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()


def test_outputs_in_evaluation(case):
    """float32, as the network is used."""
    name, options, variables, images, _ = case
    model = small_network(name, **options)
    variables = jax.tree.map(np.float32, variables)
    images = images.astype(np.float32)
    ours = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, images)
    tree = torch_reference.to_torch(variables)
    theirs, _ = torch_reference.network(
        tree["params"], tree["batch_stats"], torch.tensor(images), name
    )
    for key in ("stage1", "stage2", "stage3", "stage4", "logits"):
        assert relative(ours[key], theirs[key]) < 1e-5, key


def test_loss_gradient_and_statistics_in_training(case, x64):
    """float64: in float32 a value that rounds across a ReLU's zero changes the gradient."""
    name, options, variables, images, labels = case
    model = small_network(name, **options, dtype=jnp.float64)
    stats = variables["batch_stats"]

    def loss_of(params):
        outputs, changed = model.apply(
            {"params": params, "batch_stats": stats}, images, train=True, mutable=["batch_stats"]
        )
        loss = cross_entropy(outputs["logits"], labels)
        if "auxiliary" in outputs:
            loss += 0.4 * cross_entropy(outputs["auxiliary"], labels)
        return loss, changed["batch_stats"]

    (loss, new_stats), gradient = jax.jit(jax.value_and_grad(loss_of, has_aux=True))(
        variables["params"]
    )

    params = torch_reference.to_torch(variables["params"], requires_grad=True)
    outputs, their_stats = torch_reference.network(
        params, torch_reference.to_torch(stats), torch.tensor(images), name, train=True
    )
    their_loss = 0.0
    for key, weight in (("logits", 1.0), ("auxiliary", 0.4)):
        if key in outputs:
            scores = outputs[key].permute(0, 3, 1, 2)
            cross = torch.nn.functional.cross_entropy(
                scores, torch.tensor(labels), ignore_index=255
            )
            their_loss += weight * cross
    their_loss.backward()

    assert abs(float(loss) - their_loss.item()) < 1e-11
    for path, new in their_stats.items():
        node = new_stats
        for part in path:
            node = node[part]
        for key, value in new.items():
            assert relative(node[key], value) < 1e-10, (path, key)
    for path, ours in jax.tree_util.tree_leaves_with_path(gradient):
        node = params
        for part in path:
            node = node[part.key]
        # A bias before batch norm has gradient 0: compare with the size of the loss there.
        distance = np.abs(ours - node.grad.numpy()).max()
        assert distance < 1e-8 * max(np.abs(node.grad.numpy()).max(), 1e-3), (path, distance)
