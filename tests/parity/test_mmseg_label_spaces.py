"""Names, order and colours of the classes against mmsegmentation's tables, which are only read."""

import ast
import importlib.util
from pathlib import Path

import pytest

from sdnjax.data.sets import label_space

SPEC = importlib.util.find_spec("mmseg")
if SPEC is None:
    pytest.skip("mmseg is not installed", allow_module_level=True)


def facts(module, name):
    """Classes and palette in METAINFO of a class, without importing mmsegmentation."""
    tree = ast.parse((Path(SPEC.origin).parent / "datasets" / f"{module}.py").read_text())
    (found,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    (call,) = [n.value for n in found.body if isinstance(n, ast.Assign)]
    values = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    # Theirs says "bed ".
    return [c.strip() for c in values["classes"]], [tuple(c) for c in values["palette"]]


@pytest.mark.parametrize(
    ("name", "module", "theirs"),
    [
        ("ade20k", "ade", "ADE20KDataset"),
        ("cityscapes", "cityscapes", "CityscapesDataset"),
        ("pascal_context_59", "pascal_context", "PascalContextDataset59"),
        ("pascal_context_60", "pascal_context", "PascalContextDataset"),
        ("voc2012_aug", "voc", "PascalVOCDataset"),
    ],
)
def test_same_classes_in_the_same_colours(name, module, theirs):
    space = label_space(name)
    classes, palette = facts(module, theirs)
    assert list(space.classes) == classes
    assert list(space.palette) == palette
