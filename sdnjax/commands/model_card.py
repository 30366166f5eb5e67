"""The README.md of a network in a folder of its own: what it is, and nothing that nobody knows."""

from __future__ import annotations

from typing import Any, Protocol

import jax

import sdnjax
from sdnjax.data.data_settings import dataset_of
from sdnjax.experiment import Experiment
from sdnjax.inference.protocols import protocol_name


class Network(Protocol):
    """What is written of a trained network, `sdnjax.commands.trained.Trained`."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def variables(self) -> dict[str, Any]: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]: ...

    @property
    def mirrored(self) -> tuple[int, ...] | None: ...

    @property
    def step(self) -> int: ...


_CARD = """---
library_name: sdnjax
pipeline_tag: image-segmentation
tags:
- semantic-segmentation
- jax
---

# {title}

Semantic segmentation with {network}: {parameters:.2f} million parameters, {channels} input
channels, {num_classes} classes. Trained on `{data}` (split `{split}`), to step {step}; written by
sdnjax {version}.

```python
import sdnjax

network = sdnjax.load("{where}"{trust})
result = network("picture.jpg")
result.labels  # [H, W]
result.overlay()  # a picture
```

By itself it predicts by the protocol `{protocol}`; `config.json` has all settings of the run.

Classes: {classes}.

No scores are stated here: `eval.py` measures them on a data set. No licence is stated either:
whoever publishes the network chooses one, which the weights, the data that they were trained on and
what they were initialised with allow.
{code}"""
_CODE = """
The experiment has code of its own, in `code/`. It runs only with `trust_code=True`: read it first.
"""


def model_card(network: Network, where: str) -> str:
    """The text; `where` is what the network is loaded by."""
    experiment, data = network.experiment, network.experiment.data
    numbers = sum(x.size for x in jax.tree.leaves(network.variables.get("params", {})))
    trust = ", trust_code=True" if experiment.code else ""
    return _CARD.format(
        title=experiment.name,
        network=experiment.network_title,
        parameters=numbers / 1e6,
        channels=data.channels,
        num_classes=len(network.classes),
        data=dataset_of(data).name,
        split=data.train_split,
        step=network.step,
        version=sdnjax.__version__,
        where=where,
        trust=trust,
        code=_CODE if experiment.code else "",
        protocol=protocol_name(experiment.evaluation),
        classes=", ".join(f"{k} {name}" for k, name in enumerate(network.classes)),
    )
