#!/usr/bin/env python3
"""Error of Winograd's convolution for several sets of points, in float32, against float64.

    python3 scripts/winograd-points.py          needs numpy

Prints the relative error ||z - z64|| / ||z64|| of the forward pass: of 2x2 outputs of six channels (C3, src/model/engine/simd/assembly/
winograd.ts), and of four outputs in a row of one channel (C1, winograd-rows.ts), with inputs and weights like LeNet-5's.
"""
from fractions import Fraction as F

import numpy as np

f32 = np.float32
N = 4000
rng = np.random.default_rng(1)


def matrices(points, outputs):
    """Toom-Cook: A^T, G and B^T of F(outputs, 5) for the points and infinity."""
    n = outputs + 4
    assert len(points) == n - 1

    def product_without(skip):
        p = [F(1)]
        for j, b in enumerate(points):
            if j != skip:
                p = [(p[k - 1] if k else 0) - b * (p[k] if k < len(p) else 0) for k in range(len(p) + 1)]
        return p

    at, g, bt = np.zeros((outputs, n)), np.zeros((n, 5)), np.zeros((n, n))
    for i, a in enumerate(points):
        scale = F(1)
        for j, b in enumerate(points):
            if j != i:
                scale *= a - b
        bt[i, : n - 1] = [float(c) for c in product_without(i)]
        g[i] = [float(a**k / scale) for k in range(5)]
        at[:, i] = [float(a**k) for k in range(outputs)]
    bt[n - 1] = [float(c) for c in product_without(None)]
    g[n - 1, 4] = 1
    at[outputs - 1, n - 1] = 1
    return at, g, bt


def along(m, x):
    """m times the last axis of x, one float32 rounding at a time."""
    out = np.zeros(x.shape[:-1] + (m.shape[0],), f32)
    for k in range(m.shape[1]):
        out = out + m[:, k].astype(f32) * x[..., k : k + 1]
    return out


def both(m, x):
    """m x m^T on the last two axes."""
    return np.swapaxes(along(m, np.swapaxes(along(m, x), -1, -2)), -1, -2)


def relative(z, exact):
    return np.linalg.norm(z - exact) / np.linalg.norm(exact)


def signed(*values):
    return [F(0)] + [s * F(v) for v in values for s in (1, -1)]


def two_dimensional():
    d = rng.uniform(0.2, 0.8, (N, 6, 6, 6)).astype(f32)
    w = (rng.uniform(-1, 1, (N, 6, 5, 5)) * np.sqrt(6 / 550)).astype(f32)
    exact, direct = np.zeros((N, 2, 2)), np.zeros((N, 2, 2), f32)
    for c in range(6):
        for i in range(5):
            for j in range(5):
                window, tap = d[:, c, i : i + 2, j : j + 2], w[:, c, i, j, None, None]
                exact += window.astype(float) * tap
                direct = direct + window * tap
    print(f"F(2x2, 5x5), direct sum: {relative(direct, exact):.2e}")
    for points in [signed(1, 2), signed(1, "1/2"), [F(0), F(1), F(-1), F(2), F("-1/2")], signed("1/2", "5/4"), signed("3/4", "3/2")]:
        at, g, bt = matrices(points, 2)
        u = np.einsum("ij,ncjk,lk->ncil", g, w.astype(float), g).astype(f32)
        v = both(bt, d)
        m = np.zeros((N, 6, 6), f32)
        for c in range(6):
            m = m + u[:, c] * v[:, c]
        print(f"F(2x2, 5x5), points {', '.join(map(str, points))}: {relative(both(at, m), exact):.2e}")


def one_dimensional():
    d = (rng.uniform(0, 1, (N, 5, 8)) * (rng.uniform(0, 1, (N, 5, 8)) < 0.4)).astype(f32)
    w = (rng.uniform(-1, 1, (N, 5, 5)) * np.sqrt(6 / 175)).astype(f32)
    exact, direct = np.zeros((N, 4)), np.zeros((N, 4), f32)
    for i in range(5):
        for j in range(5):
            window, tap = d[:, i, j : j + 4], w[:, i, j, None]
            exact += window.astype(float) * tap
            direct = direct + window * tap
    print(f"F(4, 5), direct sum: {relative(direct, exact):.2e}")
    for points in [signed(1, 2, "1/2"), signed("3/4", "3/2", "3/8"), signed("1/2", 1, "3/2"), signed("1/2", 1, "7/4"), signed("5/8", 1, "3/2")]:
        at, g, bt = matrices(points, 4)
        u = np.einsum("ij,nyj->nyi", g, w.astype(float)).astype(f32)
        v = along(bt, d)
        m = np.zeros((N, 8), f32)
        for i in range(5):
            m = m + u[:, i] * v[:, i]
        print(f"F(4, 5), points {', '.join(map(str, points))}: {relative(along(at, m), exact):.2e}")


two_dimensional()
one_dimensional()
