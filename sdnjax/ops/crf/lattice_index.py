"""Where pixels lie in the permutohedral lattice: keys, weights, neighbours, order of summation.

The lattice (Adams, Baek and Davis, "Fast high-dimensional filtering using the permutohedral
lattice", 2010) is that of the public DenseCRF code, so a filter made of it is equal to that code's
up to float32. It is built on the host by a few passes over arrays `[d + 1, N]`:

- The d + 1 vertices of a simplex have different residues r of their coordinates modulo d + 1, and
  coordinates of one residue are `(d + 1)·q + r`. So lattice points are kept by residue, and the
  small integers q are packed into one number.
- That number and the pixel's fit into 63 bits in practice, so sorting the numbers sorts the pixels.
- A lattice neighbour's residue is the next or the last, and its number differs by a constant.
- The pixels of a lattice point are summed some at a time, which is a gather; only the sums of those
  beyond a point's first are scattered.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from sdnjax.errors import InputError

Array = jax.Array | np.ndarray

_CHUNK = 8192  # points located at once, whose arrays the cache holds
_FEWEST_AT_ONCE, _MOST_AT_ONCE = 4, 16  # pixels that are summed at once


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PermutohedralIndex:
    """The lattice of N points with d features, of which M lattice points are touched.

    Row 0 of the lattice stands for every lattice point that is absent, and is always 0. Where less
    is needed than there is room for, weights are 0.

    Attributes:
      vertices, weights: int32 and float32 `[d + 1, N]`, rows of the lattice that each point lies
        between, and its barycentric coordinates.
      neighbours: int32 `[d + 1, 2, M]`, both neighbours along each axis.
      members, member_weights: `[T, M]`, the first T points of each row of the lattice; T is about
        how many it has, at most 16.
      rest, rest_weights: `[T, R]`, points beyond them.
      owners: int32 `[R]`, in order, the rows of the lattice that those belong to.
    """

    vertices: Array
    weights: Array
    neighbours: Array
    members: Array
    member_weights: Array
    rest: Array
    rest_weights: Array
    owners: Array

    @property
    def points(self) -> int:
        """N, those that fill up included."""
        return self.vertices.shape[1]

    @property
    def capacity(self) -> int:
        """M, row 0 and those that fill up included."""
        return self.neighbours.shape[2]


def bucket(count: int) -> int:
    """`count` rounded up to one of four sizes for each doubling, so that few shapes occur."""
    step = 1 << max(count.bit_length() - 3, 0)
    return -(-count // step) * step


def build_index(
    features: np.ndarray, *, points: int | None = None, capacity: int | None = None
) -> PermutohedralIndex:
    """The index of `features [N, d]`, distances in standard deviations, d ≥ 1.

    Args:
      features: finite; computed in float32.
      points: N is filled up to this many; None: to a `bucket`.
      capacity: rows of the lattice, row 0 included; None: a `bucket` of what is needed.

    Returns:
      An index of NumPy arrays. Shapes depend on d, `points`, `capacity` and R, which is a power of
      two: pictures of one size have few. Indices of equal shapes stack, for `jax.vmap`.

    Raises:
      InputError: the lattice needs more than `capacity`, N is more than `points`, features that
        are not finite `[N, d]`, or spread so widely that the lattice's coordinates do not fit.
    """
    features = np.asarray(features)
    if features.ndim != 2 or min(features.shape) < 1 or features.dtype.kind not in "iuf":
        raise InputError(f"features must be numbers [N, d], not {features.dtype} {features.shape}")
    n, d = features.shape
    if not np.isfinite(features).all():
        raise InputError("features are not finite")
    points = bucket(n) if points is None else points
    if n > points:
        raise InputError(f"the index of {points} points cannot take {n}")
    simplex = _simplices(np.ascontiguousarray(features.T, np.float32))

    vertices = np.zeros((d + 1, points), np.int32)
    weights = np.zeros((d + 1, points), np.float32)
    weights[:, :n] = simplex.weights
    numbers, counts, rows, row_weights, first = [], [np.zeros(1, np.int64)], [], [], [1]
    keys = simplex.keys
    for r in range(d + 1):
        if r:
            keys = keys - simplex.steps[r - 1]
        order, ordered = _sorted(keys, simplex.span)
        new = np.empty(n, bool)
        new[0] = True
        np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
        begin = np.flatnonzero(new)
        group = np.cumsum(new, dtype=np.int32)
        group += first[-1] - 1
        vertices[r][order] = group
        numbers.append(ordered[begin])
        counts.append(np.diff(begin, append=n))
        rows.append(order)
        row_weights.append(simplex.weights[r][order])
        first.append(first[-1] + len(begin))

    used = first[-1]
    capacity = bucket(used) if capacity is None else capacity
    if used > capacity:
        raise InputError(f"the lattice has {used} points and room for {capacity}")
    neighbours = _neighbours(numbers, first, simplex.strides, capacity)
    members = _members(
        np.concatenate(rows),
        np.concatenate(row_weights),
        np.concatenate(counts),
        capacity,
        in_all=points * (d + 1),
    )
    return PermutohedralIndex(vertices, weights, neighbours, *members)


@dataclass(frozen=True)
class _Simplices:
    """Of each point: barycentric weights `[d + 1, N]` of its vertices, by residue; the number of
    vertex 0 `[N]`; what the number falls by from each vertex to the next, `[d, N]`. Of all:
    strides of the coordinates in numbers (that of the last, redundant one is 0); all numbers are
    below `span`."""

    weights: np.ndarray
    keys: np.ndarray
    steps: np.ndarray
    strides: list[int]
    span: int


def _simplices(features: np.ndarray) -> _Simplices:
    """The simplex that each point `[d, N]` lies in."""
    d, n = features.shape
    i = np.arange(1, d + 1)
    scales = np.float32(np.sqrt(2 / 3) * (d + 1)) * (1 / np.sqrt(i * (i + 1))).astype(np.float32)
    elevated = np.empty((d + 1, n), np.float32)
    total = np.zeros(n, np.float32)
    for j in range(d, 0, -1):
        scaled = features[j - 1] * scales[j - 1]
        np.subtract(total, np.float32(j) * scaled, out=elevated[j])
        total += scaled
    elevated[0] = total

    # Numbers have a digit for each coordinate but the last, with room for the simplex's vertices
    # and their neighbours on both sides.
    ends = elevated[:d].min(axis=1) / (d + 1), elevated[:d].max(axis=1) / (d + 1)
    if max(map(np.max, map(np.abs, ends))) >= 2**24:
        raise InputError("features are too far from each other for a lattice of float32")
    low, high = np.floor(ends[0]).astype(int) - 3, np.ceil(ends[1]).astype(int) + 3
    strides, span = [], 1
    for extent in (high - low).tolist():
        strides.append(span)
        span *= extent
    strides.append(0)
    if span >= 2**62:
        cells = " × ".join(map(str, high - low))
        raise InputError(
            f"the features span {cells} lattice cells, whose numbers do not fit into 62 bits: take "
            "larger standard deviations, or fewer features"
        )
    found = _Simplices(
        np.empty((d + 1, n), np.float32),
        np.empty(n, np.int64),
        np.empty((d, n), np.int64),
        strides,
        span,
    )
    first_key = -sum(int(lowest) * stride for lowest, stride in zip(low, strides, strict=False))
    for start in range(0, n, _CHUNK):
        own = slice(start, start + _CHUNK)
        _locate(found, own, elevated[:, own], first_key)
    return found


def _locate(found: _Simplices, own: slice, elevated: np.ndarray, first_key: int) -> None:
    """Writes what is to be found of a few points, whose arrays the cache holds."""
    weights, keys, steps = found.weights[:, own], found.keys[own], found.steps[:, own]
    strides = found.strides
    d, n = len(elevated) - 1, elevated.shape[1]
    one, edges = np.float32(1), np.float32(d + 1)
    quotient = np.rint(elevated * (one / edges))
    away = elevated - quotient * edges
    rank = np.empty((d + 1, n), np.int16)
    rank[:] = quotient.sum(axis=0).astype(np.int16)
    for j in range(d + 1):
        for k in range(j + 1, d + 1):
            less = away[j] < away[k]
            rank[j] += less
            rank[k] += ~less
    for wrong, sign in ((rank < 0, 1), (rank > d, -1)):
        quotient += wrong * np.float32(sign)
        rank += wrong * np.int16(sign * (d + 1))
    remainder = (elevated - quotient * edges) * (one / edges)
    keys[:] = first_key
    for q, stride in zip(quotient[:d], strides, strict=False):
        keys += q.astype(np.int64) * stride

    # By falling rank: what a coordinate gives to the weights, and to the keys.
    by_rank, of_rank = np.empty((d + 1, n), np.float32), np.empty((d + 1, n), np.int64)
    place = (d - rank).astype(np.intp) * n + np.arange(n)
    for j in range(d + 1):
        by_rank.reshape(-1)[place[j]] = remainder[j]
        of_rank.reshape(-1)[place[j]] = strides[j]
    np.subtract(by_rank[1:], by_rank[:-1], out=weights[1:])
    np.add(by_rank[0], one - by_rank[d], out=weights[0])
    steps[:] = of_rank[:d]


def _sorted(keys: np.ndarray, span: int) -> tuple[np.ndarray, np.ndarray]:
    """A stable order of `keys`, which are below `span`, as int32, and the keys in it."""
    n = len(keys)
    bits = n.bit_length()
    if span.bit_length() + bits < 63:
        both = (keys << bits) | np.arange(n)
        both.sort()
        return (both & ((1 << bits) - 1)).astype(np.int32), both >> bits
    order = np.argsort(keys, kind="stable").astype(np.int32)
    return order, keys[order]


def _neighbours(
    numbers: list[np.ndarray], first: list[int], strides: list[int], capacity: int
) -> np.ndarray:
    """Rows of both neighbours along each axis. The one has coordinates less 1, but d more at the
    axis: among the points of the residue below the number grows by the axis's stride."""
    d = len(numbers) - 1
    found = np.zeros((d + 1, 2, capacity), np.int32)
    for r, own in enumerate(numbers):
        there = numbers[r - 1]
        carry = sum(strides) if r == 0 else 0
        rows = np.arange(first[r], first[r + 1], dtype=np.int32)
        for axis, stride in enumerate(strides):
            wanted = own + (stride - carry)
            at = np.searchsorted(there, wanted)
            at[at == len(there)] = 0
            exists = np.flatnonzero(there[at] == wanted)
            to = at[exists].astype(np.int32) + np.int32(first[r - 1 if r else d])
            found[axis, 0, rows[exists]] = to
            found[axis, 1, to] = rows[exists]
    return found


def _members(
    rows: np.ndarray, weights: np.ndarray, counts: np.ndarray, capacity: int, *, in_all: int
) -> tuple[np.ndarray, ...]:
    """The last five fields of the index: for each row g of the lattice, `counts[g]` of `rows` and
    `weights`, one after the other. There may be `in_all` of them, which decides the shapes."""
    average = max(in_all // capacity, _FEWEST_AT_ONCE)
    at_once = min(_MOST_AT_ONCE, 1 << (average.bit_length() - 1))
    starts = np.cumsum(counts) - counts
    members = _padded(rows, weights, starts, counts, (at_once, capacity))
    pieces = np.maximum(counts - 1, 0) // at_once
    owners = np.repeat(np.arange(len(counts)), pieces)
    nth = np.arange(len(owners)) - (np.cumsum(pieces) - pieces)[owners]
    skipped = (nth + 1) * at_once
    size = 1 << max(len(owners) - 1, 0).bit_length()
    rest = _padded(
        rows, weights, starts[owners] + skipped, counts[owners] - skipped, (at_once, size)
    )
    # What only fills up adds 0 to the last row: owners stay in order.
    padded_owners = np.full(size, capacity - 1, np.int32)
    padded_owners[: len(owners)] = owners
    return (*members, *rest, padded_owners)


def _padded(
    rows: np.ndarray,
    weights: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
    shape: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """The first `shape[0]`, at most, of the rows of each group, and their weights."""
    own, factors = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for nth in range(shape[0]):
        there = np.flatnonzero(counts > nth)
        at = starts[there] + nth
        own[nth, there] = rows[at]
        factors[nth, there] = weights[at]
    return own, factors
