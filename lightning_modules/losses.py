"""Losses that know pixels and images without a label."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["IGNORE_INDEX", "CrossEntropy", "PixelCrossEntropy"]

IGNORE_INDEX = 255
"""The mask value of pixels, and the label of images, that neither train nor count."""


class CrossEntropy(nn.Module):
    """Cross entropy averaged over what is labelled, pixels or images; binary where there is one logit.

    logits: N x C x ...; targets: N x ... with classes 0 to C - 1 (0 and 1 where C is 1) or `IGNORE_INDEX`.
    class_weights: one per class, or None. A batch without a label has loss 0, not NaN.
    """

    class_weights: Tensor | None

    def __init__(self, class_weights: Sequence[float] | None = None) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        weights = self.class_weights
        logits = logits.float()
        if logits.shape[1] > 1:
            total = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE_INDEX, reduction="sum")
        else:
            labelled = targets != IGNORE_INDEX
            target = targets.clamp_max(1)
            pixel_weights = labelled.float() if weights is None else weights[target] * labelled
            total = (
                F.binary_cross_entropy_with_logits(logits[:, 0], target.float(), reduction="none") * pixel_weights
            ).sum()
        labelled = targets != IGNORE_INDEX
        count = labelled.sum() if weights is None else (weights[targets * labelled] * labelled).sum()
        return total / count.clamp_min(1e-12)


PixelCrossEntropy = CrossEntropy
"""Its name in segmentation configs."""
