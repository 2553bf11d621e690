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

__all__ = ["BatchLoss", "CrossEntropy", "FadeIn", "call_loss", "labelled_mean", "with_class_0"]


class BatchLoss(nn.Module, ABC):
    """A loss that is told the whole batch, so that it may know the images, who labelled them and the epoch.

    Its parameters are trained with the network's and saved beside them; queries do without. In evaluation (`training`
    is false) the targets are the data set's own, so a loss that models what is wrong with labels takes the network at
    its word.
    """

    needs: Collection[str] = ()
    """Keys that a training batch must have, beside image_id and epoch."""

    remedy: str = "choose a data.source that says so of every image, or another loss"
    """What to do where a batch lacks them."""

    def readings(self) -> Mapping[str, float]:
        """What it has learned, by name: numbers that every validation reports."""
        return {}

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
            f"{', '.join(sorted(batch))}; {loss.remedy}"
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


class FadeIn(BatchLoss):
    """One loss in the first epochs of a fit, and another one from then on: alpha first + (1 - alpha) then.

    Keeps a loss that trusts the network from acting on what an untrained one says. In evaluation it is the second.

    Args:
        first: The loss at the beginning of a fit.
        then: The loss at its end.
        epochs: Where alpha gets from 1 to 0, in epochs counted from 0.
        linear: Whether it falls a little in each epoch; otherwise it is 1 until then.

    Raises:
        ValueError: If `epochs` is below 1.
    """

    def __init__(self, first: nn.Module, then: nn.Module, epochs: int = 30, linear: bool = False) -> None:
        super().__init__()
        if epochs < 1:
            raise ValueError(f"FadeIn needs at least 1 epoch, got {epochs}; give the second loss alone instead")
        self.first = first
        self.then = then
        self.epochs = epochs
        self.linear = linear
        told = [loss for loss in (first, then) if isinstance(loss, BatchLoss)]
        self.needs = tuple(dict.fromkeys(key for loss in told for key in loss.needs))
        self.remedy = next((loss.remedy for loss in told if loss.needs), self.remedy)

    def readings(self) -> Mapping[str, float]:
        """What both have learned; of the same name, the second's."""
        told = [loss.readings() for loss in (self.first, self.then) if isinstance(loss, BatchLoss)]
        return {name: value for readings in told for name, value in readings.items()}

    def alpha(self, epoch: int) -> float:
        """The part of the first loss.

        Args:
            epoch: Counted from 0.
        """
        if self.linear:
            return max(0.0, 1 - epoch / self.epochs)
        return float(epoch < self.epochs)

    def forward(self, logits: Tensor, targets: Tensor, batch: Mapping[str, Any]) -> Tensor:
        alpha = self.alpha(batch["epoch"]) if self.training else 0.0
        # under DDP every parameter has to have a gradient, so what has some is asked for nothing as well
        losses = [
            part * call_loss(loss, logits, targets, batch)
            for part, loss in ((alpha, self.first), (1 - alpha, self.then))
            if part or next(loss.parameters(), None) is not None
        ]
        return torch.stack(losses).sum()


def with_class_0(logits: Tensor) -> Tensor:
    """Logits with one of class 0 where there is one of class 1 alone, in float32 at least.

    Args:
        logits: N x C x ...

    Returns:
        N x C x ..., with at least two classes.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits


def labelled_mean(losses: Tensor, targets: Tensor) -> Tensor:
    """The mean over what has a label.

    Args:
        losses: N x ...
        targets: N x ..., classes or `VOID`.

    Returns:
        A scalar; 0 for a batch without a label.
    """
    known = targets != VOID
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp_min(1)
