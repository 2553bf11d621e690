"""A pool for segmentation: every unit's label is a mask."""

from collections.abc import Sequence

import albumentations as A  # noqa: N812 - the library's own convention
import numpy as np

from datamodules.datasets import UnitDataset, check_mask
from datamodules.images import ImagePool
from datamodules.units import DataError, Unit, read_mask

__all__ = ["MaskPool"]


class MaskPool(ImagePool):
    """Images with a mask each; batches have "mask", N x H x W int64.

    A subclass gives `class_names` and `find_units`, and reads its own masks where they need decoding.
    """

    label_word = "mask"

    def read_mask(self, unit: Unit) -> np.ndarray:
        """H x W, uint8: class indices, or 255 for void."""
        if unit.mask is None:
            raise DataError(f"unit {unit.unit_id!r} has no mask; draw it, or take the image out of the labelled split")
        return read_mask(unit.mask)

    def read_label(self, unit: Unit) -> np.ndarray:
        return self.read_mask(unit)

    def has_label(self, unit: Unit) -> bool:
        return unit.mask is not None

    def checked_pixels(self, unit: Unit) -> int:
        image = self.read_image(unit)
        check_mask(unit, image, self.read_mask(unit), self.num_classes)
        return int(image.shape[0] * image.shape[1])

    def dataset(self, units: Sequence[Unit], transform: A.Compose, labels: bool) -> UnitDataset:
        return UnitDataset(units, self, transform, self.num_classes, labels, self.seed)
