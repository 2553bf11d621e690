"""Running sums over MC samples: what the acquisition functions need, and nothing that grows with T."""

from collections.abc import Collection, Sequence
from enum import StrEnum

import torch
from torch import Tensor

from acquisition.functional import class_probabilities
from acquisition.fused import Bilinear, add_logits

__all__ = ["Statistic", "StreamingStatistics"]


class Statistic(StrEnum):
    """A sum that an acquisition function may ask for."""

    MEAN = "mean"
    EXPECTED_ENTROPY = "expected_entropy"
    MEAN_SQUARES = "mean_squares"
    VOTE_FRACTIONS = "vote_fractions"


_KERNEL_NAMES = {
    Statistic.MEAN: "mean",
    Statistic.EXPECTED_ENTROPY: "entropy",
    Statistic.MEAN_SQUARES: "squares",
    Statistic.VOTE_FRACTIONS: "votes",
}


class StreamingStatistics:
    """Means over MC samples, kept as running sums in float32 or better.

    needs: the statistics to keep; asking for another one raises KeyError. Samples come as probabilities
    (`update`) or, faster, as logits (`update_logits`), the same shape every time.
    """

    def __init__(self, needs: Collection[Statistic]) -> None:
        self.needs = frozenset(needs)
        self.num_samples = 0
        self._sums: dict[Statistic, Tensor] = {}

    def update(self, probs: Tensor) -> None:
        """Add one MC sample's probabilities, N x C x ...."""
        probs = probs if probs.dtype == torch.float64 else probs.float()
        self._allocate(probs, probs.shape)
        if Statistic.MEAN in self.needs:
            self._sums[Statistic.MEAN].add_(probs)
        if Statistic.EXPECTED_ENTROPY in self.needs:
            self._sums[Statistic.EXPECTED_ENTROPY].add_(torch.special.entr(probs).sum(dim=1))
        if Statistic.MEAN_SQUARES in self.needs:
            self._sums[Statistic.MEAN_SQUARES].addcmul_(probs, probs)
        if Statistic.VOTE_FRACTIONS in self.needs:
            winner = probs.argmax(dim=1, keepdim=True)
            votes = self._sums[Statistic.VOTE_FRACTIONS]
            votes.scatter_add_(1, winner, torch.ones((), dtype=votes.dtype, device=votes.device).expand_as(winner))
        self.num_samples += 1

    def update_logits(self, logits: Tensor, resize: Bilinear | None = None) -> None:
        """Add S MC samples: logits, S x N x C x ..., of which the softmax (after resizing) is the sample.

        One class means a sigmoid, as in `functional.class_probabilities`.
        """
        if logits.dtype not in (torch.float32, torch.float64):
            logits = logits.float()
        if logits.shape[2] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=2)
        if logits.ndim == 5 and logits.device.type == "cpu":
            self._allocate(logits, (*logits.shape[1:3], *(resize.size if resize else logits.shape[3:])))
            if add_logits(logits, {_KERNEL_NAMES[s]: total for s, total in self._sums.items()}, resize):
                self.num_samples += logits.shape[0]
                return
        for sample in logits:
            # A channels-last softmax over axis 1 is many times slower than a contiguous one, on CPU.
            self.update(class_probabilities(resize(sample.contiguous()) if resize else sample.contiguous()))

    def __getitem__(self, statistic: Statistic) -> Tensor:
        """The mean over the samples seen so far."""
        return self._sums[statistic] / self.num_samples

    @classmethod
    def merged(cls, parts: "Sequence[StreamingStatistics]") -> "StreamingStatistics":
        """The statistics of all samples of several parts; the first part's sums are used up."""
        whole = parts[0]
        for part in parts[1:]:
            for statistic, total in part._sums.items():
                whole._sums[statistic].add_(total)
            whole.num_samples += part.num_samples
        return whole

    def _allocate(self, like: Tensor, shape: tuple[int, ...]) -> None:
        if self._sums:
            return
        for statistic in self.needs:
            size = (shape[0], *shape[2:]) if statistic is Statistic.EXPECTED_ENTROPY else shape
            self._sums[statistic] = torch.zeros(size, dtype=like.dtype, device=like.device)
