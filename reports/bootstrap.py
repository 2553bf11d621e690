"""Statistics over images with the bootstrap's resamples as weights: one pass gives every statistic of every draw.

A resample that drew an image twice gives it the weight 2. All functions take weights of draws x images, as
`reports.intervals` draws them. So differences between statistics are paired without further ado.
"""

import numpy as np

__all__ = [
    "correlation",
    "covariances",
    "partial_correlation",
    "share_of_hardest",
    "weighted_ranks",
]

_NOTHING = 1e-10
"""Share of a column's variance below which what is left of it counts as rounding."""


def weighted_ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ranks (1 is lowest, ties share their mean) of values within every resample. draws x images; values: images."""
    _, group = np.unique(values, return_inverse=True)
    before, counts = _group_counts(weights, group)
    return (before + (counts + 1) / 2)[:, group]


def covariances(weights: np.ndarray, columns: np.ndarray, ranks: bool = False) -> np.ndarray:
    """Covariance matrices (divided by the number drawn) of every resample: draws x columns x columns.

    weights: draws x images. columns: columns x images, finite. ranks: of the columns' ranks within each resample, which
    turns Pearson's coefficient into Spearman's. A constant column has variance 0.
    """
    spread = columns.std(axis=1, keepdims=True)
    even = np.ptp(columns, axis=1, keepdims=True) == 0
    scaled = np.where(even, 0.0, (columns - columns.mean(axis=1, keepdims=True)) / np.where(even, 1.0, spread))
    total = weights.sum(axis=1, dtype=float)[:, None, None]
    if ranks:
        values = np.stack([weighted_ranks(weights, c) for c in scaled], axis=1) / total
    else:
        values = np.broadcast_to(scaled, (len(weights), *scaled.shape))
    heavy = weights[:, None, :].astype(float)
    centred = (values - (heavy * values).sum(axis=2, keepdims=True) / total) * np.sqrt(heavy)
    return np.asarray(centred @ centred.transpose(0, 2, 1) / total)


def correlation(matrices: np.ndarray, first: int, second: int) -> np.ndarray:
    """Correlation of two columns in every resample, NaN where one of them is constant there."""
    return partial_correlation(matrices, first, second, [])


def partial_correlation(matrices: np.ndarray, first: int, second: int, given: list[int]) -> np.ndarray:
    """Correlation of what is left of two columns after the linear part that the `given` columns explain.

    S_ab - S_az S_zz^+ S_zb, normalised; S: covariance matrices as of `covariances`. NaN where nothing is left.
    """
    pair = [first, second]
    left = matrices[:, pair][:, :, pair]
    if given:
        cross = matrices[:, pair][:, :, given]
        inverse = np.linalg.pinv(matrices[:, given][:, :, given], rcond=1e-10, hermitian=True)
        left = left - cross @ inverse @ cross.transpose(0, 2, 1)
    whole = np.stack([matrices[:, k, k] for k in pair], axis=1)
    variances = np.stack([left[:, 0, 0], left[:, 1, 1]], axis=1)
    defined = (variances > _NOTHING * np.maximum(whole, _NOTHING)).all(axis=1)
    product = np.where(defined, variances.prod(axis=1), 1.0)
    return np.where(defined, np.clip(left[:, 0, 1] / np.sqrt(product), -1, 1), np.nan)


def share_of_hardest(weights: np.ndarray, measured: np.ndarray, predicted: np.ndarray, share: float) -> np.ndarray:
    """Precision at k in every resample: the share of its k hardest images that are among its k predicted hardest.

    k: share of the images, rounded, at least 1. Images that tie at the cut are in with equal probability, so a constant
    predictor gets what chance gives, k / images.
    """
    drawn = weights.sum(axis=1, dtype=float)
    k = np.maximum(1, np.round(share * drawn))
    both = _inclusion(weights, measured, k) * _inclusion(weights, predicted, k)
    return np.asarray((weights * both).sum(axis=1) / k)


def _group_counts(weights: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many were drawn below each group of equal values, and within it: draws x groups."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    counts = np.add.reduceat(weights[:, order].astype(float), starts, axis=1)
    return np.cumsum(counts, axis=1) - counts, counts


def _inclusion(weights: np.ndarray, values: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Probability of each image to be among its resample's k highest."""
    _, group = np.unique(-values, return_inverse=True)
    before, counts = _group_counts(weights, group)
    taken = np.clip(k[:, None] - before, 0, counts)
    return (taken / np.maximum(counts, 1))[:, group]
