"""How XLA compiles for the tests; nothing here imports JAX."""

import importlib.metadata

# jaxlib 0.10 has two kinds of emitters of machine code for CPUs, and the older compile in half the
# time; later ones have the newer alone, and end the process at a flag that they do not know.
OLDER_EMITTERS = importlib.metadata.version("jaxlib").startswith("0.10.")

# Options of `jax.jit` for what is equal bit by bit in programs that users' settings make: which
# operations share a loop decides how they round.
AS_USERS = {"xla_cpu_use_fusion_emitters": True} if OLDER_EMITTERS else {}
