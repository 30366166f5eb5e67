"""Which table serves which network."""

import pytest

from sdnjax.convert import mmseg_fcn, mmseg_fpn, torchvision_resnet
from sdnjax.convert.tables import TABLES, find_table
from sdnjax.errors import InputError
from sdnjax.models import MODELS


@pytest.mark.parametrize("name", MODELS)
def test_every_network_has_a_table(name):
    assert find_table(None, name).rows


def test_tables_by_name():
    assert find_table(None, "fcn_r50-d8") is mmseg_fcn
    assert find_table(None, "fpn_r50") is mmseg_fpn
    assert find_table("torchvision_resnet", "fcn_r50-d8") is torchvision_resnet
    assert all(hasattr(t, "rows") and isinstance(t.IGNORED, tuple) for t in TABLES.values())
    with pytest.raises(InputError, match=r"no table 'torchvision_resnt'.*mean torchvision_resnet"):
        find_table("torchvision_resnt", "fcn_r50-d8")
    with pytest.raises(InputError, match="unet has no table of its own; name one of mmseg_fcn"):
        find_table(None, "unet")
