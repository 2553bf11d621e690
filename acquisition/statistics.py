"""Running sums over MC samples: what the acquisition functions need, and nothing that grows with T."""

from collections.abc import Collection
from enum import StrEnum

import torch
from torch import Tensor

__all__ = ["Statistic", "StreamingStatistics"]


class Statistic(StrEnum):
    """A sum that an acquisition function may ask for."""

    MEAN = "mean"
    EXPECTED_ENTROPY = "expected_entropy"
    MEAN_SQUARES = "mean_squares"
    VOTE_FRACTIONS = "vote_fractions"


class StreamingStatistics:
    """Means over MC samples, kept as running sums in float32 or better.

    needs: the statistics to keep; asking for another one raises KeyError. Each `update` takes one sample's
    probabilities, N x C x ..., the same shape every time.
    """

    def __init__(self, needs: Collection[Statistic]) -> None:
        self.needs = frozenset(needs)
        self.num_samples = 0
        self._sums: dict[Statistic, Tensor] = {}

    def update(self, probs: Tensor) -> None:
        """Add one MC sample."""
        probs = probs if probs.dtype == torch.float64 else probs.float()
        if Statistic.MEAN in self.needs:
            self._add(Statistic.MEAN, probs)
        if Statistic.EXPECTED_ENTROPY in self.needs:
            self._add(Statistic.EXPECTED_ENTROPY, torch.special.entr(probs).sum(dim=1))
        if Statistic.MEAN_SQUARES in self.needs:
            self._add(Statistic.MEAN_SQUARES, probs.square())
        if Statistic.VOTE_FRACTIONS in self.needs:
            votes = torch.zeros_like(probs).scatter_(1, probs.argmax(dim=1, keepdim=True), 1.0)
            self._add(Statistic.VOTE_FRACTIONS, votes)
        self.num_samples += 1

    def __getitem__(self, statistic: Statistic) -> Tensor:
        """The mean over the samples seen so far."""
        return self._sums[statistic] / self.num_samples

    def _add(self, statistic: Statistic, value: Tensor) -> None:
        if statistic in self._sums:
            self._sums[statistic] += value
        else:
            self._sums[statistic] = value.clone()
