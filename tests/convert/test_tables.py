"""Which table serves which network."""

import pytest

from sdnjax.convert import hf_segformer, mmseg_fcn, mmseg_fpn, torchvision_resnet
from sdnjax.convert.rows import table_rows
from sdnjax.convert.tables import TABLES, find_table
from sdnjax.errors import InputError
from sdnjax.models import MODELS, create_model


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


def test_a_table_for_other_networks_says_so():
    segmenter = create_model("segmenter_vit-t_mask", num_classes=2)
    with pytest.raises(InputError, match="whose backbone is ResNet, here it is ViT: name another"):
        torchvision_resnet.rows(segmenter)
    with pytest.raises(InputError, match="whose decoder is FCNHead, here it is SemanticFPNHead"):
        mmseg_fcn.rows(create_model("fpn_r18", num_classes=2))
    with pytest.raises(InputError, match="whose auxiliary is Head, here it is NoneType"):
        mmseg_fcn.rows(create_model("fcn_r18-d8", num_classes=2).clone(auxiliary=None))
    with pytest.raises(InputError, match=r"table hf_segformer: it is .* whose backbone is MiT"):
        table_rows(hf_segformer, segmenter)
