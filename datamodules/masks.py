"""A pool for segmentation: every unit's label is a mask."""

from collections.abc import Sequence

import numpy as np

from datamodules.datasets import UnitDataset, check_mask
from datamodules.images import ImagePool
from datamodules.transforms import JointTransform
from datamodules.units import VOID, DataError, Unit, read_mask

__all__ = ["MaskPool"]


class MaskPool(ImagePool):
    """Images with a mask each; batches have "mask", N x H x W int64.

    A subclass gives `class_names` and `find_units`, and reads its own masks where they need decoding.
    """

    label_word = "mask"
    people = "datamodules.oracle.FolderOracle"

    def read_mask(self, unit: Unit) -> np.ndarray:
        """H x W, uint8: class indices, or 255 for void."""
        if unit.mask is None:
            raise DataError(f"unit {unit.unit_id!r} has no mask; draw it, or take the image out of the labelled split")
        return read_mask(unit.mask)

    def read_training_mask(self, unit: Unit, epoch: int) -> np.ndarray:
        """H x W, uint8: the mask to train on in an epoch."""
        return self.read_mask(unit)

    def read_label(self, unit: Unit) -> np.ndarray:
        return self.read_mask(unit)

    def has_label(self, unit: Unit) -> bool:
        return unit.mask is not None

    def checked_pixels(self, unit: Unit) -> int:
        image = self.read_image(unit)
        check_mask(unit, image, self.read_mask(unit), self.num_classes)
        return int(image.shape[0] * image.shape[1])

    def check_initial(self, chosen: Sequence[Unit]) -> None:
        """Refuse masks that teach or judge nothing: the initial set's and the validation split's.

        Those that are void throughout, all of them; and those of class 0 and void alone, all of them together, because
        that is what masks of 0 and 255 look like, whose 255 is meant as a class. A few such masks among others are
        fine, and so is nothing but class 0 without any void. Masks are opened until one shows another class: the first,
        as a rule.
        """
        super().check_initial(chosen)
        self._check_content(chosen, "initial set")
        self._check_content(list(self._units("val").values()), "validation split")

    def dataset(self, units: Sequence[Unit], transform: JointTransform, labels: bool, cycle: int) -> UnitDataset:
        return UnitDataset(units, self, transform, self.num_classes, labels, self.seed, cycle)

    def _check_content(self, units: Sequence[Unit], where: str) -> None:
        found: set[int] = set()
        for unit in units:
            found.update(np.unique(self.read_mask(unit)).tolist())
            if found - {0, VOID}:
                return
        first = units[0].mask or units[0].unit_id
        if found == {VOID}:
            raise DataError(
                f"all {len(units)} masks of the {where} are void throughout (value {VOID}), {first} first, so no pixel "
                "counts; correct the masks, or take other images"
            )
        if found == {0, VOID}:
            raise DataError(
                f"the {len(units)} masks of the {where} hold only 0 and {VOID}, {first} first, and {VOID} means void: "
                f"save class 1 as 1 if {VOID} is meant as that, or take images with other classes into the {where}"
            )
