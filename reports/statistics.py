"""Tests of differences between strategies, and points on learning curves.

A curve is given by two sequences of equal length: increasing numbers of labelled units, and the metric of the networks
that were trained on them. Curves are linear between cycles.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Significance",
    "break_even_point",
    "friedman",
    "holm",
    "labels_to_reach",
    "mean_ranks",
    "pairwise_penalties",
    "sign_flip_test",
    "smallest_sign_flip_p",
    "wilcoxon_test",
]

_EXACT_UP_TO = 14
"""Number of pairs n up to which all 2^n sign patterns are counted; for more, as many patterns are drawn."""


class Significance(NamedTuple):
    """The statistic of a test and its p-value, two-sided where the test has sides."""

    statistic: float
    p: float


def sign_flip_test(differences: ArrayLike, seed: int = 0) -> float:
    """Sign-flip (permutation) test of whether paired differences are distributed symmetrically around 0.

    Exact for up to 14 pairs; for more, 16384 random sign patterns are drawn.

    Args:
        differences: One difference per pair.
        seed: Seed of the random sign patterns.

    Returns:
        The two-sided p-value: the share of sign patterns whose mean is at least as far from 0 as the observed one. NaN
        without a pair.
    """
    pairs = np.asarray(differences, dtype=float)
    if len(pairs) < 2:
        return 1.0 if len(pairs) else float("nan")
    result = scipy.stats.permutation_test(
        (pairs,), np.mean, permutation_type="samples", vectorized=True, axis=0, rng=np.random.default_rng(seed),
        n_resamples=2 ** min(len(pairs), _EXACT_UP_TO),
    )  # fmt: skip
    return float(result.pvalue)


def smallest_sign_flip_p(pairs: int) -> float:
    """The smallest two-sided p-value that the sign-flip test can give for n pairs, 2 / 2^n (at most 1)."""
    return min(1.0, 2.0 ** (1 - pairs))


def wilcoxon_test(differences: ArrayLike) -> Significance:
    """Wilcoxon's signed-rank test of paired differences (by scipy).

    Args:
        differences: One difference per pair.

    Returns:
        The statistic and the two-sided p-value: 1 if all differences are 0, NaN without a pair.
    """
    pairs = np.asarray(differences, dtype=float)
    if not len(pairs):
        return Significance(float("nan"), float("nan"))
    if not pairs.any():
        return Significance(0.0, 1.0)
    result = scipy.stats.wilcoxon(pairs)
    return Significance(float(result.statistic), float(result.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for the number of tests (Holm 1979); NaN stays NaN and does not count as a test."""
    values = np.asarray(p_values, dtype=float)
    known = ~np.isnan(values)
    if known.any():
        from statsmodels.stats.multitest import multipletests  # takes half a second

        values[known] = multipletests(values[known], method="holm")[1]
    return [float(v) for v in values]


def pairwise_penalties(metrics: NDArray[np.float64], alpha: float = 0.05) -> NDArray[np.float64]:
    """Pairwise penalty matrix of one setting (Ash et al. 2020, BADGE, section 4; Ji et al. 2023).

    In every round a two-sided paired t-test (|t| > 2.776 for 5 seeds at 5%) compares each two strategies. Where i beats
    j, entry (i, j) grows by 1 / rounds. The mean of column j, the lower the better, is how often j was beaten. A
    difference that is the same for every seed counts as significant.

    Args:
        metrics: The metric, strategies x seeds x rounds; the seeds are paired.
        alpha: Level of the tests.

    Returns:
        strategies x strategies, from 0 to 1; matrices of several settings may be added.

    Raises:
        ValueError: There are fewer than 2 seeds, or there is no round.
    """
    _, seeds, rounds = metrics.shape
    if seeds < 2 or rounds < 1:
        raise ValueError(f"penalties need at least 2 seeds and 1 round, got {seeds} and {rounds}; run more seeds")
    critical = scipy.stats.t.ppf(1 - alpha / 2, seeds - 1)
    differences = metrics[:, None] - metrics[None]
    mean, error = differences.mean(axis=2), differences.std(axis=2, ddof=1) / seeds**0.5
    return (mean > critical * error).sum(axis=2) / rounds


def labels_to_reach(labelled_units: Sequence[float], metrics: Sequence[float], level: float) -> float:
    """Find where a curve first reaches a level.

    Args:
        labelled_units: Numbers of labelled units.
        metrics: The metric at each.
        level: A value of the metric.

    Returns:
        Labelled units; NaN if the curve never reaches the level.
    """
    units, values = np.asarray(labelled_units, dtype=float), np.asarray(metrics, dtype=float)
    reached = np.flatnonzero(values >= level)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return float(units[0])
    return float(np.interp(level, values[at - 1 : at + 1], units[at - 1 : at + 1]))


def break_even_point(labelled_units: Sequence[float], metrics: Sequence[float], baseline: Sequence[float]) -> float:
    """Find where a curve begins to stay above the baseline's (Chen 2020, section 3.1.1).

    Args:
        labelled_units: Numbers of labelled units, common to both curves.
        metrics: The metric at each.
        baseline: The baseline's metric at each.

    Returns:
        Labelled units where the difference changes its sign for the last time: the first number if it is never
        negative, NaN if the curve does not end above the baseline's.
    """
    units = np.asarray(labelled_units, dtype=float)
    ahead = np.asarray(metrics, dtype=float) - np.asarray(baseline, dtype=float)
    if ahead[-1] <= 0:
        return float("nan")
    behind = np.flatnonzero(ahead < 0)
    if not len(behind):
        return float(units[0])
    last = int(behind[-1])
    return float(np.interp(0, ahead[last : last + 2], units[last : last + 2]))


def mean_ranks(values: pd.DataFrame) -> pd.Series:
    """Mean rank of each column over the rows; 1 is the largest value, and ties share their mean rank."""
    return values.rank(axis=1, ascending=False).mean()


def friedman(values: pd.DataFrame) -> Significance | None:
    """Friedman's test of whether strategies differ.

    Args:
        values: The compared values, blocks (such as data sets) x strategies.

    Returns:
        Chi-square and p-value; None for fewer than 3 blocks or strategies.
    """
    rows, columns = values.shape
    if rows < 3 or columns < 3:
        return None
    result = scipy.stats.friedmanchisquare(*(values[c] for c in values))
    return Significance(float(result.statistic), float(result.pvalue))
