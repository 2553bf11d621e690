"""Scores of a whole split: of segmentation, all from one confusion matrix, and of classification."""

import warnings

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)
from torchmetrics.utilities.data import dim_zero_cat

from lightning_modules.losses import IGNORE_INDEX

__all__ = ["ClassRecall", "PresentAUROC", "SegmentationScores", "classification_scores", "segmentation_scores"]


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


class PresentAUROC(MulticlassAUROC):
    """Area under the receiver operating characteristic, one class against the rest, averaged over the classes for which
    it is defined: those that some images have and others have not.

    torchmetrics' own average counts 0 for a class without images. 0 where no class has an area.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, average="none", validate_args=False)

    def compute(self) -> Tensor:  # type: ignore[override]
        classes = dim_zero_cat(self.target)
        counts = torch.bincount(classes, minlength=self.num_classes)
        defined = (counts > 0) & (counts < len(classes))
        with warnings.catch_warnings():
            # of classes without images, which do not count here
            warnings.filterwarnings("ignore", message="No (positive|negative) samples in targets")
            areas = super().compute()
        return areas[defined].mean().nan_to_num()


class ClassRecall(MulticlassConfusionMatrix):
    """`compute` gives recall, one per class, and balanced_accuracy, its mean over the classes of the truth."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, validate_args=False)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        counts = self.confmat.double()
        recall = counts.diag() / counts.sum(dim=1)
        return {"balanced_accuracy": recall.nanmean().nan_to_num(), "recall": recall}


def classification_scores(num_classes: int) -> MetricCollection:
    """Metrics of probabilities, N x C, and classes, N, all summed over processes.

    accuracy: share of right images. balanced_accuracy and recall: see `ClassRecall`. auroc: see `PresentAUROC`.
    calibration_error: expected calibration error over 15 equal bins of the largest probability (Guo et al. 2017).
    """
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
            "per_class": ClassRecall(num_classes),
            "auroc": PresentAUROC(num_classes),
            "calibration_error": MulticlassCalibrationError(num_classes, n_bins=15, norm="l1", validate_args=False),
        },
        compute_groups=False,
    )
