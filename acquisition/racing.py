"""Racing T: many MC samples only for units that few have not decided.

Every unit is scored with few samples; those whose interval still straddles the budget's cut are scored again with
twice as many, and so on up to T. The idea is that of Hoeffding races (Maron and Moore 1994), with normal instead of
Hoeffding intervals and a fixed final T.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

__all__ = ["Race", "Round", "decide"]


@dataclass(frozen=True)
class Race:
    """first: MC samples for every unit, at least 8. confidence: of each unit's two-sided interval."""

    first: int = 8
    confidence: float = 0.99

    def __post_init__(self) -> None:
        if self.first < 8:
            raise ValueError(f"a race needs at least 8 first MC samples to see how scores scatter, got {self.first}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"the confidence of a race must lie between 0 and 1, got {self.confidence}")

    def rounds(self, num_samples: int) -> list[int]:
        """Samples per round: first, doubled each time, and the full number last."""
        rounds = []
        samples = self.first
        while samples < num_samples:
            rounds.append(samples)
            samples *= 2
        return [*rounds, num_samples]


@dataclass(frozen=True)
class Round:
    """What one round decided, as positions in its units. risk: expected number of wrong picks among the decided."""

    chosen: np.ndarray
    refused: np.ndarray
    undecided: np.ndarray
    risk: float


def decide(
    scores: Sequence[float], spreads: Sequence[float], slots: int, samples: int, num_samples: int, confidence: float
) -> Round:
    """Which units are in or out of the `slots` best, and which need more samples.

    scores: with the first `samples` of `num_samples` MC samples. spreads: standard error of each score, from how it
    scatters over groups of those samples, against infinitely many; against the score with num_samples, of which these
    are a part, it is smaller by the root of 1 - samples / num_samples, and zero at the end. The cut lies half way
    between the last score inside and the first outside.
    """
    values = np.asarray(scores, dtype=np.float64)
    if slots >= len(values):
        return Round(np.arange(len(values)), np.arange(0), np.arange(0), 0.0)
    if slots == 0:
        return Round(np.arange(0), np.arange(len(values)), np.arange(0), 0.0)
    descending = np.sort(values)[::-1]
    cut = (descending[slots - 1] + descending[slots]) / 2
    errors = np.asarray(spreads, dtype=np.float64) * np.sqrt(1 - samples / num_samples)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * errors
    inside, outside = values - reach > cut, values + reach < cut
    tail = np.array(
        [NormalDist().cdf(-abs(v - cut) / e) if e > 0 else 0.0 for v, e in zip(values, errors, strict=True)]
    )
    return Round(
        np.flatnonzero(inside),
        np.flatnonzero(outside),
        np.flatnonzero(~inside & ~outside),
        float(tail[inside].sum() + tail[outside].sum()) / 2,
    )
