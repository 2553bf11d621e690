"""Racing T: many MC samples only for units that few have not decided.

Every unit is scored with few samples; those whose interval still straddles the budget's cut are scored again with
twice as many, and so on up to T. The idea is that of Hoeffding races (Maron and Moore 1994), with Student's intervals
instead of Hoeffding's and a fixed final T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch

__all__ = ["Race", "Round", "decide", "moderated"]


@dataclass(frozen=True)
class Race:
    """How a race is run.

    Under a budget in pixels the cut is where the round's own ranking runs out of them. Where units differ in size, a
    wrong decision may cost more than one wrong pick.

    Args:
        first: MC samples for every unit, at least 8.
        confidence: Of each unit's two-sided interval.

    Raises:
        ValueError: If there are too few samples, or the confidence does not lie between 0 and 1.
    """

    first: int = 8
    confidence: float = 0.99

    def __post_init__(self) -> None:
        if self.first < 8:
            raise ValueError(f"a race needs at least 8 first MC samples to see how scores scatter, got {self.first}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"the confidence of a race must lie between 0 and 1, got {self.confidence}")

    def rounds(self, num_samples: int) -> list[int]:
        """Samples per round: first, doubled each time, and the full number last.

        Args:
            num_samples: The full number, T.
        """
        rounds = []
        samples = self.first
        while samples < num_samples:
            rounds.append(samples)
            samples *= 2
        return [*rounds, num_samples]


@dataclass(frozen=True)
class Round:
    """What one round decided, as positions in its units.

    Args:
        chosen: Surely among the best.
        refused: Surely not.
        undecided: Those that need more samples.
        risk: The expected number of wrong picks by what was decided.
    """

    chosen: np.ndarray
    refused: np.ndarray
    undecided: np.ndarray
    risk: float


def decide(
    scores: Sequence[float],
    spreads: Sequence[float],
    slots: int,
    samples: int,
    num_samples: int,
    confidence: float,
    groups: int,
) -> Round:
    """Which units are in or out of the `slots` best, and which need more samples.

    A spread is an error against infinitely many samples; against the score with num_samples, of which these are a
    part, it is smaller by the root of 1 - samples / num_samples, and zero at the end. The cut lies half way between
    the last score inside and the first outside; at the highest score where no slot is left for it.

    A few groups tell a unit's error badly, so the units lend each other strength (`moderated`), and intervals are
    Student's. Every wrong decision costs one wrong pick at most, so the risk is the sum of their probabilities.

    Args:
        scores: U, with the first `samples` of `num_samples` MC samples.
        spreads: U, the standard error of each score, from how it scatters over groups of those samples.
        slots: How many units are to be chosen.
        samples: MC samples of this round.
        num_samples: MC samples of the last round, T.
        confidence: Of each unit's two-sided interval.
        groups: Over which the spreads were measured.

    Returns:
        The decisions, and their risk.
    """
    values = np.asarray(scores, dtype=np.float64)
    everyone, nobody = np.arange(len(values)), np.arange(0)
    if slots >= len(values):
        return Round(everyone, nobody, nobody, 0.0)
    descending = np.sort(values)[::-1]
    cut = (descending[max(slots - 1, 0)] + descending[slots]) / 2
    errors, freedom = moderated(np.asarray(spreads, dtype=np.float64), groups - 1)
    errors = errors * np.sqrt(1 - samples / num_samples)
    distances = np.abs(values - cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(errors > 0, _normal_equivalent(distances / errors, freedom), np.where(distances > 0, np.inf, 0))
    decided = z > NormalDist().inv_cdf(0.5 + confidence / 2)
    inside = values > cut
    risk = sum(NormalDist().cdf(-x) for x in z[decided])
    return Round(
        np.flatnonzero(decided & inside), np.flatnonzero(decided & ~inside), np.flatnonzero(~decided), float(risk)
    )


def moderated(errors: np.ndarray, freedom: int) -> tuple[np.ndarray, float]:
    """Standard errors drawn towards their common level, and the degrees of freedom that they then have.

    Empirical Bayes with a scaled inverse chi-square prior on the variances, its parameters from the mean and variance
    of their logarithms (Smyth 2004, section 6). Errors of 0, and fewer than 3 others, are left as they are.

    Args:
        errors: U standard errors.
        freedom: Degrees of freedom of each.

    Returns:
        U standard errors, and their degrees of freedom.
    """
    positive = errors > 0
    if positive.sum() < 3:
        return errors, float(freedom)
    variances = errors[positive] ** 2
    logs = np.log(variances) - _polygamma(0, freedom / 2) + np.log(freedom / 2)
    excess = logs.var(ddof=1) - _polygamma(1, freedom / 2)
    if excess <= 0:
        return np.where(positive, np.exp(logs.mean() / 2), 0.0), np.inf
    prior = 2 * _inverse_trigamma(excess)
    level = np.exp(logs.mean() + _polygamma(0, prior / 2) - np.log(prior / 2))
    drawn = errors.copy()
    drawn[positive] = np.sqrt((prior * level + freedom * variances) / (prior + freedom))
    return drawn, prior + freedom


def _normal_equivalent(t: np.ndarray, freedom: float) -> np.ndarray:
    """The normal deviate with the tail of Student's t (Wallace 1959)."""
    if np.isinf(freedom):
        return t
    return (8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t * t / freedom))


def _polygamma(order: int, x: float) -> float:
    return float(torch.polygamma(order, torch.tensor(x, dtype=torch.float64)))


def _inverse_trigamma(value: float) -> float:
    """Bisection on a logarithmic scale; trigamma falls from infinity to 0."""
    low, high = 1e-6, 1e8
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if _polygamma(1, middle) > value else (low, middle)
    return middle
