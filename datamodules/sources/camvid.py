"""CamVid: driving scenes, 11 classes (Brostow et al. 2008; the version of SegNet, Badrinarayanan et al. 2017)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acquisition.annotation import VOID
from datamodules.sources.folder import pair_files
from datamodules.sources.source import FileSource, ImageFile

__all__ = ["CamVid"]

_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign_symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip
_VOID_ON_DISK = 11


class CamVid(FileSource):
    """Images and masks in root/{train,val,test}/{images,masks}; mask values 0 to 10, and 11 for void.

    Args:
        root: The folder that holds all this.
    """

    def __init__(self, root: str) -> None:
        super().__init__()
        self.root = Path(root)

    @property
    def class_names(self) -> Sequence[str]:
        return _CLASSES

    def find(self, split: str) -> dict[str, ImageFile]:
        folder = self.root / split
        return {} if split == "test" and not folder.is_dir() else pair_files(folder / "images", folder / "masks")

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        mask = super().read_annotation(image_id, draw)
        return np.where(mask == _VOID_ON_DISK, VOID, mask).astype(np.uint8)
