"""Oracle strategies: queries that look at the truth of the pool, to see how far a query could get.

They follow Chen 2020, section 3.2.1. Void (255) never counts. They serve simulations alone: where people label, there
is no truth to look at.
"""

import torch
from torch import Tensor

from acquisition.functional import class_log_probabilities, predicted_class
from acquisition.functions import TruthAcquisition

__all__ = ["Incorrect", "LowestMIoU", "TrueClassLoss"]

_VOID = 255


class Incorrect(TruthAcquisition):
    """Share of a unit's pixels that are predicted wrong; of a classified image, 1 if wrong and 0 if right.

    With TopK this is Chen's query: wrong samples in a random order, then right ones in a random order.
    """

    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        return ((predicted_class(logits) != truth) & (truth != _VOID)).to(logits.dtype)

    def scores(self, logits: Tensor, truth: Tensor) -> Tensor:
        return _mean_where_known(self.values(logits, truth), truth)


class TrueClassLoss(TruthAcquisition):
    """Cross entropy in nats, -log p(true class), averaged over the pixels: how wrong, where Incorrect says whether."""

    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        known = truth != _VOID
        true_class = truth.where(known, 0).long().unsqueeze(1)
        losses = -class_log_probabilities(logits).gather(1, true_class).squeeze(1)
        return losses.where(known, 0)

    def scores(self, logits: Tensor, truth: Tensor) -> Tensor:
        return _mean_where_known(self.values(logits, truth), truth)


class LowestMIoU(TruthAcquisition):
    """One minus a unit's mIoU: the mean over the classes that its truth or its prediction has (Chen 2020, figure 3.9).

    A unit that is void altogether scores 0.
    """

    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        return ((predicted_class(logits) != truth) & (truth != _VOID)).to(logits.dtype)

    def scores(self, logits: Tensor, truth: Tensor) -> Tensor:
        if truth.ndim != 3:
            raise ValueError(
                f"LowestMIoU needs masks, N x H x W, got truth of {truth.ndim} dimensions; choose Incorrect for "
                "classified images"
            )
        classes = max(2, logits.shape[1])
        known = (truth != _VOID).flatten(start_dim=1)
        predicted = predicted_class(logits).flatten(start_dim=1)
        true = truth.flatten(start_dim=1)
        overlaps, unions = (
            torch.stack(
                [(combine(predicted == c, true == c) & known).sum(dim=1) for c in range(classes)], dim=1
            ).double()
            for combine in (torch.logical_and, torch.logical_or)
        )
        present = unions > 0
        miou = (overlaps / unions.clamp_min(1)).sum(dim=1) / present.sum(dim=1).clamp_min(1)
        return (1 - miou).where(present.any(dim=1), 0)


def _mean_where_known(values: Tensor, truth: Tensor) -> Tensor:
    values = values.double().flatten(start_dim=1) if values.ndim > 1 else values.double()[:, None]
    known = truth != _VOID
    known = known.flatten(start_dim=1) if known.ndim > 1 else known[:, None]
    return values.sum(dim=1) / known.sum(dim=1).clamp_min(1)
