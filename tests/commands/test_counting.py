"""What a pass over pictures tells, where there is no terminal."""

from sdnjax.commands.counting import counted


def lines_of(total, seconds_first, seconds):
    now, lines = [0.0], []
    for i, item in enumerate(
        counted(range(total), total, "val", lines.append, clock=lambda: now[0])
    ):
        assert item == i
        now[0] += seconds if i else seconds_first
    return lines


def test_a_line_at_the_start_and_every_ten_seconds():
    assert lines_of(9, 3.0, 3.0) == [
        "val: 9 images ...",
        "val: 4 of 9 images, 00:15 left",
        "val: 8 of 9 images, 00:03 left",
    ]


def test_the_first_picture_is_no_measure_of_the_rest():
    """It is compiled for."""
    assert lines_of(14, 60.0, 1.0)[1:] == [
        "val: 1 of 14 images, 13:00 left",
        "val: 11 of 14 images, 00:03 left",
    ]
