import numpy as np
import pytest

from sdnjax.data.label_spaces import label_space
from sdnjax.errors import InputError
from tests.data.conftest import one_line

# Cityscapes' label ids in their order, from 0; those in capitals are evaluated.
CITYSCAPES_BY_ID = """
unlabeled,ego vehicle,rectification border,out of roi,static,dynamic,ground,ROAD,SIDEWALK
parking,rail track,BUILDING,WALL,FENCE,guard rail,bridge,tunnel,POLE,polegroup,TRAFFIC LIGHT
TRAFFIC SIGN,VEGETATION,TERRAIN,SKY,PERSON,RIDER,CAR,TRUCK,BUS,caravan,trailer,TRAIN
MOTORCYCLE,BICYCLE
"""


def mapping(name):
    """{file value: class} through the public function, without the values that raise."""
    space, result = label_space(name), {}
    for value in range(256):
        try:
            result[value] = int(space.map_labels(np.full((1, 1), value, np.uint8), "x")[0, 0])
        except InputError:
            continue
    return result


def test_shapes_values_are_classes():
    assert mapping("shapes") == {k: k for k in range(6)}


def test_camvid_eleventh_value_is_void():
    assert mapping("camvid") == {**{k: k for k in range(11)}, 11: 255}
    assert ",".join(label_space("camvid").classes) == (
        "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"
    )


def test_cityscapes_ids():
    by_id = CITYSCAPES_BY_ID.strip().replace("\n", ",").split(",")
    evaluated = [name for name in by_id if name.isupper()]
    assert len(by_id) == 34
    assert [c.upper() for c in label_space("cityscapes").classes] == evaluated
    assert mapping("cityscapes") == {
        i: evaluated.index(name) if name.isupper() else 255 for i, name in enumerate(by_id)
    }


@pytest.mark.parametrize("name", ["shapes", "camvid", "cityscapes"])
def test_colours_tell_classes_apart(name):
    space = label_space(name)
    assert space.num_classes == len(space.classes) == len(set(space.classes))
    assert len(set(space.palette)) == space.num_classes
    assert all(len(c) == 3 and all(0 <= v <= 255 for v in c) for c in space.palette)


def test_wrong_value_names_file_and_what_is_right():
    raw = np.zeros((4, 5), np.uint8)
    raw[1, 2:4] = 12
    with pytest.raises(InputError) as error:
        label_space("camvid").map_labels(raw, "valannot/a.png")
    message = one_line(error)
    assert "valannot/a.png" in message
    assert "12 at 2 pixels" in message
    assert "0-11" in message


def test_unknown_name_suggests_or_lists():
    with pytest.raises(InputError, match="did you mean cityscapes"):
        label_space("cityscape")
    with pytest.raises(InputError, match="shapes, camvid, cityscapes"):
        label_space("zzz")
