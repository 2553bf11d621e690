"""Metrics of a network on a whole split: for segmentation, all from one confusion matrix, and for classification."""

import warnings

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
)
from torchmetrics.utilities.data import dim_zero_cat

from acquisition.annotation import VOID

__all__ = ["ClassRecall", "PresentAUROC", "SegmentationMetrics", "classification_metrics", "segmentation_metrics"]


def segmentation_metrics(confusion: Tensor) -> dict[str, Tensor]:
    """Metrics of semantic segmentation, in [0, 1] (Long et al. 2015, section 5).

    Args:
        confusion: Pixel counts, C x C, with the true classes in rows and the predicted ones in columns.

    Returns:
        Metrics by name; all scalars are 0 if there is no labelled pixel:

        - miou: mean intersection over union of the classes that occur in truth or prediction.
        - iou: intersection over union of each class, C values, NaN for classes that do not occur.
        - pixel_accuracy: share of correct pixels.
        - mean_accuracy: mean recall of the classes that occur in the truth.
        - fw_iou: intersection over union, weighted by the classes' frequency in the truth.
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


class SegmentationMetrics(MulticlassConfusionMatrix):
    """torchmetrics' confusion matrix, summed over processes, whose `compute` returns `segmentation_metrics`.

    Args:
        num_classes: Number of classes C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, ignore_index=VOID, validate_args=False)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        return segmentation_metrics(self.confmat)


class PresentAUROC(MulticlassAUROC):
    """Area under the ROC curve, one class against the rest, averaged over the classes for which it is defined.

    Those are the classes that some images have and others have not; torchmetrics' own average counts 0 for a class
    without images. `compute` returns 0 if no class has an area.

    Args:
        num_classes: Number of classes C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, average="none", validate_args=False)

    def compute(self) -> Tensor:  # type: ignore[override]
        classes = dim_zero_cat(self.target)
        counts = torch.bincount(classes, minlength=self.num_classes)
        defined = (counts > 0) & (counts < len(classes))
        with warnings.catch_warnings():
            # about classes without images, which are left out below
            warnings.filterwarnings("ignore", message="No (positive|negative) samples in targets")
            areas = super().compute()
        return areas[defined].mean().nan_to_num()


class ClassRecall(MulticlassConfusionMatrix):
    """`compute` returns the recall of each class, and balanced_accuracy, their mean over the classes of the truth.

    Args:
        num_classes: Number of classes C.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes=num_classes, validate_args=False)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        counts = self.confmat.double()
        recall = counts.diag() / counts.sum(dim=1)
        return {"balanced_accuracy": recall.nanmean().nan_to_num(), "recall": recall}


def classification_metrics(num_classes: int, macro: bool = False) -> MetricCollection:
    """Metrics of classification, summed over processes; updated with probabilities, N x C, and classes, N.

    Args:
        num_classes: Number of classes C.
        macro: Add precision, recall and F1.

    Returns:
        accuracy (share of correct images), balanced_accuracy and recall (`ClassRecall`), auroc (`PresentAUROC`) and
        calibration_error, the expected calibration error over 15 equal bins of the largest probability (Guo et al.
        2017). With `macro` also macro_precision, macro_recall and macro_f1, means over the classes that occur in truth
        or prediction.
    """
    metrics: dict[str, Metric | MetricCollection] = {
        "accuracy": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "per_class": ClassRecall(num_classes),
        "auroc": PresentAUROC(num_classes),
        "calibration_error": MulticlassCalibrationError(num_classes, n_bins=15, norm="l1", validate_args=False),
    }
    if macro:
        kinds = {"precision": MulticlassPrecision, "recall": MulticlassRecall, "f1": MulticlassF1Score}
        metrics |= {f"macro_{name}": kind(num_classes, validate_args=False) for name, kind in kinds.items()}
    return MetricCollection(metrics, compute_groups=False)
