"""Running sums over MC samples: what the acquisition functions need, and nothing that grows with T."""

from collections.abc import Collection, Sequence
from enum import StrEnum

import torch
from torch import Tensor

from acquisition.functional import class_probabilities
from acquisition.fused import Bilinear, add_logits

__all__ = ["Statistic", "StreamingStatistics"]


class Statistic(StrEnum):
    """A mean over MC samples that an acquisition function may ask for.

    Example:
        >>> [statistic.value for statistic in Statistic]
        ['mean', 'expected_entropy', 'mean_squares', 'vote_fractions']
    """

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

    Samples come as probabilities (`update`) or, faster, as logits (`update_logits`), the same shape every time.

    Args:
        needs: The statistics to keep.

    Example:
        >>> statistics = StreamingStatistics({Statistic.MEAN, Statistic.VOTE_FRACTIONS})
        >>> statistics.update(torch.tensor([[0.75, 0.25]]))
        >>> statistics.update(torch.tensor([[0.25, 0.75]]))
        >>> statistics.update(torch.tensor([[0.00, 1.00]]))
        >>> statistics[Statistic.MEAN]
        tensor([[0.3333, 0.6667]])
        >>> statistics[Statistic.VOTE_FRACTIONS]
        tensor([[0.3333, 0.6667]])
    """

    def __init__(self, needs: Collection[Statistic]) -> None:
        self.needs = frozenset(needs)
        self.num_samples = 0
        self._sums: dict[Statistic, Tensor] = {}

    def update(self, probs: Tensor) -> None:
        """Add one MC sample.

        Args:
            probs: N x C x ..., summing to 1 over axis 1.
        """
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
        """Add S MC samples, each the softmax of its logits.

        Args:
            logits: S x N x C x ...; one class means a sigmoid, as in `functional.class_probabilities`.
            resize: What comes before the softmax, if anything.

        Example:
            >>> statistics = StreamingStatistics({Statistic.MEAN})
            >>> statistics.update_logits(torch.tensor([[[0.0, 0.0]], [[0.0, 2.0]]]))
            >>> statistics.num_samples, statistics[Statistic.MEAN]
            (2, tensor([[0.3096, 0.6904]]))
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
        """The mean over the samples seen so far.

        Args:
            statistic: One of those that are kept.

        Returns:
            N x C x ..., or N x ... for the expected entropy.

        Raises:
            KeyError: If it is not kept, or no sample was seen.
        """
        return self._sums[statistic] / self.num_samples

    @classmethod
    def merged(cls, parts: "Sequence[StreamingStatistics]") -> "StreamingStatistics":
        """The statistics of all samples of several parts.

        Args:
            parts: Statistics of the same needs and shapes, at least one; the first one's sums are used up.

        Returns:
            Statistics as one pass over all the samples gives them.

        Example:
            >>> parts = [StreamingStatistics({Statistic.MEAN}) for _ in range(2)]
            >>> parts[0].update(torch.tensor([[0.5, 0.5]]))
            >>> parts[1].update(torch.tensor([[1.0, 0.0]]))
            >>> StreamingStatistics.merged(parts)[Statistic.MEAN]
            tensor([[0.7500, 0.2500]])
        """
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
