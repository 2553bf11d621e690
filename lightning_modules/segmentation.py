"""Training, evaluation and prediction of one segmentation network."""

from torch import Tensor

from acquisition.functional import predicted_class
from lightning_modules.base import Metrics, NetworkModule
from lightning_modules.metrics import SegmentationMetrics

__all__ = ["SegmentationModule"]


class SegmentationModule(NetworkModule):
    """Semantic segmentation; logits are N x C x H x W, and batches have the key "mask" with classes, N x H x W.

    The arguments are those of `NetworkModule`.
    """

    monitor = "val/miou"
    target = "mask"

    def make_metrics(self) -> SegmentationMetrics:
        return SegmentationMetrics(self.num_classes)

    def update_metrics(self, metrics: Metrics, logits: Tensor, targets: Tensor) -> None:
        metrics.update(predicted_class(logits), targets)
