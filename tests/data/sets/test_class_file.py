import numpy as np
import pytest

from sdnjax.data.sets.class_file import find_class_file, read_classes
from sdnjax.errors import InputError
from tests.data.conftest import one_line

GREY = """class,value,color
soil,0,#604020
leaf,10,#20a040
leaf,11,#40c860
void,255,#ffffff
stem,20,#A0A030
"""


def read(tmp_path, text, encoding="utf-8"):
    (tmp_path / "classes.csv").write_bytes(text.encode(encoding))
    return read_classes(tmp_path / "classes.csv")


def test_values_and_colours(tmp_path):
    space = read(tmp_path, GREY)
    assert space.classes == ("soil", "leaf", "stem")
    assert space.palette == ((0x60, 0x40, 0x20), (0x20, 0xA0, 0x40), (0xA0, 0xA0, 0x30))
    grey = np.array([[0, 10, 11], [255, 20, 0]], np.uint8)
    np.testing.assert_array_equal(space.map_labels(grey, "x"), [[0, 1, 1], [255, 2, 0]])
    rgb = np.array([[[0x40, 0xC8, 0x60], [255, 255, 255], [0xA0, 0xA0, 0x30]]], np.uint8)
    np.testing.assert_array_equal(space.map_labels(rgb, "x"), [[1, 255, 2]])


def test_only_values(tmp_path):
    space = read(tmp_path, "class,value,color\na,1,\nb,2,\nvoid,0,\n")
    assert space.file_values == ((1, 0), (2, 1), (0, 255))
    assert space.file_colors == ()
    # Colours to be shown in are chosen: the VOC devkit's, which has black as its first.
    assert space.palette == ((128, 0, 0), (0, 128, 0))


def test_only_colours(tmp_path):
    space = read(tmp_path, "class,value,color\na,,#000000\nb,,#0000ff\nVoid,,#ffffff\n")
    assert space.classes == ("a", "b")
    assert space.file_values == ()
    assert space.file_colors == (((0, 0, 0), 0), ((0, 0, 255), 1), ((255, 255, 255), 255))


def test_one_colour_may_stand_for_several_values_of_a_class(tmp_path):
    space = read(tmp_path, "class,value,color\na,1,#000001\na,2,#000001\nb,3,#000003\n")
    assert space.file_colors == (((0, 0, 1), 0), ((0, 0, 3), 1))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_what_spreadsheets_write(tmp_path, encoding):
    text = '\r\nclass, value ,color\r\n"büsche, hohe",1,#000001\r\n,,\r\nb,2,#000002\r\n'
    assert read(tmp_path, text, encoding).classes == ("büsche, hohe", "b")


ROWS = "class,value,color\na,1,#000001\nb,2,#000002\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": the file is empty; its header must be class,value,color"),
        ("a,1,#000001\n", ", line 1: the header must be class,value,color, not a,1,#000001"),
        ("class,value,color\n", ": 0 class(es); at least two are needed"),
        ("class,value,color\na,1,\nvoid,2,\n", ": 1 class(es); at least two are needed"),
        (ROWS + "c,3\n", ", line 4: 2 cells; there must be 3: class,value,color"),
        (ROWS + "c,3,#000003,\n", ", line 4: 4 cells"),
        (ROWS + ",3,#000003\n", ", line 4: the class has no name"),
        (
            ROWS + "c,2147483648,#000003\n",
            ", line 4: value must be a whole number from 0 to 2147483647",
        ),
        (
            ROWS + "c,-1,#000003\n",
            ", line 4: value must be a whole number from 0 to 2147483647",
        ),
        (
            ROWS + "c,x,#000003\n",
            ", line 4: value must be a whole number from 0 to 2147483647",
        ),
        (ROWS + "c,²,#000003\n", ", line 4: value must be a whole number from 0 to 2147483647"),
        (
            ROWS + "c,3,red\n",
            ", line 4: color must be #rrggbb, or red green blue to 255, not 'red'",
        ),
        (
            ROWS + "c,3,#12345g\n",
            ", line 4: color must be #rrggbb",
        ),
        (ROWS + "\nc,2,#000003\n", ", line 5: value 2 is in line 3 already"),
        (ROWS + "a,1,#000003\n", ", line 4: value 1 is in line 2 already"),
        (ROWS + "c,3,#000002\n", ", line 4: color #000002 is in line 3 already"),
        ("class,value,color\na,,#000001\na,,#000001\nb,,#000002\n", "is in line 2 already"),
        (ROWS + "c,3,\n", ", line 4: value and color are each filled in every line or in none"),
        (ROWS + "c,,#000003\n", ", line 4: value and color are each filled in every line or"),
        ("class,value,color\na,,\n", ", line 2: value and color are each filled"),
        (ROWS + '"c,3,#000003\n', ", line 4: "),
    ],
)
def test_mistake_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert one_line(error).startswith(str(tmp_path / "classes.csv"))
    assert message in one_line(error)


def test_too_many_classes(tmp_path):
    rows = [f"c{k},,#{k:06x}" for k in range(256)]
    assert read(tmp_path, "\n".join(["class,value,color", *rows[:255]])).num_classes == 255
    with pytest.raises(InputError, match="line 257: 'c255' is the 256th class; there may be 255"):
        read(tmp_path, "\n".join(["class,value,color", *rows]))


def test_missing_or_other_file(tmp_path):
    with pytest.raises(InputError) as error:
        read_classes(tmp_path / "classes.csv")
    assert "no such file; it lists the classes: class,value,color" in one_line(error)
    with pytest.raises(InputError, match="not a text file in UTF-8"):
        read(tmp_path, "class,value,color\né,1,\n", "latin-1")


@pytest.mark.parametrize(
    ("text", "classes", "values", "colors"),
    [
        ("class,value\na,0\nb,300\n", "ab", ((0, 0), (300, 1)), ()),
        ("class,color\na,#000001\nb,#000002\n", "ab", (), (((0, 0, 1), 0), ((0, 0, 2), 1))),
        ("class;value;color\na;1;\nb;2;\n", "ab", ((1, 0), (2, 1)), ()),
        ("class\tid\na\t4\nb\t2\n", "ab", ((4, 0), (2, 1)), ()),
        ("Pixel Value, Class\n0, a\n1, b\n", "ab", ((0, 0), (1, 1)), ()),
        ("name,r,g,b\na,0,0,0\nb,9,8,7\n", "ab", (), (((0, 0, 0), 0), ((9, 8, 7), 1))),
        ("a\nb\n", "ab", ((0, 0), (1, 1)), ()),
        ("class\na\nb\n", "ab", ((0, 0), (1, 1)), ()),
        ("__ignore__\n_a_\nb\n", ("_a_", "b"), ((255, 255), (0, 0), (1, 1)), ()),
        (
            "# label:color_rgb:parts:actions\na:0,0,0::\nb:9,8,7::\n",
            "ab",
            (),
            (((0, 0, 0), 0), ((9, 8, 7), 1)),
        ),
    ],
)
def test_other_forms(tmp_path, text, classes, values, colors):
    space = read(tmp_path, text)
    assert space.classes == tuple(classes)
    assert space.file_values == values
    assert space.file_colors == colors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class,value\na,0\nignore,1\n", "line 3: 'ignore' may be a class, or what is to be"),
        ("a\nvoid\nb\n", "line 2: names alone have the values 0, 1, 2, …, and it is open which"),
        ("a\n__ignore__\nb\n", "line 2: names alone have the values"),
        ("a\nb\na\n", "line 3: 'a' is listed twice"),
        ("class,value\nLeaf,0\nleaf,1\n", "line 3: 'leaf' and 'Leaf' differ in capitals alone"),
        ("class,valeu\na,0\nb,1\n", "unknown column 'valeu'; did you mean value?"),
        ("class,value,id\na,0,0\nb,1,1\n", "two columns for value"),
        ("name,r,g\na,0,0\nb,1,1\n", "a color is one column, or red, green and blue"),
        ("name,r,g,b\na,0,0,256\nb,1,1,1\n", "line 2: color must be #rrggbb, or red"),
        ("# label:color_rgb:parts:actions\na:0,0\n", "line 2: expected label:r,g,b:parts"),
        ("class,value\na,0\n", "a line background with its value"),
    ],
)
def test_mistakes_in_other_forms(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, text)
    assert message in one_line(error)


def test_letters_written_in_two_ways_are_one_class(tmp_path):
    space = read(tmp_path, "class,value\nb\u00fcsche,0\nbu\u0308sche,1\nb,2\n")
    assert space.classes == ("b\u00fcsche", "b")
    assert space.file_values == ((0, 0), (1, 0), (2, 1))


def test_which_file_lists_the_classes(tmp_path):
    assert find_class_file(tmp_path).name == "classes.csv"
    for split in ("train", "valid"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, a\n1, b\n")
    assert find_class_file(tmp_path) == tmp_path / "train" / "_classes.csv"
    (tmp_path / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, b\n1, a\n")
    with pytest.raises(InputError, match="both list classes, and differ"):
        find_class_file(tmp_path)
    (tmp_path / "labelmap.txt").write_text("a\nb\n")
    assert find_class_file(tmp_path) == tmp_path / "labelmap.txt"
    (tmp_path / "classes.csv").write_text("a\nb\n")
    assert find_class_file(tmp_path) == tmp_path / "classes.csv"
