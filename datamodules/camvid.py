"""CamVid: driving scenes, 11 classes (Brostow et al. 2008; the SegNet version)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.folder import Folder
from datamodules.units import VOID, Unit

__all__ = ["CamVid"]

_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
_VOID_ON_DISK = 11


class CamVid(Folder):
    """root/{train,val,test}/{images,masks}; mask values 0 to 10, and 11 for void."""

    def __init__(self, root: str, **kwargs: Any) -> None:
        super().__init__(root, **kwargs)

    @property
    def class_names(self) -> Sequence[str]:
        return _CLASSES

    def read_mask(self, unit: Unit) -> np.ndarray:
        mask = super().read_mask(unit)
        return np.where(mask == _VOID_ON_DISK, VOID, mask).astype(np.uint8)
