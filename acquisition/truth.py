"""Oracle strategies: queries that look at the truth of the pool, to see how far a query could get.

They follow Chen 2020, section 3.2.1. Void (255) never counts. They serve simulations alone: where people label, there
is no truth to look at.
"""

from torch import Tensor

from acquisition.annotation import VOID
from acquisition.functional import class_log_probabilities, predicted_class
from acquisition.kinds import TruthAcquisition
from acquisition.regions import Regions

__all__ = ["Incorrect", "LowestMIoU", "TrueClassLoss"]


class Incorrect(TruthAcquisition):
    """Share of a unit's pixels that are predicted wrong; of a classified image, 1 if wrong and 0 if right.

    With TopK this is Chen's query: wrong samples in a random order, then right ones in a random order.
    """

    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        return ((predicted_class(logits) != truth) & (truth != VOID)).to(logits.dtype)

    def scores(self, logits: Tensor, truth: Tensor, regions: Regions) -> Tensor:
        return _mean_where_known(self.values(logits, truth), truth, regions)


class TrueClassLoss(TruthAcquisition):
    """Cross entropy in nats, -log p(true class), averaged over the pixels: how wrong, where Incorrect says whether."""

    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        known = truth != VOID
        true_class = truth.where(known, 0).long().unsqueeze(1)
        losses = -class_log_probabilities(logits).gather(1, true_class).squeeze(1)
        return losses.where(known, 0)

    def scores(self, logits: Tensor, truth: Tensor, regions: Regions) -> Tensor:
        return _mean_where_known(self.values(logits, truth), truth, regions)


class LowestMIoU(TruthAcquisition):
    """One minus a unit's mIoU: the mean over the classes that its truth or its prediction has (Chen 2020, figure 3.9).

    A unit that is void altogether scores 0.
    """

    def values(self, logits: Tensor, truth: Tensor) -> Tensor:
        return ((predicted_class(logits) != truth) & (truth != VOID)).to(logits.dtype)

    def scores(self, logits: Tensor, truth: Tensor, regions: Regions) -> Tensor:
        if truth.ndim != 3:
            raise ValueError(
                f"LowestMIoU needs masks, N x H x W, got truth of {truth.ndim} dimensions; choose Incorrect for "
                "classified images"
            )
        classes = max(2, logits.shape[1])
        units = regions.of(truth)
        true, predicted = units.pick(truth).long(), units.pick(predicted_class(logits))
        # a class of its own for what does not count, cut off at the end
        known = true != VOID
        true, predicted = true.where(known & (true < classes), classes), predicted.where(known, classes)
        overlaps, true_sizes, predicted_sizes = (
            units.counts(which, classes + 1)[:, :classes].double()
            for which in (true.where(predicted == true, classes), true, predicted)
        )
        unions = true_sizes + predicted_sizes - overlaps
        present = unions > 0
        miou = (overlaps / unions.clamp_min(1)).sum(dim=1) / present.sum(dim=1).clamp_min(1)
        return (1 - miou).where(present.any(dim=1), 0)


def _mean_where_known(values: Tensor, truth: Tensor, regions: Regions) -> Tensor:
    units = regions.of(values)
    return units.sum(units.pick(values)) / units.sum(units.pick(truth != VOID)).clamp_min(1)
