"""Combined predictors of difficulty: a regression on several of them, judged on images that it was not fitted on."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from reports.difficulty_correlations import FEWEST
from reports.intervals import Resampling
from reports.weighted_statistics import correlation, covariances

__all__ = ["COMBINATIONS", "compare_combinations", "held_out_predictions"]

COMBINATIONS = {
    "area": ["predicted_area"],
    "ensemble": ["ensemble_variance"],
    "area + ensemble": ["predicted_area", "ensemble_variance"],
    "area + ensemble + epistemic + one pass": [
        "predicted_area",
        "ensemble_variance",
        "epistemic",
        "one_pass_aleatoric",
    ],
}
"""Predictors by the combination's name; the first is what the others are held against."""


def compare_combinations(images: pd.DataFrame, resampling: Resampling) -> pd.DataFrame:
    """Correlate held-out predictions of several regressions with measured difficulty.

    All predictions are shares of images that are easier, from 0 to 1, so those of different folds, from regressions
    that differ, may be compared in one correlation. The intervals are over the held-out images, for the regressions as
    they were fitted.

    Args:
        images: Rows of images.csv, with fold.
        resampling: The bootstrap.

    Returns:
        One row per held_out ("all" or a fold) and combination: Spearman's correlation, and its difference to that of
        area alone, with intervals. Empty with fewer than two folds, or fewer than three images outside a fold; folds of
        fewer than three images have no rows of their own.
    """
    folds = images["fold"].to_numpy() if "fold" in images else np.zeros(len(images))
    outside = [int((folds != f).sum()) for f in np.unique(folds)]
    if min(outside, default=0) < FEWEST:
        return pd.DataFrame()
    predicted = np.stack([held_out_predictions(images, columns) for columns in COMBINATIONS.values()])
    columns = np.concatenate([images[["difficulty"]].to_numpy(float).T, predicted])
    rows: list[dict[str, object]] = []
    for held_out in ("all", *np.unique(folds)):
        there = np.full(len(images), True) if held_out == "all" else folds == held_out
        if there.sum() < FEWEST:
            continue
        found = iter(resampling.estimates(partial(_measures, columns[:, there]), int(there.sum())))
        for name in COMBINATIONS:
            row: dict[str, object] = {"held_out": str(held_out), "combination": name, "images": int(there.sum())}
            for column in ("spearman", "spearman_minus_area"):
                e = next(found)
                row |= {column: e.value, f"{column}_low": e.low, f"{column}_high": e.high}
            rows.append(row)
    return pd.DataFrame(rows)


def held_out_predictions(images: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Predict every image's difficulty by a linear regression of ranks that was fitted on the other folds.

    Each predictor, and the difficulty, is replaced by the share of the training images that are below it (ties count
    half); least squares then predicts the share of images that are easier. Ranks, because areas and sums of variances
    are skewed and may be 0, so that neither they nor their logarithms have residuals that least squares is for, and
    because Spearman's correlation judges ranks.

    Args:
        images: Rows of images.csv, with fold.
        columns: The predictors.

    Returns:
        One prediction per image.
    """
    folds, measured = images["fold"].to_numpy(), images["difficulty"].to_numpy(float)
    predicted = np.full(len(images), np.nan)
    for fold in np.unique(folds):
        train, held_out = folds != fold, folds == fold
        known = [(images.loc[train, c].to_numpy(float), images[c].to_numpy(float)) for c in columns]
        design = np.stack([np.ones(len(images)), *(_share_below(of, values) for of, values in known)], axis=1)
        target = _share_below(measured[train], measured[train])
        coefficients = np.linalg.lstsq(design[train], target, rcond=None)[0]
        predicted[held_out] = design[held_out] @ coefficients
    return predicted


def _share_below(sample: np.ndarray, values: np.ndarray) -> np.ndarray:
    ordered = np.sort(sample)
    below, up_to = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    return (below + up_to) / (2 * len(ordered))


def _measures(columns: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    matrices = covariances(weights, columns, ranks=True)
    found = [correlation(matrices, 0, k) for k in range(1, len(columns))]
    return [value for each in found for value in (each, each - found[0])]
