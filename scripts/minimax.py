#!/usr/bin/env python3
"""Coefficients of 2^f on [-1/2, 1/2] for the sigmoid of src/model/engine/simd/assembly/math.ts: degree 5, least largest relative error.

    python3 scripts/minimax.py          needs mpmath

A Remez exchange. The constant comes out as 1 + 7.2e-8, half a unit of float32; math.ts takes 1, and the relative error
grows from 7.5e-8 to 1.8e-7.
"""
import mpmath as mp

mp.mp.dps = 40
DEGREE = 5
LOW, HIGH = mp.mpf(-1) / 2, mp.mpf(1) / 2
GRID = [LOW + (HIGH - LOW) * i / 4000 for i in range(4001)]


def solve(points):
    """The polynomial whose relative error alternates with equal size over the points."""
    n = DEGREE + 2
    a, b = mp.matrix(n, n), mp.matrix(n, 1)
    for i, x in enumerate(points):
        for j in range(DEGREE + 1):
            a[i, j] = x**j / mp.power(2, x)
        a[i, DEGREE + 1] = (-1) ** i
        b[i] = 1
    return list(mp.lu_solve(a, b))[: DEGREE + 1]


def error(coefficients, x):
    return sum(c * x**j for j, c in enumerate(coefficients)) / mp.power(2, x) - 1


def alternating_extrema(errors):
    """Indices of the largest error between changes of sign."""
    extrema = []
    for i, e in enumerate(errors):
        if extrema and e * errors[extrema[-1]] > 0:
            if abs(e) > abs(errors[extrema[-1]]):
                extrema[-1] = i
        else:
            extrema.append(i)
    return extrema


points = [mp.cos(mp.pi * (i + 0.5) / (DEGREE + 2)) / 2 for i in range(DEGREE + 2)][::-1]
for _ in range(10):
    coefficients = solve(points)
    errors = [error(coefficients, x) for x in GRID]
    points = [GRID[i] for i in alternating_extrema(errors)][: DEGREE + 2]
for j, c in enumerate(coefficients):
    print(f"f^{j}: {mp.nstr(c, 12)}")
print("largest relative error:", mp.nstr(max(abs(e) for e in errors), 3))
print("with the constant 1:", mp.nstr(max(abs(error([1] + coefficients[1:], x)) for x in GRID), 3))
