"""A folder of images for every class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from acquisition.seeding import uniform_for
from datamodules.files import DataError, check_name, find_files
from datamodules.sources.folder import by_another_share
from datamodules.sources.source import FileSource, ImageFile
from datamodules.texts import read_class_names

__all__ = ["ClassFolders"]

_UNLABELLED = "unlabelled"


class ClassFolders(FileSource):
    """root/{train,val,test}/CLASS/NAME.jpg, or root/CLASS/NAME.jpg with a share held out for validation.

    The classes are the folders of the train split, in the order of their names, unless root/classes.txt lists them, one
    name a line: then a class needs no folder. Images in root/unlabelled are in the pool, and only people know their
    classes (see `LabelTable`). Where no image of a class folder is for validation, the same share of root/unlabelled is
    held out, and is in neither split until somebody has labelled it. Images are read in colour, one by one.

    Args:
        root: The folder that holds all this.
        val_fraction: Share held out where there is no train folder, chosen by a hash of the name alone; also that of
            root/unlabelled where nothing else is for validation.
        value_range: The values that become black and white in images of more than 8 bits (16-bit, 32-bit or
            floating-point grey), [0, 4095] say; without it such images are refused.
    """

    target = "label"

    def __init__(self, root: str, val_fraction: float = 0.2, value_range: Sequence[float] | None = None) -> None:
        super().__init__(value_range)
        if not 0 <= val_fraction < 1:
            raise DataError(f"data.source.val_fraction is a share: expected 0 or more and below 1, got {val_fraction}")
        self.root = Path(root)
        self.val_fraction = val_fraction

    @property
    def class_names(self) -> Sequence[str]:
        listed = self.root / "classes.txt"
        if listed.is_file():
            return read_class_names(listed)
        return _classes(self.root / "train" if self._split_by_folder else self.root)

    def find(self, split: str) -> dict[str, ImageFile]:
        names = self.class_names
        found = self._labelled(split, names)
        if split == "test" or not (self.root / _UNLABELLED).is_dir():
            return found
        unlabelled = {f"{_UNLABELLED}/{n}": ImageFile(p) for n, p in find_files(self.root / _UNLABELLED).items()}
        share = 0.0 if self._labelled("val", names) else self.val_fraction
        return found | {i: f for i, f in unlabelled.items() if (uniform_for("val", i) < share) == (split == "val")}

    def images(self, split: str) -> Sequence[str]:
        found = super().images(split)
        return [i for i in found if self.is_annotated(i)] if split == "val" else found

    def undrawn(self) -> Sequence[str]:
        return [i for i in super().images("val") if not self.is_annotated(i)]

    def why_empty(self, split: str) -> str:
        if self._split_by_folder and split == "train":
            return f"add images to {self.root / split}"
        remedy = by_another_share([*self._split("train"), *self._split("val")], self.val_fraction, split)
        return f"add images of the classes to {self.root / split}, or {remedy}" if self._split_by_folder else remedy

    def _labelled(self, split: str, names: Sequence[str]) -> dict[str, ImageFile]:
        """The images of class folders."""
        folder = self.root / split if self._split_by_folder else self.root
        if not folder.is_dir() or (split == "test" and not self._split_by_folder):
            return {}
        if unknown := sorted(set(_classes(folder)) - set(names)):
            raise DataError(
                f"{folder / unknown[0]} is a class that the train split does not have ({', '.join(names)}); rename it, "
                "or add training images of it"
            )
        found: dict[str, ImageFile] = {}
        for label, name in enumerate(names):
            found |= _files(folder / name, name, label)
        if self._split_by_folder:
            return found
        return {i: f for i, f in found.items() if (uniform_for("val", i) < self.val_fraction) == (split == "val")}

    def is_annotated(self, image_id: str) -> bool:
        return self.file(image_id).label is not None

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        label = self.file(image_id).label
        if label is None:
            raise DataError(f"the image {image_id!r} has no label; move it into its class's folder")
        return np.array(label, dtype=np.uint8)

    @property
    def _split_by_folder(self) -> bool:
        return (self.root / "train").is_dir()


def _classes(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise DataError(f"expected a folder of class folders at {folder}, got nothing there; check data.source.root")
    found = [p for p in folder.iterdir() if p.is_dir() and p.name != _UNLABELLED and p.name[0] != "."]
    for path in found:
        check_name(path.name, path)
    return sorted(p.name for p in found)


def _files(folder: Path, name: str, label: int) -> dict[str, ImageFile]:
    # a validation split need not hold every class
    found = find_files(folder) if folder.is_dir() else None
    if found is not None and not found:
        raise DataError(f"the class folder {folder} holds no image; add some, or remove the folder")
    return {f"{name}/{file}": ImageFile(path, label=label) for file, path in (found or {}).items()}
