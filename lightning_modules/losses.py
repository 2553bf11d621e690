"""Losses for partly labelled batches: pixels and images without a label do not count."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.annotation import VOID

__all__ = ["CrossEntropy"]


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
