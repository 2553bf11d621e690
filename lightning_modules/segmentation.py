"""Training, evaluation and prediction of one segmentation network."""

from torch import Tensor

from acquisition.functional import predicted_class
from lightning_modules.base import NetworkModule, Scores
from lightning_modules.metrics import SegmentationScores

__all__ = ["SegmentationModule"]


class SegmentationModule(NetworkModule):
    """Images to logits, N x C x H x W; batches have "mask", N x H x W. The arguments are those of `NetworkModule`."""

    monitor = "val/miou"
    target = "mask"

    def make_scores(self) -> SegmentationScores:
        return SegmentationScores(self.num_classes)

    def update_scores(self, scores: Scores, logits: Tensor, targets: Tensor) -> None:
        scores.update(predicted_class(logits), targets)
