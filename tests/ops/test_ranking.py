"""Ranks by integers against NumPy's, with ties, zeros and infinity."""

import jax.numpy as jnp
import numpy as np

from sdnjax.ops.ranking import first_places, ordered_bits, run_ends, sorted_nonnegative


def test_sorting_bits_is_sorting_numbers():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random(50), 1e-40 * rng.random(9), [0, 0, 1, 1, np.inf, 3e38]])
    x = rng.permutation(x.astype(np.float32)).reshape(5, 13)
    np.testing.assert_array_equal(sorted_nonnegative(jnp.asarray(x)), np.sort(x, axis=-1))


def test_runs_of_equal_keys():
    keys = np.random.default_rng(1).integers(-1, 6, 40)
    order = np.sort(keys)
    first, ends = first_places(jnp.asarray(keys), jnp.asarray(order)), run_ends(jnp.asarray(order))
    for i in range(40):
        assert first[i] == (keys < keys[i]).sum()
        assert ends[i] == (keys <= order[i]).sum()
    assert first.dtype == ends.dtype == ordered_bits(jnp.zeros(())).dtype == jnp.int32
