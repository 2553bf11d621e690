"""Joint transforms of image and mask, by albumentations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from acquisition.annotation import VOID
from datamodules.files import DataError

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "JointTransform",
    "check_size",
    "eval_transform",
    "to_display",
    "train_transform",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def check_size(name: str, size: Sequence[int] | None) -> None:
    """Refuse a setting that is no height and width of an image."""
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise DataError(f"data.{name} must be (height, width), each at least 1 pixel, or null, got {list(size)}")


class JointTransform:
    """Resizes, changes at random, normalises and turns into tensors an image and its mask, both alike.

    It travels to a loader's processes as its arguments, and is made again there.

    Args:
        image_size: (height, width) to which everything is resized first, or None.
        crop_size: (height, width) of random crops after random scaling, padded with void where the scaled image is
            smaller; None neither scales nor crops.
        scale: Smallest and largest factor.
        flip: Probability of a horizontal flip.
    """

    augmentations: list[str]
    """Names of the random changes."""

    def __init__(
        self,
        image_size: Sequence[int] | None = None,
        crop_size: Sequence[int] | None = None,
        scale: Sequence[float] = (1.0, 1.0),
        flip: float = 0.0,
    ) -> None:
        # not before a transform is wanted: these take most of a second to import
        import albumentations as A  # noqa: N812 - the library's own convention
        import cv2
        from albumentations.pytorch import ToTensorV2

        # OpenCV's own threads fight with the data loader's workers
        cv2.setNumThreads(0)
        self._arguments = image_size, crop_size, scale, flip
        resizing: list[A.BasicTransform] = []
        if image_size is not None:
            resizing.append(A.Resize(*image_size, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_NEAREST))
        random: list[A.BasicTransform] = []
        if crop_size is not None:
            random += [
                A.RandomScale((scale[0] - 1, scale[1] - 1), p=1),
                A.PadIfNeeded(*crop_size, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=VOID),
                A.RandomCrop(*crop_size),
            ]
        if flip:
            random.append(A.HorizontalFlip(p=flip))
        self.augmentations = [type(change).__name__ for change in random]
        self._pipeline = A.Compose(
            [*resizing, *random, A.Normalize(IMAGENET_MEAN, IMAGENET_STD), ToTensorV2()],
            additional_targets={"index": "mask"},
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def seed(self, number: int) -> None:
        """Fix what the next call draws.

        Args:
            number: Any, of which 32 bits count.
        """
        self._pipeline.set_random_seed(number % 2**32)

    def __call__(self, image: np.ndarray, masks: Mapping[str, np.ndarray] | None = None) -> dict[str, Tensor]:
        """Transform an image, and what belongs to its pixels.

        Args:
            image: H x W x 3, uint8.
            masks: "mask", H x W uint8, and "index", H x W int32, or one of them; none unless given.

        Returns:
            "image", 3 x H' x W', float32, and the masks, H' x W', by nearest neighbour, in their own type.
        """
        sample: dict[str, Tensor] = self._pipeline(image=image, **(masks or {}))
        return sample

    def resize(self, mask: np.ndarray) -> np.ndarray:
        """One mask, H x W uint8, without its image."""
        blank = np.zeros((*mask.shape, 3), dtype=np.uint8)
        resized: np.ndarray = self(blank, {"mask": mask})["mask"].numpy()
        return resized


def to_display(image: np.ndarray) -> np.ndarray:
    """A transformed image, 3 x H x W, as pixels, H x W x 3 uint8."""
    pixels = image.transpose(1, 2, 0) * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)
    return (pixels * 255).round().clip(0, 255).astype(np.uint8)


def eval_transform(image_size: Sequence[int] | None) -> JointTransform:
    """Resize to (height, width) if given, normalise, to tensor: what validation, test and pool see."""
    check_size("image_size", image_size)
    return JointTransform(image_size)


def train_transform(
    image_size: Sequence[int] | None, crop_size: Sequence[int] | None, scale: Sequence[float], flip: float
) -> JointTransform:
    """The eval transform with random scale, crop and flip in between (Chen 2020, section 2.1.1).

    Args:
        image_size: As of `JointTransform`, like the others.
        crop_size: None keeps the image's own size and skips scaling.
        scale: Smallest and largest factor.
        flip: Probability of a horizontal flip.

    Raises:
        DataError: If a setting is out of its range.
    """
    check_size("crop_size", crop_size)
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise DataError(f"data.scale must be (smallest, largest) factor, both above 0, got {list(scale)}")
    if not 0 <= flip <= 1:
        raise DataError(f"data.flip is a probability: expected 0 to 1, got {flip}")
    check_size("image_size", image_size)
    return JointTransform(image_size, crop_size, scale, flip)
