"""Learning to rank images by their loss (Yoo and Kweon 2019, "Learning Loss for Active Learning")."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from acquisition.annotation import VOID
from lightning_modules.losses import call_loss

__all__ = ["RankingAccuracy", "RankingLoss", "image_losses", "ranking_accuracy", "ranking_loss"]

_ROWS = 1024


def ranking_loss(losses: Tensor, predicted: Tensor, margin: float = 1.0) -> Tensor:
    """Hinge loss of the predicted order of pairs (Yoo and Kweon 2019, section 3.3).

    The mean over pairs of max(0, -sign(l_i - l_j) (q_i - q_j) + margin). The first image of the first half and the
    first of the second half are a pair, and so on; of an odd number the last image is left out. The true losses get no
    gradient.

    Args:
        losses: l, N true losses, in a random order.
        predicted: q, N predicted ones.
        margin: How far apart two predictions have to be.

    Returns:
        A scalar; 0 where there is no pair.

    Example:
        >>> ranking_loss(torch.tensor([3.0, 1.0]), torch.tensor([0.5, 0.25]))
        tensor(0.7500)
    """
    half = len(losses) // 2
    true = (losses[:half] - losses[half : 2 * half]).detach().sign()
    apart = predicted[:half] - predicted[half : 2 * half]
    return (margin - true * apart).clamp_min(0).sum() / max(half, 1)


def ranking_accuracy(losses: Tensor, predicted: Tensor) -> Tensor:
    """Share of all pairs of images whose order is predicted right: (l_i - l_j) (q_i - q_j) > 0.

    Args:
        losses: l, N true losses.
        predicted: q, N predicted ones.

    Returns:
        A scalar in float64; a pair of equal predictions or losses is not right. NaN for fewer than two images.

    Example:
        >>> ranking_accuracy(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.1, 0.3, 0.2]))
        tensor(0.6667, dtype=torch.float64)
    """
    count, right = len(losses), torch.zeros((), dtype=torch.float64, device=losses.device)
    # some rows at a time: all pairs of ten thousand images are a lot of memory
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        true, guessed = (x[rows, None] - x[None, :] for x in (losses, predicted))
        # signs, because a product of small numbers may be 0
        right += (true.sign() * guessed.sign() > 0).sum()
    return right / (count * (count - 1))


def image_losses(
    loss: nn.Module, logits: Tensor, targets: Tensor, batch: Mapping[str, Any] | None = None
) -> tuple[Tensor, Tensor]:
    """The loss of each image of a batch by itself.

    Args:
        loss: Of a batch, of either kind (see `lightning_modules.losses`).
        logits: N x C x ....
        targets: N x ..., classes or `VOID`.
        batch: What a loss may be told: lists and tensors with an entry per image, and what all have in common.

    Returns:
        N losses, and N booleans: False for images that are void altogether, whose loss means nothing.
    """
    rows = [slice(i, i + 1) for i in range(len(targets))]
    losses = torch.stack([call_loss(loss, logits[r], targets[r], _part(batch or {}, r)) for r in rows])
    return losses, (targets != VOID).reshape(len(targets), -1).any(dim=1)


def _part(batch: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """Some images of a batch; what is no list and no tensor is all images'."""
    return {key: value[rows] if isinstance(value, (list, Tensor)) else value for key, value in batch.items()}


class RankingLoss(nn.Module):
    """How the prediction of the loss is trained: its weight beside the network's own loss, and when.

    The pairs of a batch are a random permutation of its images, cut into halves.

    Args:
        weight: Of the ranking loss; the network's own loss has 1.
        margin: How far apart two predictions have to be.
        from_epoch: The epoch, counted from 0, from which the weight holds; 0 before it.
        detach_epoch: The epoch, counted from 0, from which the gradient of the ranking loss ends at the features and
            no longer changes the network; None for never.

    Raises:
        ValueError: If weight, margin or an epoch is negative.
    """

    def __init__(
        self, weight: float = 0.01, margin: float = 1.0, from_epoch: int = 2, detach_epoch: int | None = 150
    ) -> None:
        super().__init__()
        if min(weight, margin, from_epoch, detach_epoch or 0) < 0:
            raise ValueError(
                "weight, margin and epochs of RankingLoss must be at least 0, got "
                f"{weight}, {margin}, {from_epoch} and {detach_epoch}"
            )
        self.weight = weight
        self.margin = margin
        self.from_epoch = from_epoch
        self.detach_epoch = detach_epoch

    def detaches(self, epoch: int) -> bool:
        """Whether the network gets no gradient from the ranking loss.

        Args:
            epoch: Counted from 0.
        """
        return epoch < self.from_epoch or (self.detach_epoch is not None and epoch >= self.detach_epoch)

    def weight_in(self, epoch: int) -> float:
        """The weight of the ranking loss.

        Args:
            epoch: Counted from 0.
        """
        return self.weight if epoch >= self.from_epoch else 0.0

    def forward(self, losses: Tensor, predicted: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute the ranking loss of a batch.

        Args:
            losses: N true losses, which get no gradient.
            predicted: N predicted ones.
            generator: Of the pairs, on the CPU; torch's own unless given.

        Returns:
            A scalar; 0 where there is no pair.
        """
        order = torch.randperm(len(losses), generator=generator).to(losses.device)
        return ranking_loss(losses[order], predicted[order], self.margin)


class RankingAccuracy(Metric):
    """`ranking_accuracy` of all images of a split, in all processes."""

    losses: list[Tensor]
    predicted: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("losses", default=[], dist_reduce_fx="cat")
        self.add_state("predicted", default=[], dist_reduce_fx="cat")

    def update(self, losses: Tensor, predicted: Tensor) -> None:
        """Add images.

        Args:
            losses: N true losses.
            predicted: N predicted ones.
        """
        self.losses.append(losses.detach().float())
        self.predicted.append(predicted.detach().float())

    def compute(self) -> Tensor:
        """The share of pairs in the right order, or NaN."""
        return ranking_accuracy(dim_zero_cat(self.losses), dim_zero_cat(self.predicted))
