"""Where the parameters of older checkpoints lie: decoders used to hold the classifier.

Before, the classifier was `decoder/classifier`, or, where it was all that there was (DeepLabV2,
Segmenter), the decoder itself. Now it is `classifier` in the network. Everything else, auxiliary
heads included, is where it was.
"""

from __future__ import annotations

from collections.abc import Collection

from sdnjax.errors import InputError

CLASSIFIER = "classifier/"
# Tried in this order: the second one is a beginning of the first.
OLD_PLACES = ("decoder/classifier/", "decoder/")


def old_leaves(old: Collection[str], new: Collection[str]) -> dict[str, str]:
    """For each leaf of a network of today, the leaf of an older checkpoint that it was.

        moved = old_leaves(flatten_dict(saved, sep="/"), flatten_dict(params, sep="/"))

    Args:
      old: paths of the checkpoint's parameters (or batch statistics), joined by "/".
      new: paths of the network's.

    Returns new path → old path, one for each; a checkpoint of today comes out as it is.

    Raises:
      InputError: leaves without a counterpart: the checkpoint is another network's.
    """
    old, found = set(old), {}
    for path in new:
        places = [path]
        if path.startswith(CLASSIFIER):
            places += [place + path.removeprefix(CLASSIFIER) for place in OLD_PLACES]
        place = next((place for place in places if place in old), None)
        if place is not None:
            found[path] = place
    missing, left = sorted(set(new) - found.keys()), sorted(old - set(found.values()))
    if missing or left:
        phrases = [f"it has no {missing[0]}"] if missing else []
        phrases += [f"the network has no {left[0]}"] if left else []
        count = len(missing) + len(left)
        raise InputError(
            f"the checkpoint holds another network: {count} leaves differ; {' and '.join(phrases)}"
        )
    return found
