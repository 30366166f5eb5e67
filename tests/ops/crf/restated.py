"""Filters and mean fields in float64, point by point."""

import numpy as np


def kernel(features):
    """exp(−½|f_i − f_j|²), `[N, N]`."""
    f = np.asarray(features, np.float64)
    return np.exp(-0.5 * ((f[:, None] - f[None]) ** 2).sum(-1))


def normalised(k, how):
    sums = k.sum(axis=1) + 1e-20
    left = {"symmetric": sums**-0.5, "before": 1, "after": 1 / sums, "none": 1}[how]
    right = {"symmetric": sums**-0.5, "before": 1 / sums, "after": 1, "none": 1}[how]
    return np.broadcast_to(left, sums.shape)[:, None] * k * np.broadcast_to(right, sums.shape)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def lattice(features):
    """Splat `[M, N]`, blurs `[M, M]` along each axis and the slice's factor, of points `[N, d]`."""
    n, d = np.shape(features)
    points, weights = {}, []
    for f in np.asarray(features, np.float64):
        c = [f[i] * np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2)) for i in range(d)]
        e = np.array([sum(c), *(sum(c[j:]) - j * c[j - 1] for j in range(1, d + 1))])
        assert abs(e.sum()) < 1e-9
        v = np.round(e / (d + 1)).astype(int)
        z = (d + 1) * v
        rank = np.zeros(d + 1, int)
        for j in range(d + 1):
            for k in range(j + 1, d + 1):
                if e[j] - z[j] < e[k] - z[k]:
                    rank[j] += 1
                else:
                    rank[k] += 1
        rank += v.sum()
        for j in range(d + 1):
            if rank[j] < 0:
                rank[j], z[j] = rank[j] + d + 1, z[j] + d + 1
            elif rank[j] > d:
                rank[j], z[j] = rank[j] - d - 1, z[j] - d - 1
        b = np.zeros(d + 2)
        for j in range(d + 1):
            t = (e[j] - z[j]) / (d + 1)
            b[d - rank[j]] += t
            b[d - rank[j] + 1] -= t
        b[0] += 1 + b[d + 1]
        own = []
        for r in range(d + 1):
            key = tuple(int(z[j] + (r if rank[j] <= d - r else r - d - 1)) for j in range(d))
            own.append((points.setdefault(key, len(points)), b[r]))
        weights.append(own)
    m = len(points)
    splat = np.zeros((m, n))
    for i, own in enumerate(weights):
        for row, weight in own:
            splat[row, i] += weight
    blurs = []
    for axis in range(d + 1):
        blur = np.eye(m)
        for key, row in points.items():
            for sign in (1, -1):
                there = [k - sign for k in key]
                if axis < d:
                    there[axis] = key[axis] + sign * d
                if tuple(there) in points:
                    blur[row, points[tuple(there)]] += 0.5
        blurs.append(blur)
    return splat, blurs, 1 / (1 + 2.0**-d)


def lattice_matrix(features):
    """The permutohedral filter as a matrix `[N, N]`."""
    splat, blurs, factor = lattice(features)
    v = splat
    for blur in blurs:
        v = blur @ v
    return factor * splat.T @ v
