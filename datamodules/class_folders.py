"""A folder of images for every class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acquisition.seeding import uniform_for
from datamodules.datasets import LabelDataset
from datamodules.images import ImagePool
from datamodules.labels import LabelPool
from datamodules.transforms import JointTransform
from datamodules.units import DataError, Unit, check_name, find_files

__all__ = ["ClassFolders"]

_UNLABELLED = "unlabelled"


class ClassFolders(LabelPool, ImagePool):
    """root/{train,val,test}/CLASS/NAME.jpg, or root/CLASS/NAME.jpg with a share held out for validation.

    The classes are the folders of the train split, in the order of their names. Images in root/unlabelled are pool
    units whose class only people know (see `LabelTable`). Images are read in colour, one by one.

    val_fraction: share held out where there is no train folder, chosen by a hash of the name alone. The others are
    those of `ImagePool` and `LabelPool`.
    """

    def __init__(self, root: str, val_fraction: float = 0.2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= val_fraction < 1:
            raise DataError(f"data.val_fraction is a share: expected 0 or more and below 1, got {val_fraction}")
        self.root = Path(root)
        self.val_fraction = val_fraction

    @property
    def class_names(self) -> Sequence[str]:
        return _classes(self.root / "train" if self._split_by_folder else self.root)

    def find_units(self, split: str) -> list[Unit]:
        names = list(self.class_names)
        folder = self.root / split if self._split_by_folder else self.root
        if not folder.is_dir() or (split == "test" and not self._split_by_folder):
            return []
        if unknown := sorted(set(_classes(folder)) - set(names)):
            raise DataError(
                f"{folder / unknown[0]} is a class that the train split does not have ({', '.join(names)}); rename it, "
                "or add training images of it"
            )
        units = [u for index, name in enumerate(names) for u in _labelled_units(folder / name, name, index)]
        if not self._split_by_folder:
            units = [u for u in units if (uniform_for("val", u.unit_id) < self.val_fraction) == (split == "val")]
        if split == "train" and (self.root / _UNLABELLED).is_dir():
            found = find_files(self.root / _UNLABELLED)
            units += [Unit(f"{_UNLABELLED}/{name}", path) for name, path in found.items()]
        return units

    def dataset(self, units: Sequence[Unit], transform: JointTransform, labels: bool, cycle: int) -> LabelDataset:
        return LabelDataset(units, self, transform, labels, self.seed, cycle)

    @property
    def _split_by_folder(self) -> bool:
        return (self.root / "train").is_dir()


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"expected a folder of class folders at {folder}, got nothing there; check data.root")
    found = [p for p in folder.iterdir() if p.is_dir() and p.name != _UNLABELLED and p.name[0] != "."]
    for path in found:
        check_name(path.name, path)
    return sorted(p.name for p in found)


def _labelled_units(folder: Path, name: str, index: int) -> list[Unit]:
    # a validation split need not hold every class
    found = find_files(folder) if folder.is_dir() else None
    if found is not None and not found:
        raise DataError(f"the class folder {folder} holds no image; add some, or remove the folder")
    return [Unit(f"{name}/{file}", path, label=index) for file, path in (found or {}).items()]
