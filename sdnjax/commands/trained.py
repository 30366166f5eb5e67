"""A trained network, read back from a work directory or a folder of its own."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import SingleDeviceSharding

from sdnjax.commands.hub import local_folder, push
from sdnjax.commands.pictures import extra_inputs, own_pixels
from sdnjax.commands.pretrained import (
    is_pretrained,
    read_description,
    read_variables,
    variables_like,
    write_pretrained,
)
from sdnjax.commands.result import Result
from sdnjax.commands.workdir import load_experiment
from sdnjax.data.reading.images import picture_of
from sdnjax.errors import InputError, unknown
from sdnjax.experiment import Experiment, experiment_from_dict
from sdnjax.inference.predictor import Predictor
from sdnjax.inference.protocols import Evaluation
from sdnjax.inference.scoring import check_canvas
from sdnjax.places import place
from sdnjax.recipe import with_shardings
from sdnjax.settings import differences
from sdnjax.training.checkpoints import describe, find_checkpoint, finished_steps, load_items

if TYPE_CHECKING:
    from PIL import Image

# Which checkpoint of a run: that of a step, the best one, or the latest.
Step = int | Literal["best"] | None
# A file, or what was read of one: a Pillow image, or an array [H, W, C] or [H, W].
Picture: TypeAlias = "str | os.PathLike[str] | Image.Image | np.ndarray"


@dataclass(frozen=True, repr=False)
class Trained:
    """A module with its variables and what is needed to use them: a function of pictures.

    `mirrored` is what the classes are in the mirror image, None if they stay what they are.
    """

    experiment: Experiment
    network: nn.Module
    variables: dict[str, Any]
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    step: int
    mirrored: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        title, count = self.experiment.network_title, len(self.classes)
        return f"Trained({title}; {count} classes; step {self.step})"

    def predictor(self, evaluation: Evaluation | None = None) -> Predictor:
        """Predicts by the run's own protocol, or by another."""
        return Predictor(
            self.network,
            self.experiment.evaluation if evaluation is None else evaluation,
            self.experiment.data.normalization,
            self.mirrored,
        )

    @overload
    def __call__(self, pictures: Picture, *, probabilities: bool = False) -> Result: ...

    @overload
    def __call__(
        self, pictures: list[Picture] | tuple[Picture, ...], *, probabilities: bool = False
    ) -> list[Result]: ...

    def __call__(
        self,
        pictures: Picture | list[Picture] | tuple[Picture, ...],
        *,
        probabilities: bool = False,
    ) -> Result | list[Result]:
        """The classes of a picture's pixels, or of those of each in a list.

        Args:
          pictures: a file, a Pillow image, an array `[H, W, C]` or `[H, W]`, or a list of them, of
            any sizes. They are read as predict.py reads its files: turned as the camera says,
            `data.channels` bands, 8 bits unless there is a `data.value_range`.
          probabilities: whether results keep those of all classes, `float32 [H, W, K]`.

        Raises: InputError for what is no picture, or none that the network can take.
        """
        if isinstance(pictures, (list, tuple)):
            return [self._read_and_segment(picture, probabilities) for picture in pictures]
        return self._read_and_segment(pictures, probabilities)

    def _read_and_segment(self, picture: Picture, probabilities: bool) -> Result:
        name: Any = getattr(picture, "filename", picture)  # of a Pillow image that was opened
        source = Path(name) if isinstance(name, (str, os.PathLike)) and name else None
        image = picture_of(picture, own_pixels(self.experiment.data))
        return self.segment(image, source, probabilities=probabilities)

    def segment(
        self, image: np.ndarray, source: Path | None = None, *, probabilities: bool = False
    ) -> Result:
        """The same of a picture that was read already, uint8 `[H, W, C]`, from the file `source`.

        No setting of `data` is applied to it.
        """
        predictor, variables, extras = self._inputs(image, source)

        def predict() -> np.ndarray:
            return predictor.probabilities(variables, [image], extras)[0]

        if probabilities:
            ((labels, found),) = predictor.both(variables, [image], extras)
            predict = lambda: found  # noqa: E731
        else:
            (labels,) = predictor.labels(variables, [image], extras)
        return Result(labels, self.classes, self.palette, image, source, predict)

    def likeliest(
        self, image: np.ndarray, source: Path | None = None, *, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The labels of a picture as `segment` has them, and uint16 `[H, W, 2, count]`: the
        likeliest classes of each pixel and their probabilities in whole percent. That takes far
        less memory than probabilities of all classes."""
        predictor, variables, extras = self._inputs(image, source)
        return predictor.likeliest(variables, [image], extras, count=count)[0]

    def _inputs(
        self, image: np.ndarray, source: Path | None
    ) -> tuple[Predictor, Any, list[dict[str, np.ndarray]]]:
        """What predicts a picture, the placed variables, and the inputs beside the picture."""
        predictor, variables = self._placed
        evaluation, data = self.experiment.evaluation, self.experiment.data
        check_canvas(image.shape[:2], evaluation, "the picture" if source is None else str(source))
        return predictor, variables, [extra_inputs(predictor.extras, image, data)]

    @functools.cached_property
    def _placed(self) -> tuple[Predictor, Any]:
        # Pictures of any sizes come one by one: a larger batch would be filled up with copies.
        protocol = dataclasses.replace(self.experiment.evaluation, batch_size=1)
        predictor = self.predictor(protocol)
        return predictor, predictor.place(self.variables)

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Writes the network to a folder of its own, which `sdnjax.load` reads.

        It holds `model.safetensors`, `config.json`, a model card `README.md`, and the code of an
        experiment that has some of its own. Paths of this machine are left out.

        Raises: InputError if there is something in the folder.
        """
        write_pretrained(self, Path(folder))

    def push_to_hub(
        self,
        repo: str,
        *,
        private: bool | None = None,
        message: str | None = None,
        token: str | None = None,
    ) -> str:
        """Uploads what `save_pretrained` writes to the Hugging Face hub, as the model `user/model`.

        A model card that is there stays. Needs `sdnjax[hub]` and a token of the hub.

        Returns the address.

        Raises:
          InputError: if the model is something else than a network of sdnjax, or the hub refuses.
        """
        return push(self, repo, private=private, message=message, token=token)


def load(
    path: str | os.PathLike[str],
    *,
    step: Step = None,
    evaluation: Evaluation | Mapping[str, Any] | None = None,
    trust_code: bool = False,
    config: str | Path | None = None,
    revision: str | None = None,
) -> Trained:
    """A trained network, as a function of pictures.

        network = sdnjax.load("runs/camvid_fcn_r18_sdn")
        result = network("street.jpg")
        result.labels, result.overlay()

    Args:
      path: the work directory of train.py or convert.py, a folder of `save_pretrained`, or the name
        of a model on the Hugging Face hub, `user/model`.
      step: of a work directory's checkpoint, "best" for that with the best score; None for the
        latest.
      evaluation: how pictures are predicted, in place of the run's own settings, or some of these:
        `{"flip": True}`.
      trust_code: run the code that comes with a network whose experiment has some of its own.
      config: run this configuration file in its place.
      revision: branch, tag or commit of a model on the hub.

    Raises: InputError that says what is missing or wrong.
    """
    folder = local_folder(os.fspath(path), revision)
    experiment = load_experiment(folder, config=config, trust_code=trust_code)
    if evaluation is not None:
        changed = _changed(experiment.evaluation, evaluation)
        experiment = dataclasses.replace(experiment, evaluation=changed)
    return load_network(folder, experiment, step)


def _changed(own: Evaluation, given: Evaluation | Mapping[str, Any]) -> Evaluation:
    if isinstance(given, Evaluation):
        return given
    if not isinstance(given, Mapping):
        raise InputError(f"evaluation is an Evaluation or settings of one, not {given!r}")
    known = [f.name for f in dataclasses.fields(Evaluation)]
    for key in given:
        if key not in known:
            raise unknown("unknown setting of evaluation", str(key), known)
    return dataclasses.replace(own, **given)


def load_network(
    workdir: str | Path, experiment: Experiment | None = None, step: Step = None
) -> Trained:
    """Loads the network of a run: parameters and batch-norm statistics, nothing else.

    Args:
      workdir: of a run that has saved a checkpoint, or a folder of `save_pretrained`.
      experiment: the run's own (see `load_experiment`, which None calls), or that with other
        settings of data and evaluation.
      step: of the checkpoint, "best" for that with the best score; None for the latest.

    Raises: InputError if the checkpoint holds another network than the experiment describes.
    """
    experiment = load_experiment(workdir) if experiment is None else experiment
    if is_pretrained(workdir):
        return _load_pretrained(Path(workdir), experiment, step)
    if step == "best":
        path = _best_checkpoint(place(workdir))
    else:
        path = find_checkpoint(place(workdir) / "checkpoints", step)
    description = describe(path)
    _check_network(path, description["experiment"], experiment)
    recipe = experiment.build(len(description["classes"]))
    device = SingleDeviceSharding(jax.local_devices()[0])
    variables = load_items(path, with_shardings(recipe.abstract_state(), device).variables)
    return _trained(experiment, recipe.network, variables, description, int(path.name))


def _load_pretrained(folder: Path, experiment: Experiment, step: Step) -> Trained:
    description = read_description(folder)
    if step not in (None, description["step"]):
        raise InputError(f"{folder} holds the network of step {description['step']} alone")
    _check_network(folder, description["experiment"], experiment)
    recipe = experiment.build(len(description["classes"]))
    leaves = read_variables(folder, description)
    variables = variables_like(recipe.abstract_state().variables, leaves, folder)
    return _trained(experiment, recipe.network, variables, description, description["step"])


def _trained(
    experiment: Experiment,
    network: nn.Module,
    variables: Any,
    description: Mapping[str, Any],
    step: int,
) -> Trained:
    palette = tuple(tuple(colour) for colour in description["palette"])
    mirrored = description.get("mirrored")  # earlier versions had none
    return Trained(
        experiment,
        network,
        variables,
        tuple(description["classes"]),
        palette,
        step,
        mirrored and tuple(mirrored),
    )


def _best_checkpoint(workdir: Path) -> Path:
    if not finished_steps(workdir / "best"):
        raise InputError(f"{workdir} has no best checkpoint: it was trained without keep_best")
    return find_checkpoint(workdir / "best")


def check_classes(workdir: str | Path, ours: tuple[str, ...], theirs: tuple[str, ...]) -> None:
    """InputError if the classes of a network and those of the data set are not the same."""
    if len(ours) != len(theirs):
        raise InputError(
            f"{workdir} was trained on {len(ours)} classes, the data set has {len(theirs)}"
        )
    for k, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        if our != their:
            raise InputError(f"{workdir} has {our!r} as class {k}, the data set has {their!r}")


def count_parameters(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(jnp.size(x) for x in jax.tree.leaves(params))


def _check_network(path: Path, saved: dict[str, Any], experiment: Experiment) -> None:
    """InputError unless the experiment's network is the one that was saved."""
    model = {"model": saved.get("model", {})}
    try:
        there = experiment_from_dict(model, str(path), experiment)
        changed = [d for d in differences(there, experiment) if d.split()[0].startswith("model")]
    except InputError as error:
        changed = [str(error).removeprefix(f"{path}: ")]
    if changed:
        raise InputError(f"{path} holds another network: {'; '.join(changed[:3])}")
