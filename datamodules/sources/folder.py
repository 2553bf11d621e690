"""A folder of images and masks."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from acquisition.seeding import uniform_for
from datamodules.files import DataError, find_files
from datamodules.sources.source import FileSource, ImageFile
from datamodules.texts import read_class_names

__all__ = ["Folder", "by_another_share", "pair_files"]


class Folder(FileSource):
    """`images/`, `masks/` and `classes.txt` below root, and `instances/` where objects are told apart.

    Either root/train/{images,masks} and root/val/{images,masks} (and test), or root/{images,masks} with a share of
    the images that have a mask held out for validation. A mask has its image's name (sub-folders included),
    is an 8-bit grey or palette PNG of the image's size, and holds class indices or 255 for void. An image
    without a mask can be labelled by people alone (see `FolderOracle`). classes.txt: one name a line.
    A grey file in instances/ has its image's name and a value for each object, background being one too; where there is
    none, objects are the connected parts of a class.

    Args:
        root: The folder that holds all this.
        val_fraction: Share held out where there is no val folder, chosen by a hash of the name alone, so that it stays
            the same when images or masks are added and for every seed: drawing a queried unit's mask never moves its
            image out of the train split. An image that is held out and has no mask is in neither split until somebody
            draws one; the verb start says which these are.
        value_range: The values that become black and white in images of more than 8 bits (16-bit, 32-bit or
            floating-point grey), [0, 4095] say; without it such images are refused.
    """

    def __init__(self, root: str, val_fraction: float = 0.2, value_range: Sequence[float] | None = None) -> None:
        super().__init__(value_range)
        if not 0 <= val_fraction < 1:
            raise DataError(f"data.source.val_fraction is a share: expected 0 or more and below 1, got {val_fraction}")
        self.root = Path(root)
        self.val_fraction = val_fraction
        self._names: list[str] = []

    @property
    def class_names(self) -> Sequence[str]:
        if not self._names:
            self._names = read_class_names(self.root / "classes.txt")
        return self._names

    @property
    def classes_file(self) -> Path | None:
        return self.root / "classes.txt"

    def find(self, split: str) -> dict[str, ImageFile]:
        if not self._by_hash:
            folder = self.root / split
            return _paired(folder) if folder.is_dir() else {}
        found = _paired(self.root)
        if split == "test":
            return {}
        held_out = split == "val"
        return {n: f for n, f in found.items() if (uniform_for("val", n) < self.val_fraction) == held_out}

    def images(self, split: str) -> Sequence[str]:
        found = super().images(split)
        return [i for i in found if self.is_annotated(i)] if split == "val" and self._by_hash else found

    def undrawn(self) -> Sequence[str]:
        return [i for i in super().images("val") if not self.is_annotated(i)] if self._by_hash else ()

    def why_empty(self, split: str) -> str:
        if not self._by_hash:
            return f"add images and masks to {self.root / split}"
        return by_another_share([*self._split("train"), *self._split("val")], self.val_fraction, split)

    @property
    def _by_hash(self) -> bool:
        return not (self.root / "train").is_dir()


def _paired(folder: Path) -> dict[str, ImageFile]:
    files = pair_files(folder / "images", folder / "masks")
    known = find_files(folder / "instances") if (folder / "instances").is_dir() else {}
    return {name: replace(file, instances=known.get(name)) for name, file in files.items()} if known else files


def by_another_share(names: Collection[str], share: float, split: str) -> str:
    """Which `val_fraction` would put an image into a split that the hash of the names has left empty.

    Args:
        names: Of all images.
        share: The setting as it is.
        split: "train" or "val".

    Returns:
        What to do; "" where there is no image at all.
    """
    drawn = [uniform_for("val", name) for name in names]
    if not drawn:
        return ""
    # held out is what lies below the share
    other = (math.floor(min(drawn) * 100) + 1) / 100 if split == "val" else math.floor(max(drawn) * 100) / 100
    if not 0 <= other < 1:
        return "add images"
    of = "hold out" if split == "val" else "train on"
    return (
        f"a hash of the names says which of {len(drawn)} images are held out, and {share:g} leaves none to {of}: set "
        f"data.source.val_fraction to {other:g}, or add images"
    )


def pair_files(images: Path, masks: Path) -> dict[str, ImageFile]:
    """Images with the masks of the same name; a mask without an image is refused."""
    found = find_files(images)
    drawn: Mapping[str, Path] = find_files(masks) if masks.is_dir() else {}
    orphans = sorted(drawn.keys() - found.keys())
    if orphans:
        raise DataError(f"the mask {drawn[orphans[0]]} has no image of its name in {images}; rename or remove it")
    return {name: ImageFile(path, drawn.get(name)) for name, path in found.items()}
