"""For which devices a program is being traced."""

import re

import jax


def target_device() -> tuple[str, str]:
    """Platform ("cpu", "gpu", "tpu") and kind of the mesh's devices in use, or of the default one.

    A hint for choosing between forms that are all right everywhere, or for refusing: `jax.jit`
    may still be told to run elsewhere.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.abstract_device is not None:
        return mesh.abstract_device.platform, mesh.abstract_device.device_kind
    device = getattr(jax.config, "jax_default_device", None)
    if device is None or isinstance(device, str):
        device = jax.devices(device)[0]
    return device.platform, device.device_kind


def is_tpu_with_kernels() -> bool:
    """Whether programs traced here are for TPUs that `sdnjax.ops.tpu` serves: v5e and later.

    Older ones have an eighth of a v5e's memory next to the cores.
    """
    platform, kind = target_device()
    return platform == "tpu" and not re.match(r"TPU v[1-4]\b", kind)
