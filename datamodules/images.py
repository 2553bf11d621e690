"""A pool whose images are read one by one."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import albumentations as A  # noqa: N812 - the library's own convention
import numpy as np
from torch.utils.data import DataLoader

from datamodules.datasets import EpochSampler, ImageDataset, collate_units
from datamodules.pool import PoolDataModule
from datamodules.transforms import IMAGENET_MEAN, IMAGENET_STD, eval_transform, train_transform
from datamodules.units import DataError, Unit, image_size, read_image

__all__ = ["ImagePool"]


class ImagePool(PoolDataModule):
    """Images from files (or drawn), normalised with ImageNet's mean and deviation; a subclass reads the labels.

    image_size: (height, width) to which every image is resized first, or None. crop_size: (height, width) of
    training crops after random scaling, or None for whole images. scale: smallest and largest factor before a crop.
    flip: probability of a horizontal flip. num_workers: processes that read images. The others are those of
    `PoolDataModule`.
    """

    def __init__(
        self,
        image_size: Sequence[int] | None = None,
        crop_size: Sequence[int] | None = None,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        num_workers: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_workers < 0:
            raise DataError(f"data.num_workers must be 0 or more processes, got {num_workers}")
        self.num_workers = num_workers
        self._train_transform = train_transform(image_size, crop_size, scale, flip)
        self._eval_transform = eval_transform(image_size)

    @abstractmethod
    def dataset(self, units: Sequence[Unit], transform: A.Compose, labels: bool) -> ImageDataset:
        """Units as samples, with their labels or without."""

    def read_image(self, unit: Unit) -> np.ndarray:
        """H x W x 3, uint8."""
        assert unit.image is not None
        return read_image(unit.image)

    def size(self, unit: Unit) -> tuple[int, int]:
        assert unit.image is not None
        return image_size(unit.image)

    def to_display(self, image: np.ndarray) -> np.ndarray:
        pixels = image.transpose(1, 2, 0) * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)
        return (pixels * 255).round().clip(0, 255).astype(np.uint8)

    def loader(self, units: Sequence[Unit], training: bool, labels: bool) -> DataLoader[dict[str, Any]]:
        sampler = None
        if training:
            sampler = EpochSampler(len(units), self.batch_size, self.seed, *self.place, *self.progress)
        # by keyword, because Lightning makes the loader again with another sampler for predict
        return DataLoader(
            self.dataset(units, self._train_transform if training else self._eval_transform, labels),
            batch_size=self.batch_size if training else self.eval_batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate_units,
            pin_memory=self.pins_memory,
        )
