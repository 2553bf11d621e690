"""What a study's numbers can and cannot say: tests, intervals and points on learning curves, as pure functions.

A curve is two sequences of one length: labelled units, increasing, and the score of the cycle that had them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

__all__ = [
    "SignedRanks",
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
"""Pairs up to which all 2^n sign flips are counted; above, as many are drawn."""


class SignedRanks(NamedTuple):
    """Statistic and two-sided p of a test."""

    statistic: float
    p: float


def sign_flip_test(differences: ArrayLike, seed: int = 0) -> float:
    """Two-sided p of paired differences against a symmetric distribution around 0, by flipping signs.

    The share of the 2^n sign patterns whose mean is at least as far from 0 as the one that was seen; exact up to 14
    pairs, 16384 random patterns above. NaN without a pair.
    """
    pairs = np.asarray(differences, dtype=float)
    if len(pairs) < 2:
        return 1.0 if len(pairs) else float("nan")
    result = stats.permutation_test(
        (pairs,), np.mean, permutation_type="samples", vectorized=True, axis=0, rng=np.random.default_rng(seed),
        n_resamples=2 ** min(len(pairs), _EXACT_UP_TO),
    )  # fmt: skip
    return float(result.pvalue)


def smallest_sign_flip_p(pairs: int) -> float:
    """The smallest two-sided p that the sign-flip test of so many pairs can give, 2 / 2^n; one-sided it is half."""
    return min(1.0, 2.0 ** (1 - pairs))


def wilcoxon_test(differences: ArrayLike) -> SignedRanks:
    """Wilcoxon's signed-rank test, two-sided (scipy); differences that are all 0 have p = 1. NaN without a pair."""
    pairs = np.asarray(differences, dtype=float)
    if not len(pairs):
        return SignedRanks(float("nan"), float("nan"))
    if not pairs.any():
        return SignedRanks(0.0, 1.0)
    result = stats.wilcoxon(pairs)
    return SignedRanks(float(result.statistic), float(result.pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979) over several tests; a test without a p (NaN) keeps none and does not count."""
    values = np.asarray(p_values, dtype=float)
    known = ~np.isnan(values)
    if known.any():
        values[known] = multipletests(values[known], method="holm")[1]
    return [float(v) for v in values]


def pairwise_penalties(scores: NDArray[np.float64], alpha: float = 0.05) -> NDArray[np.float64]:
    """One setting's share of the pairwise penalty matrix (Ash et al. 2020, BADGE, section 4; Ji et al. 2023).

    scores: strategies x seeds x rounds, the seeds paired, at least 2. In every round a two-sided paired t-test at
    level alpha (|t| > 2.776 for 5 seeds) compares each two strategies; where i beats j, entry (i, j) grows by
    1 / rounds. So an entry is from 0 to 1, and of a matrix summed over settings from 0 to their number; the mean of
    column j, the lower the better, is how often j was beaten. Differences that are the same for every seed are a win.
    """
    _, seeds, rounds = scores.shape
    if seeds < 2 or rounds < 1:
        raise ValueError(f"penalties need at least 2 seeds and 1 round, got {seeds} and {rounds}; run more seeds")
    critical = stats.t.ppf(1 - alpha / 2, seeds - 1)
    differences = scores[:, None] - scores[None]
    mean, error = differences.mean(axis=2), differences.std(axis=2, ddof=1) / seeds**0.5
    return (mean > critical * error).sum(axis=2) / rounds


def labels_to_reach(labelled_units: Sequence[float], scores: Sequence[float], level: float) -> float:
    """Labelled units at which the curve, straight between cycles, first reaches the level; NaN if it never does."""
    units, values = np.asarray(labelled_units, dtype=float), np.asarray(scores, dtype=float)
    reached = np.flatnonzero(values >= level)
    if not len(reached):
        return float("nan")
    at = int(reached[0])
    if at == 0:
        return float(units[0])
    return float(np.interp(level, values[at - 1 : at + 1], units[at - 1 : at + 1]))


def break_even_point(labelled_units: Sequence[float], scores: Sequence[float], baseline: Sequence[float]) -> float:
    """Labelled units from which the curve stays above the baseline's, straight lines between cycles (thesis 3.1.1).

    Where the difference changes its sign for the last time; the first labelled size if it is never negative; NaN if it
    is not above at the last cycle.
    """
    units = np.asarray(labelled_units, dtype=float)
    ahead = np.asarray(scores, dtype=float) - np.asarray(baseline, dtype=float)
    if ahead[-1] <= 0:
        return float("nan")
    behind = np.flatnonzero(ahead < 0)
    if not len(behind):
        return float(units[0])
    last = int(behind[-1])
    return float(np.interp(0, ahead[last : last + 2], units[last : last + 2]))


def mean_ranks(scores: pd.DataFrame) -> pd.Series:
    """Mean rank of each column over the rows, 1 for the largest score; equal scores share the mean of their ranks."""
    return scores.rank(axis=1, ascending=False).mean()


def friedman(scores: pd.DataFrame) -> SignedRanks | None:
    """Friedman's test of whether the columns (strategies) differ over the rows (data sets); None below 3 of either."""
    rows, columns = scores.shape
    if rows < 3 or columns < 3:
        return None
    result = stats.friedmanchisquare(*(scores[c] for c in scores))
    return SignedRanks(float(result.statistic), float(result.pvalue))
