"""Cityscapes: street scenes of 50 cities (Cordts et al. 2016)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.masks import MaskPool
from datamodules.units import VOID, DataError, Unit, find_files

__all__ = ["Cityscapes"]

_TRAIN_CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
_VEHICLE_SURFACES = (7, 9, 10)
"""Road, parking and rail track: "roads and other vehicle surfaces" of thesis 3.3.2."""
_NEVER_LABELLED = (0, 1, 2, 3, 4, 5, 6)


class Cityscapes(MaskPool):
    """root/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and root/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png.

    classes: "train_ids" for the 19 evaluated classes, or "road" for two classes, background and vehicle surfaces
    (road, parking, rail track), as in thesis 3.3.2. The published test split has no labels and is not used.
    """

    def __init__(self, root: str, classes: Literal["train_ids", "road"] = "train_ids", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.classes = classes
        self._lookup = np.full(256, VOID, dtype=np.uint8)
        if classes == "train_ids":
            self._lookup[list(_TRAIN_CLASSES)] = np.arange(len(_TRAIN_CLASSES))
        else:
            self._lookup[: max(_TRAIN_CLASSES) + 1] = 0
            self._lookup[list(_NEVER_LABELLED)] = VOID
            self._lookup[list(_VEHICLE_SURFACES)] = 1

    @property
    def class_names(self) -> Sequence[str]:
        return tuple(_TRAIN_CLASSES.values()) if self.classes == "train_ids" else ("background", "road")

    def find_units(self, split: str) -> list[Unit]:
        if split == "test":
            return []
        images = find_files(self.root / "leftImg8bit" / split)
        units = []
        for name, path in images.items():
            unit_id = name.removesuffix("_leftImg8bit")
            mask = self.root / "gtFine" / split / f"{unit_id}_gtFine_labelIds.png"
            if not mask.is_file():
                raise DataError(
                    f"the image {path} has no mask at {mask}; unpack gtFine_trainvaltest beside leftImg8bit"
                )
            units.append(Unit(unit_id, path, mask))
        return units

    def read_mask(self, unit: Unit) -> np.ndarray:
        mask = super().read_mask(unit)
        # a mask that people drew (see `FolderOracle`) holds class indices already
        published = unit.mask is not None and unit.mask.name.endswith("_gtFine_labelIds.png")
        return self._lookup[mask] if published else mask
