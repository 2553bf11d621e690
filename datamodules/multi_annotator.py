"""A folder of images with a folder of masks for each annotator."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_info

from datamodules.datasets import check_mask
from datamodules.multi_annotator_pool import MultiAnnotatorPool
from datamodules.texts import read_class_names
from datamodules.units import VOID, DataError, Unit, find_files, image_size, read_mask

__all__ = ["MultiAnnotatorFolder", "MultiAnnotatorPool"]

Drawings = dict[str, dict[str, Path]]
"""Mask files by annotator and image."""


class MultiAnnotatorFolder(MultiAnnotatorPool):
    """`images/NAME.png`, `masks/ANNOTATOR/NAME.png` and `classes.txt` (one name a line) below root.

    An annotator's folder holds masks of any subset of the images, under the images' names (sub-folders included).

    foreground: the mask value of class 1 where masks have two values, 0 and this one; None where masks hold class
    indices, or 255 for void. repeats: folder below root that is laid out like `masks` and holds the same people's
    second drawings; a mask whose pixels equal the same person's first drawing is a copy, and is left out.
    The other arguments are those of `MultiAnnotatorPool`.
    """

    def __init__(self, root: str, repeats: str | None = None, foreground: int | None = 255, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if repeats is not None and (Path(repeats).name != repeats or repeats in ("", "..")):
            raise ValueError(
                f"data.repeats names a folder directly below data.root, such as masks_again, got {repeats!r}"
            )
        if foreground is not None and not 1 <= foreground <= 255:
            raise ValueError(f"data.foreground must be from 1 to 255, or null for class indices, got {foreground}")
        self.root = Path(root)
        self.repeats = repeats
        self.foreground = foreground

    @cached_property
    def class_names(self) -> Sequence[str]:
        path = self.root / "classes.txt"
        names = read_class_names(path)
        if self.foreground is not None and len(names) != 2:
            raise DataError(
                f"data.foreground {self.foreground} means masks of two classes, but {path} lists {len(names)}; set "
                "data.foreground to null if the masks hold class indices"
            )
        return names

    @property
    def annotators(self) -> list[str]:
        return list(self._drawings)

    def images(self) -> list[Unit]:
        return list(self._images.values())

    def annotators_of(self, unit_id: str) -> list[str]:
        self._check_image(unit_id)
        return [a for a, drawn in self._drawings.items() if unit_id in drawn]

    def read_annotation(self, unit_id: str, annotator: str) -> np.ndarray:
        self._check_image(unit_id)
        path = self._drawings.get(annotator, {}).get(unit_id)
        if path is None:
            raise DataError(
                f"{annotator!r} has not drawn {unit_id!r}; those who have: {', '.join(self.annotators_of(unit_id))}"
            )
        return self._read(unit_id, path)

    def read_repeats(self, unit_id: str) -> dict[str, np.ndarray]:
        self._check_image(unit_id)
        return {a: self._read(unit_id, drawn[unit_id]) for a, drawn in self._repeats.items() if unit_id in drawn}

    @cached_property
    def _images(self) -> dict[str, Unit]:
        found = find_files(self.root / "images")
        return {name: Unit(name, found[name]) for name in sorted(found)}

    @cached_property
    def _drawings(self) -> Drawings:
        drawings = self._find_drawings("masks")
        if len(drawings) < 2:
            raise DataError(
                f"expected the masks of at least two annotators below {self.root / 'masks'}, got "
                f"{', '.join(drawings) or 'none'}; variance needs two (datamodules.folder.Folder does with one)"
            )
        return drawings

    @cached_property
    def _repeats(self) -> Drawings:
        if self.repeats is None:
            return {}
        again, copies = self._find_drawings(self.repeats), 0
        strangers = sorted(again.keys() - self._drawings.keys())
        if strangers:
            raise DataError(
                f"{self.root / self.repeats / strangers[0]} repeats nobody's masks; name it after one of "
                f"{', '.join(self.annotators)}"
            )
        for annotator, drawn in again.items():
            first = self._drawings[annotator]
            same = [n for n in drawn.keys() & first.keys() if np.array_equal(read_mask(drawn[n]), read_mask(first[n]))]
            copies += len(same)
            again[annotator] = {n: path for n, path in drawn.items() if n not in same}
        if copies:
            rank_zero_info(f"{copies} masks in {self.root / self.repeats} are copies of the first drawing: left out.")
        return again

    def _find_drawings(self, folder: str) -> Drawings:
        place = self.root / folder
        if not place.is_dir():
            raise DataError(f"expected a folder for each annotator in {place}, got no such folder; check data.root")
        people = sorted(p for p in place.iterdir() if p.is_dir() and not p.name.startswith("."))
        drawings = {p.name: find_files(p) for p in people}
        for annotator, drawn in drawings.items():
            if not drawn:
                raise DataError(f"the annotator folder {place / annotator} has no mask; add masks or remove the folder")
            strange = sorted(drawn.keys() - self._images.keys())
            if strange:
                close = get_close_matches(strange[0], self._images, n=1)
                hint = f" (there is {close[0]!r})" if close else ""
                raise DataError(
                    f"the mask {drawn[strange[0]]} has no image of its name in {self.root / 'images'}{hint}; rename or "
                    "remove it"
                )
        return drawings

    def _check_image(self, unit_id: str) -> None:
        # files are only ever looked up among those found, so no id can name one outside the folder
        if unit_id not in self._images:
            raise DataError(
                f"expected the id of an image in {self.root / 'images'}, such as {next(iter(self._images), 'NAME')!r}, "
                f"got {unit_id!r}"
            )

    def _read(self, unit_id: str, path: Path) -> np.ndarray:
        mask = read_mask(path)
        if self.foreground is not None:
            wrong = (mask != 0) & (mask != self.foreground) & (mask != VOID)
            if wrong.any():
                raise DataError(
                    f"expected mask values 0 and {self.foreground} (data.foreground), got {mask[wrong].max()} in "
                    f"{path}; set data.foreground to null if masks hold class indices"
                )
            mask = np.where(mask == self.foreground, 1, mask).astype(np.uint8)
        image = self._images[unit_id].image
        assert image is not None
        # the size is all that is looked at
        check_mask(Unit(unit_id, image, path), np.empty(image_size(image)), mask, self.num_classes)
        return mask
