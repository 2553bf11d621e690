"""Segmentation scores, all from one confusion matrix over the whole split."""

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from lightning_modules.losses import IGNORE_INDEX

__all__ = ["SegmentationScores", "segmentation_scores"]


def segmentation_scores(confusion: Tensor) -> dict[str, Tensor]:
    """Scores in [0, 1] from a C x C matrix of pixel counts, truth in rows, prediction in columns.

    miou: mean of the per-class intersection over union; a class absent from both truth and prediction is left
    out of the mean. iou: C values, NaN for those classes. pixel_accuracy: share of right pixels. mean_accuracy:
    mean recall over the classes that occur in the truth. fw_iou: IoU weighted by the truth's class frequency.
    All are 0 where there is no labelled pixel at all. (Long et al. 2015, section 5.)
    """
    counts = confusion.double()
    right, truth, predicted = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    union = truth + predicted - right
    iou = right / union
    recall = right / truth
    total = truth.sum().clamp_min(1)
    return {
        "miou": iou.nanmean().nan_to_num(),
        "iou": iou,
        "pixel_accuracy": right.sum() / total,
        "mean_accuracy": recall.nanmean().nan_to_num(),
        "fw_iou": (iou.nan_to_num() * truth / total).sum(),
    }


class SegmentationScores(MulticlassConfusionMatrix):
    """torchmetrics' confusion matrix (summed over processes) whose `compute` returns `segmentation_scores`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, ignore_index=IGNORE_INDEX, validate_args=False)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        return segmentation_scores(self.confmat)
