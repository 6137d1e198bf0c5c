"""Products of matrices: whether an error is that of the order of additions, of truncated factors, or no rounding."""

from __future__ import annotations

import numpy as np

GAUGE = 16.0
"""Limit of e / (eps |A||B|): what the BLAS tests allow a product."""
MANTISSAS = {"TF32 or float16": 10, "bfloat16": 7}
"""Bits of the fraction."""


def rounded(array: np.ndarray, bits: int) -> np.ndarray:
    """The nearest numbers with so many bits of fraction, as float64."""
    fraction, exponent = np.frexp(array.astype(np.float64))
    return np.ldexp(np.round(fraction * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)


def gauge(a: np.ndarray, b: np.ndarray, ours: np.ndarray) -> float:
    """Largest error of a product in units of eps |a||b|, element by element.

    Args:
        a: (..., N, K) and b: (K, M), the factors as they were; ours: (..., N, M), of the precision that is judged.
    """
    exact = a.astype(np.float64) @ b.astype(np.float64)
    limit = np.finfo(ours.dtype).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    return float((np.abs(exact - ours) / np.maximum(limit, np.finfo(np.float64).tiny)).max())


def proven(theirs: np.ndarray, ours: np.ndarray) -> np.ndarray:
    """Rows (..., T) -> whether the highest position is provably the same: twice the error is less than the gap.

    The gap is that between the two highest numbers of the reference; a tie proves nothing.
    """
    if theirs.shape[-1] < 2:
        return np.ones(theirs.shape[:-1], bool)
    highest = np.partition(theirs.astype(np.float64), -2, axis=-1)
    error = np.abs(theirs.astype(np.float64) - ours).max(axis=-1)
    return 2 * error < highest[..., -1] - highest[..., -2]


def judge_product(a: np.ndarray, b: np.ndarray, theirs: np.ndarray, ours: np.ndarray) -> tuple[str, str]:
    """Which kind of difference two results of one product have.

    Args:
        a: (..., N, K) and b: (K, M); theirs, ours: (..., N, M), without bias.

    Returns:
        Kind, and the measurement that decided.
    """
    if np.array_equal(theirs, ours):
        return "equal", "bit-equal"
    found = gauge(a, b, ours)
    if found <= GAUGE < gauge(a, b, theirs):
        return "semantic", "ours is the product of these factors within the bound, theirs is not"
    if found <= GAUGE:
        return "rounding", f"e/(eps |A||B|) = {found:.2g}, at most {GAUGE:.0f}"
    if b.shape[0] == b.shape[1] and gauge(a, b.T, ours) <= GAUGE:
        return "layout", "the product with the second factor transposed"
    if ours.dtype == np.float32:
        apart = np.square(theirs.astype(np.float64) - ours).mean()
        for name, bits in MANTISSAS.items():
            emulated = rounded(a, bits) @ rounded(b, bits)
            # on the whole: how ties are rounded differs, and a single one of them is as large as what is looked for
            if np.square(emulated - ours).mean() < apart / 64:
                return "reduced precision", f"e/(eps |A||B|) = {found:.3g}; factors rounded to {name} give our numbers"
    return "semantic", f"e/(eps |A||B|) = {found:.3g}, more than {GAUGE:.0f}"
