"""Losses for partly labelled batches: pixels and images without a label do not count.

A loss is any module from (logits, targets) to a scalar. One that has to know more is a `BatchLoss`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.annotation import VOID

__all__ = ["BatchLoss", "CrossEntropy", "call_loss"]


class BatchLoss(nn.Module, ABC):
    """A loss that is told the whole batch, so that it may know the images, who labelled them and the epoch.

    Its parameters are trained with the network's and saved beside them; queries do without. In evaluation (`training`
    is false) the targets are the data set's own, so a loss that models what is wrong with labels takes the network at
    its word.
    """

    needs: Collection[str] = ()
    """Keys that a training batch must have, beside image_id and epoch."""

    @abstractmethod
    def forward(self, logits: Tensor, targets: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: N x C x ...
            targets: N x ..., classes 0 to C - 1 (0 and 1 if C is 1) or `VOID`.
            batch: What the loader gives, such as "image_id", N names; and "epoch", counted from 0.

        Returns:
            A scalar; 0 for a batch without a label.
        """


def call_loss(loss: nn.Module, logits: Tensor, targets: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Call a loss of either kind.

    Args:
        loss: A `BatchLoss`, or any module from (logits, targets) to a scalar.
        logits: N x C x ...
        targets: N x ..., classes or `VOID`.
        batch: As a `BatchLoss` is told it.

    Returns:
        A scalar.

    Raises:
        ValueError: If the batch lacks what the loss needs.
    """
    if not isinstance(loss, BatchLoss):
        plain: Tensor = loss(logits, targets)
        return plain
    missing = [key for key in loss.needs if key not in batch]
    if missing and loss.training:
        raise ValueError(
            f'model.loss {type(loss).__name__} needs training batches with "{missing[0]}", got '
            f"{', '.join(sorted(batch))}; choose a data.source that says so of every image, or another loss"
        )
    told: Tensor = loss(logits, targets, batch)
    return told


class CrossEntropy(nn.Module):
    """Cross entropy in nats, averaged over the labelled pixels or images; binary for one logit.

    Args:
        class_weights: Weight of each class, or None for equal weights.
        normalise: "all" divides by the number of all pixels, so that a batch with few labelled ones counts little; None
            by the number of labelled ones, or by the sum of their weights.

    Raises:
        ValueError: If `normalise` is another word.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None, normalise: Literal["all"] | None = None) -> None:
        super().__init__()
        if normalise not in (None, "all"):
            raise ValueError(
                f"normalise of CrossEntropy must be all, or null for the labelled pixels, got {normalise!r}"
            )
        self.normalise = normalise
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of a batch.

        Args:
            logits: N x C x ...
            targets: N x ..., classes 0 to C - 1 (0 and 1 if C is 1) or `VOID`.

        Returns:
            A scalar; 0, not NaN, for a batch without a label.
        """
        weights = self.class_weights
        logits = logits.float()
        if logits.shape[1] > 1:
            total = F.cross_entropy(logits, targets, weights, ignore_index=VOID, reduction="sum")
        else:
            labelled = targets != VOID
            target = targets.clamp_max(1)
            pixel_weights = labelled.float() if weights is None else weights[target] * labelled
            total = (
                F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none") * pixel_weights
            ).sum()
        if self.normalise == "all":
            return total / max(targets.numel(), 1)
        labelled = targets != VOID
        count = labelled.sum() if weights is None else (weights[targets * labelled] * labelled).sum()
        return total / count.clamp_min(1e-12)
