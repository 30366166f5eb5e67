"""The snippets of docs/networks.md, as they are printed there."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from sdnjax.models import Model, Neck, create_model
from sdnjax.ops.sdc import reference

TEXT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


class Doubled(nn.Module):
    """A refinement."""

    def __call__(self, scores, *, train):
        return 2 * scores


class Same(nn.Module):
    """A neck."""

    def __call__(self, stages, *, train):
        return stages


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippets_build_networks(snippet):
    names = {"MyNeck": Same, "MyRefinement": Doubled, "create_model": create_model}
    names |= {"Model": Model, "Neck": Neck, "nn": nn, "jnp": jnp, "reference": reference}
    code = snippet.replace("train, superpixels): ...", "train, superpixels): return features")
    *definitions, last = code.split("\n\n\n")
    exec("\n\n\n".join(definitions), names)
    for line in last.strip().splitlines():
        built = eval(line, names)
        network = built.build(3) if isinstance(built, Model) else built
        image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
        label = jax.ShapeDtypeStruct((1, 64, 64), jnp.int32)
        extras = {"superpixels": label} if "superpixels" in network.inputs else {}

        def outputs(image, extras, network=network):
            return network.init_with_output(jax.random.key(0), image, train=False, **extras)[0]

        assert jax.eval_shape(outputs, image, extras)["logits"].shape[:3] == (1, 64, 64)
