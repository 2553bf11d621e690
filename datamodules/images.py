"""A pool whose images are read one by one."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from datamodules.datasets import EpochSampler, ImageDataset, collate_units
from datamodules.pool import PoolDataModule
from datamodules.transforms import IMAGENET_MEAN, IMAGENET_STD, JointTransform, eval_transform, train_transform
from datamodules.units import DataError, Unit, image_size, read_image

__all__ = ["ImagePool"]


class ImagePool(PoolDataModule):
    """Images from files (or drawn), normalised with ImageNet's mean and deviation; a subclass reads the labels.

    image_size: (height, width) to which every image is resized first, or None. crop_size: (height, width) of
    training crops after random scaling, or None for whole images. scale: smallest and largest factor before a crop.
    flip: probability of a horizontal flip. num_workers: processes that read images. value_range: the values that become
    black and white in images of more than 8 bits (16-bit, 32-bit or floating-point grey), [0, 4095] say; without it
    such images are refused. The others are those of `PoolDataModule`.
    """

    def __init__(
        self,
        image_size: Sequence[int] | None = None,
        crop_size: Sequence[int] | None = None,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        num_workers: int = 0,
        value_range: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_workers < 0:
            raise DataError(f"data.num_workers must be 0 or more processes, got {num_workers}")
        if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
            raise ValueError(
                f"data.value_range must be two values, black and then white, such as [0, 4095], got {value_range}"
            )
        self.num_workers = num_workers
        self.value_range = value_range
        self._train_transform = train_transform(image_size, crop_size, scale, flip)
        self._eval_transform = eval_transform(image_size)

    @abstractmethod
    def dataset(self, units: Sequence[Unit], transform: JointTransform, labels: bool, cycle: int) -> ImageDataset:
        """Units as samples, with their labels or without; cycle: of the augmentation."""

    def read_image(self, unit: Unit) -> np.ndarray:
        """H x W x 3, uint8."""
        assert unit.image is not None
        return read_image(unit.image, self.value_range)

    def size(self, unit: Unit) -> tuple[int, int]:
        assert unit.image is not None
        return image_size(unit.image)

    def to_display(self, image: np.ndarray) -> np.ndarray:
        pixels = image.transpose(1, 2, 0) * np.array(IMAGENET_STD) + np.array(IMAGENET_MEAN)
        return (pixels * 255).round().clip(0, 255).astype(np.uint8)

    def loader(self, units: Sequence[Unit], training: bool, labels: bool) -> DataLoader[dict[str, Any]]:
        sampler, transform, cycle = None, self._eval_transform, 0
        if training:
            transform, cycle = self._train_transform, self.ledger.cycle
            sampler = EpochSampler(len(units), self.batch_size, self.seed, *self.rank_and_world_size, *self.progress)
        # by keyword, because Lightning makes the loader again with another sampler for predict
        return DataLoader(
            self.dataset(units, transform, labels, cycle),
            batch_size=self.batch_size if training else self.eval_batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate_units,
            pin_memory=self.pins_memory,
        )
