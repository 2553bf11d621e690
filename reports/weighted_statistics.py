"""Statistics over images with weights: one pass computes a statistic for every resample of a bootstrap.

A resample that drew an image twice gives it the weight 2. Everywhere `weights` are draws x images, as made by
`reports.intervals.resample_weights`. Statistics from the same weights are paired, so their differences are as well.
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
"""Share of a column's variance below which the residual variance counts as rounding error."""


def weighted_ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank the images within every resample.

    Args:
        weights: draws x images.
        values: One value per image.

    Returns:
        Ranks, draws x images; 1 is the lowest, and ties share their mean rank.
    """
    _, group = np.unique(values, return_inverse=True)
    before, counts = _group_counts(weights, group)
    return (before + (counts + 1) / 2)[:, group]


def covariances(weights: np.ndarray, columns: np.ndarray, ranks: bool = False) -> np.ndarray:
    """Covariance matrix of several columns in every resample, with the number of images drawn as divisor.

    Args:
        weights: draws x images.
        columns: columns x images, finite.
        ranks: Whether to take the columns' ranks within each resample, which turns Pearson's correlation into
            Spearman's.

    Returns:
        draws x columns x columns, of columns scaled to variance 1 over all images; a constant column has variance 0.
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
    """Correlation of two columns in every resample.

    Args:
        matrices: From `covariances`.
        first: Index of the one column.
        second: Index of the other column.

    Returns:
        One correlation per draw; NaN where a column is constant.
    """
    return partial_correlation(matrices, first, second, [])


def partial_correlation(matrices: np.ndarray, first: int, second: int, given: list[int]) -> np.ndarray:
    """Correlation of two columns' residuals after a linear fit on other columns, in every resample.

    With S the covariance matrix, S_ab - S_az S_zz^+ S_zb, normalised.

    Args:
        matrices: From `covariances`.
        first: Index a of the one column.
        second: Index b of the other column.
        given: Indices z of the columns to fit on.

    Returns:
        One correlation per draw; NaN where a residual vanishes.
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
    """Precision at k in every resample: the share of its k hardest images that are among the k predicted hardest.

    Images that tie at the cut are among the k with equal probability, so that a constant predictor scores k / images,
    as chance does.

    Args:
        weights: draws x images.
        measured: Measured difficulty of each image.
        predicted: Predicted difficulty of each image.
        share: k as a share of the images; k is rounded and at least 1.

    Returns:
        One precision per draw.
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
