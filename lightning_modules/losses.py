"""Losses that know pixels without a label."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["IGNORE_INDEX", "PixelCrossEntropy"]

IGNORE_INDEX = 255
"""The mask value of pixels that neither train nor count."""


class PixelCrossEntropy(nn.Module):
    """Cross entropy averaged over the labelled pixels; binary where there is one logit.

    logits: N x C x H x W; masks: N x H x W with classes 0 to C - 1 (0 and 1 where C is 1) or `IGNORE_INDEX`.
    class_weights: one per class, or None. A batch without a labelled pixel has loss 0, not NaN.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        weights = self.class_weights
        logits = logits.float()
        if logits.shape[1] > 1:
            total = F.cross_entropy(logits, masks, weights, ignore_index=IGNORE_INDEX, reduction="sum")
        else:
            labelled = masks != IGNORE_INDEX
            target = masks.clamp_max(1)
            pixel_weights = labelled.float() if weights is None else weights[target] * labelled
            total = (
                F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none") * pixel_weights
            ).sum()
        labelled = masks != IGNORE_INDEX
        count = labelled.sum() if weights is None else (weights[masks * labelled] * labelled).sum()
        return total / count.clamp_min(1e-12)
