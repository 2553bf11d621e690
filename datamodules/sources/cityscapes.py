"""Cityscapes: street scenes of 50 cities (Cordts et al. 2016)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from acquisition.annotation import VOID
from datamodules.files import DataError, find_files
from datamodules.sources.source import FileSource, ImageFile

__all__ = ["Cityscapes"]

_TRAIN_CLASSES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car",
    27: "truck", 28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
_VEHICLE_SURFACES = (7, 9, 10)
"""Road, parking and rail track: "roads and other vehicle surfaces" (Chen 2020, section 3.3.2)."""
_NEVER_LABELLED = (0, 1, 2, 3, 4, 5, 6)


class Cityscapes(FileSource):
    """root/leftImg8bit/SPLIT/CITY/NAME_leftImg8bit.png and root/gtFine/SPLIT/CITY/NAME_gtFine_labelIds.png.

    The published test split has no labels and is not used.

    Args:
        root: The folder that holds all this.
        classes: "train_ids" for the 19 evaluated classes, or "road" for two classes, background and vehicle surfaces
            (road, parking, rail track), as in Chen 2020, section 3.3.2.
    """

    def __init__(self, root: str, classes: Literal["train_ids", "road"] = "train_ids") -> None:
        super().__init__()
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

    def find(self, split: str) -> dict[str, ImageFile]:
        if split == "test":
            return {}
        found = {}
        for name, path in find_files(self.root / "leftImg8bit" / split).items():
            image_id = name.removesuffix("_leftImg8bit")
            mask = self.root / "gtFine" / split / f"{image_id}_gtFine_labelIds.png"
            if not mask.is_file():
                raise DataError(
                    f"the image {path} has no mask at {mask}; unpack gtFine_trainvaltest beside leftImg8bit"
                )
            # of a class without instances, one per image
            instances = mask.with_name(mask.name.replace("_labelIds", "_instanceIds"))
            found[image_id] = ImageFile(path, mask, instances=instances)
        return found

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._lookup[super().read_annotation(image_id, draw)]
