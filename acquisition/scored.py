"""What an acquisition function is asked about a batch of images, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from acquisition.features import Feature
from acquisition.regions import Regions

__all__ = ["Question", "Scored"]


@dataclass(frozen=True, eq=False)
class Question:
    """A batch of N images with U units, and how they are to be scored.

    Args:
        images: N x 3 x H x W.
        regions: The units.
        seed: What is drawn depends on it,
        cycle: and on the cycle.
        num_samples: Fewer MC samples than the predictor's, for a race; None for all.
        groups: Above 1, the spread of the scores over so many parts of the samples is measured too, or over as many as
            there are samples for.
        truth: Classes or void, N x H x W or N, for a function that compares with them and for no other.
        log_probs: Whether the samples' log-probabilities are wanted as a feature,
        variances: and whether the parts of their variance are.
    """

    images: Tensor
    regions: Regions
    seed: int
    cycle: int
    num_samples: int | None = None
    groups: int = 1
    truth: Tensor | None = None
    log_probs: bool = False
    variances: bool = False


@dataclass(frozen=True, eq=False)
class Scored:
    """A batch of N images with U units, scored.

    Args:
        scores: U, in float64.
        spreads: U, the standard error of each score against infinitely many MC samples; None where it was not asked
            for.
        values: N x H x W or N; None where the network was not asked.
        predictions: The classes predicted, of the same shape.
        features: U x ..., those that were asked for.
    """

    scores: Tensor
    spreads: Tensor | None = None
    values: Tensor | None = None
    predictions: Tensor | None = None
    features: Mapping[Feature, Tensor] = field(default_factory=dict)
