from collections import Counter

import pytest

from sdnjax.data import Data, mixed, open_source, train_batches
from sdnjax.errors import InputError
from tests.data import miniatures
from tests.data.conftest import one_line


@pytest.fixture
def root(tmp_path):
    for folder, count in (("a", 2), ("b", 1)):
        counts = (("train", count), ("val", 1))
        miniatures.make_own(tmp_path / folder, counts=counts, size=(6, 6))
    return tmp_path


def names(source):
    return [source.name(i) for i in range(len(source))]


def test_an_epoch_shows_each_as_often_as_asked(root):
    data = Data(name=mixed("both", {"b": 3, "a": 1}), dir=str(root), crop_size=(4, 4))
    source = open_source(data, "train")
    assert Counter(names(source)) == {"a/000": 1, "a/field/001": 1, "b/000": 3}
    assert names(open_source(data, "val")) == ["a/000", "b/000"]
    assert source.label_space.classes == ("soil", "leaf", "stem")
    assert source[0].label.shape == source[0].image.shape[:2]
    with train_batches(data, seed=0, batch_size=5, stop_step=1) as batches:
        assert batches.num_examples == 5
        assert next(batches)["image"].shape == (5, 4, 4, 3)


def test_mistakes(root):
    def message(times):
        with pytest.raises(InputError) as error:
            open_source(Data(name=mixed("both", times), dir=str(root)), "train")
        return one_line(error)

    assert "mixed() needs folders" in message({})
    for count in (0, -1, 1.5, True):
        assert "'a' must be shown 1 or more times" in message({"a": count})
    assert f"{root / 'c'} does not exist" in message({"a": 1, "c": 1})
    text = (root / "b" / "classes.csv").read_text()
    (root / "b" / "classes.csv").write_text(text.replace("stem", "stalk"))
    assert f"the class files of {root / 'a'} and {root / 'b'} differ" in message({"a": 1, "b": 1})
