"""What the log says of a run that waits for data."""

import dataclasses

import pytest

from sdnjax.commands.waiting import explain_waiting
from sdnjax.data.data_settings import Data

HOST = Data(workers=4)
FEW, TWO = Data(workers=2), Data(workers=4, processes=2)
DEVICE = dataclasses.replace(HOST, augment_on="device")


@pytest.mark.parametrize(
    ("seconds", "data", "cores", "said"),
    [
        # Four workers share their stages, one thread transfers: 1, 6, 2 and 1 seconds.
        ((4, 24, 8, 1), HOST, 8, "decoding 60%, augmentation 20%, reading 10%, transfer 10%; "),
        ((4, 24, 8, 1), HOST, 8, "data.processes=2 would use all cores"),
        ((4, 24, 8, 1), HOST, 4, "all 4 cores are busy; smaller image files would help"),
        ((4, 8, 24, 1), FEW, 8, "data.workers=4 would use more cores"),
        ((4, 24, 8, 1), TWO, 8, "all 8 cores are busy"),
        ((4, 8, 24, 1), HOST, 4, "data.augment_on=device would help if all images have one size"),
        ((24, 8, 4, 1), HOST, 4, "more than 4 data.workers, or a data set prepared"),
        ((24, 8, 4, 1), DEVICE, 4, "python -m sdnjax.data.prepare"),
        # The workers need 9 seconds together: transferring is the bottleneck from there on.
        ((4, 24, 8, 8.9), HOST, 4, "transfer 50%, decoding 34%, augmentation 11%, reading 6%; all"),
        ((4, 24, 8, 9.1), HOST, 8, "data.augment_on=device would help if all images have one size"),
        ((4, 24, 0, 9.1), DEVICE, 8, "; smaller image files would help"),
        ((0, 0, 0, 0), HOST, 8, "its time was not measured"),
    ],
)
def test_shares_and_advice(seconds, data, cores, said):
    stages = ("reading", "decoding", "augmentation", "transfer")
    text = explain_waiting(dict(zip(stages, seconds, strict=True)), data, cores)
    assert said in text
    assert "\n" not in text


def test_cores_are_counted():
    assert "%" in explain_waiting({"decoding": 1.0}, HOST)
