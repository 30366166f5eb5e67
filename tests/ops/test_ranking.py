"""Ranks by integers against NumPy's, with ties, zeros and infinity."""

import jax.numpy as jnp
import numpy as np

from sdnjax.ops.ranking import ordered_bits, ranks_from_above, sorted_nonnegative


def test_sorting_bits_is_sorting_numbers():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.random(50), 1e-40 * rng.random(9), [0, 0, 1, 1, np.inf, 3e38]])
    x = rng.permutation(x.astype(np.float32)).reshape(5, 13)
    np.testing.assert_array_equal(sorted_nonnegative(jnp.asarray(x)), np.sort(x, axis=-1))


def test_ranks_with_ties():
    keys = jnp.asarray(np.random.default_rng(1).integers(-1, 6, 40))
    above, not_below = ranks_from_above(keys, jnp.sort(keys))
    for i, key in enumerate(np.asarray(keys)):
        assert above[i] == (keys > key).sum() and not_below[i] == (keys >= key).sum()
    assert ordered_bits(jnp.zeros(())).dtype == jnp.int32
