"""A folder of images and masks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from acquisition.seeding import uniform_for
from datamodules.masks import MaskPool
from datamodules.texts import read_class_names
from datamodules.units import DataError, Unit, find_files

__all__ = ["Folder", "pair_files"]


class Folder(MaskPool):
    """`images/`, `masks/` and `classes.txt` below root.

    Either root/train/{images,masks} and root/val/{images,masks} (and test), or root/{images,masks} with a share of
    the images that have a mask held out for validation. A mask has its image's name (sub-folders included),
    is an 8-bit grey or palette PNG of the image's size, and holds class indices or 255 for void. An image
    without a mask is a pool unit that only people can label (see `FolderOracle`). classes.txt: one name a line.

    val_fraction: share held out where there is no val folder, chosen by a hash of the name alone, so that it stays the
    same when images or masks are added and for every seed: drawing a queried unit's mask never moves it out of the
    train split. An image that is held out and has no mask is in neither split until somebody draws one. The other
    arguments are those of `MaskPool`.
    """

    def __init__(self, root: str, val_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.root = Path(root)
        self.val_fraction = val_fraction
        self._names: list[str] = []

    @property
    def class_names(self) -> Sequence[str]:
        if not self._names:
            self._names = read_class_names(self.root / "classes.txt")
        return self._names

    def find_units(self, split: str) -> list[Unit]:
        if (self.root / "train").is_dir():
            folder = self.root / split
            return pair_files(folder / "images", folder / "masks") if folder.is_dir() else []
        units = pair_files(self.root / "images", self.root / "masks")
        if split == "test":
            return []
        held_out = {u.unit_id for u in units if uniform_for("val", u.unit_id) < self.val_fraction}
        if split == "val":
            return [u for u in units if u.unit_id in held_out and u.mask]
        return [u for u in units if u.unit_id not in held_out]


def pair_files(images: Path, masks: Path) -> list[Unit]:
    """Images with the masks of the same name; a mask without an image is refused."""
    found = find_files(images)
    drawn: Mapping[str, Path] = find_files(masks) if masks.is_dir() else {}
    orphans = sorted(drawn.keys() - found.keys())
    if orphans:
        raise DataError(f"the mask {drawn[orphans[0]]} has no image of its name in {images}; rename or remove it")
    return [Unit(name, path, drawn.get(name)) for name, path in found.items()]
