"""OCRNet-HR48 with SDN and InverseForm on Cityscapes: Table 3(c) of the SDN paper.

    python -m sdnjax.commands.inverse_form configs/cityscapes_ocrnet_hr48_sdn_inverse_form.py \
        --data.dir FOLDER --steps 20000 --learning-rate 1e-4
    python convert.py from-torch configs/cityscapes_ocrnet_hr48_sdn_inverse_form.py \
        hrnetv2_w48.pth --table hrnet --reinitialise decoder,classifier,neck,edge
    python train.py configs/cityscapes_ocrnet_hr48_sdn_inverse_form.py --data.dir FOLDER --resume
    python eval.py runs/cityscapes_ocrnet_hr48_sdn_inverse_form

Network, data and recipe are those of `cityscapes_ocrnet_hr48_sdn.py`; paper, boundary F at 1 px:
69.5 without InverseForm, 70.5 with it. The first command makes the regressor that the loss reads,
100 M numbers in 400 MB; whoever has the released one needs no first command and names it,
`--losses.3.regressor distance_measures_regressor.pth`. `--model.neck.operator none` is InverseForm
alone. The paper does not say which form of the loss it took: this is the joint loss of its code,
image by image. Not run by us.
"""

import dataclasses

from cityscapes_ocrnet_hr48_sdn import config as without

from sdnjax.experiment import Experiment
from sdnjax.losses import inverse_form_losses
from sdnjax.models import EdgeHead


def config() -> Experiment:
    experiment = without()
    return dataclasses.replace(
        experiment,
        name="cityscapes_ocrnet_hr48_sdn_inverse_form",
        model=dataclasses.replace(experiment.model, edge=EdgeHead()),
        losses=inverse_form_losses("runs/inverse_form_regressor.safetensors", auxiliary=True),
    )
