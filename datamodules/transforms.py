"""Joint transforms of image and mask, by albumentations."""

from collections.abc import Sequence

import albumentations as A  # noqa: N812 - the library's own convention
import cv2
from albumentations.pytorch import ToTensorV2

from datamodules.units import VOID, DataError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "check_size", "eval_transform", "train_transform"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# OpenCV's own threads fight with the data loader's workers
cv2.setNumThreads(0)


def check_size(name: str, size: Sequence[int] | None) -> None:
    """Refuse a setting that is no height and width of an image."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise DataError(f"data.{name} must be (height, width), each at least 1 pixel, or null, got {list(size)}")


def eval_transform(image_size: Sequence[int] | None) -> A.Compose:
    """Resize to (height, width) if given, normalise, to tensor: what validation, test and pool see."""
    return A.Compose([*_resize(image_size), *_to_tensor()])


def train_transform(
    image_size: Sequence[int] | None, crop_size: Sequence[int] | None, scale: Sequence[float], flip: float
) -> A.Compose:
    """The eval transform with random scale, crop and flip in between (thesis 2.1.1).

    crop_size: (height, width), padded with void where the scaled image is smaller; None keeps the image's own
    size and skips scaling. scale: smallest and largest factor. flip: probability of a horizontal flip.
    """
    check_size("crop_size", crop_size)
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise DataError(f"data.scale must be (smallest, largest) factor, both above 0, got {list(scale)}")
    if not 0 <= flip <= 1:
        raise DataError(f"data.flip is a probability: expected 0 to 1, got {flip}")
    augmentations: list[A.BasicTransform] = []
    if crop_size is not None:
        height, width = crop_size
        augmentations += [
            A.RandomScale((scale[0] - 1, scale[1] - 1), p=1),
            A.PadIfNeeded(height, width, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=VOID),
            A.RandomCrop(height, width),
        ]
    if flip:
        augmentations.append(A.HorizontalFlip(p=flip))
    return A.Compose([*_resize(image_size), *augmentations, *_to_tensor()])


def _resize(image_size: Sequence[int] | None) -> list[A.BasicTransform]:
    check_size("image_size", image_size)
    if image_size is None:
        return []
    return [A.Resize(*image_size, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_NEAREST)]


def _to_tensor() -> list[A.BasicTransform]:
    return [A.Normalize(IMAGENET_MEAN, IMAGENET_STD), ToTensorV2()]
