"""A folder of images with a folder of masks for each annotator."""

import copy
import logging
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from acquisition.annotation import VOID
from datamodules.checks import check_mask
from datamodules.files import DataError, find_files, image_size, read_image, read_mask
from datamodules.mask_values import MaskValues
from datamodules.sources.several_annotators import SeveralAnnotators
from datamodules.sources.source import check_value_range
from datamodules.texts import read_class_names

__all__ = ["MultiAnnotatorFolder"]

_log = logging.getLogger(__name__)

Drawings = dict[str, dict[str, Path]]
"""Mask files by annotator and image."""


class MultiAnnotatorFolder(SeveralAnnotators):
    """`images/NAME.png`, `masks/ANNOTATOR/NAME.png` and `classes.txt` (one name a line) below root.

    An annotator's folder holds masks of any subset of the images, under the images' names (sub-folders included).

    Args:
        root: The folder that holds all this.
        repeats: Folder below root that is laid out like `masks` and holds the same people's second drawings; a mask
            whose pixels equal the same person's first drawing is a copy, and is left out.
        foreground: The mask value of class 1 where masks have two values, 0 and this one; None where masks hold class
            indices, or 255 for void. `data.mask_values`, where it is set, is read in its place.
        value_range: The values that become black and white in images of more than 8 bits (16-bit, 32-bit or
            floating-point grey), [0, 4095] say; without it such images are refused.

    Raises:
        ValueError: If repeats is no folder's name, foreground no value, or value_range no range.
    """

    def __init__(
        self,
        root: str,
        repeats: str | None = None,
        foreground: int | None = 255,
        value_range: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_value_range(value_range)
        if repeats is not None and (Path(repeats).name != repeats or repeats in ("", "..")):
            raise ValueError(
                "data.source.repeats names a folder directly below data.source.root, such as masks_again, got "
                f"{repeats!r}"
            )
        if foreground is not None and not 1 <= foreground <= 255:
            raise ValueError(
                f"data.source.foreground must be from 1 to 255, or null for class indices, got {foreground}"
            )
        self.root = Path(root)
        self.second = repeats
        self.foreground = foreground
        self.value_range = value_range
        self._mask_values: MaskValues | None = None

    @cached_property
    def class_names(self) -> Sequence[str]:
        path = self.root / "classes.txt"
        names = read_class_names(path)
        if self.foreground is not None and self._mask_values is None and len(names) != 2:
            raise DataError(
                f"data.source.foreground {self.foreground} means masks of two classes, but {path} lists {len(names)}; "
                "set data.source.foreground to null if the masks hold class indices, or data.mask_values to what they "
                "hold"
            )
        return names

    @property
    def classes_file(self) -> Path | None:
        return self.root / "classes.txt"

    @property
    def mask_values(self) -> MaskValues | None:
        return self._mask_values

    @property
    def has_plain_masks(self) -> bool:
        return self.foreground is None or self._mask_values is not None

    def with_mask_values(self, mapping: Mapping[Any, int | str]) -> Self:
        other = copy.copy(self)
        other._mask_values = MaskValues(mapping, read_class_names(self.root / "classes.txt"))
        return other

    @property
    def annotators(self) -> list[str]:
        return list(self._drawings)

    def all_images(self) -> list[str]:
        return list(self._images)

    def read_image(self, image_id: str) -> np.ndarray:
        return read_image(self.path(image_id), self.value_range)

    def size(self, image_id: str) -> tuple[int, int]:
        return image_size(self.path(image_id))

    def path(self, image_id: str) -> Path:
        # files are only ever looked up among those found, so no id can name one outside the folder
        if image_id not in self._images:
            raise DataError(
                f"expected the id of an image in {self.root / 'images'}, such as {next(iter(self._images), 'NAME')!r}, "
                f"got {image_id!r}"
            )
        return self._images[image_id]

    def annotation_files(self, image_id: str) -> Sequence[Path]:
        return [drawn[image_id] for drawn in self._drawings.values() if image_id in drawn]

    def annotators_of(self, image_id: str) -> list[str]:
        self.path(image_id)
        return [a for a, drawn in self._drawings.items() if image_id in drawn]

    def read_drawing(self, image_id: str, annotator: str) -> np.ndarray:
        self.path(image_id)
        drawing = self._drawings.get(annotator, {}).get(image_id)
        if drawing is None:
            raise DataError(
                f"{annotator!r} has not drawn {image_id!r}; those who have: {', '.join(self.annotators_of(image_id))}"
            )
        return self._read(image_id, drawing)

    def repeats(self, image_id: str) -> dict[str, np.ndarray]:
        self.path(image_id)
        return {a: self._read(image_id, drawn[image_id]) for a, drawn in self._repeats.items() if image_id in drawn}

    @cached_property
    def _images(self) -> dict[str, Path]:
        return dict(sorted(find_files(self.root / "images").items()))

    @cached_property
    def _drawings(self) -> Drawings:
        drawings = self._find_drawings("masks")
        if len(drawings) < 2:
            raise DataError(
                f"expected the masks of at least two annotators below {self.root / 'masks'}, got "
                f"{', '.join(drawings) or 'none'}; variance needs two (datamodules.sources.folder.Folder does with one)"
            )
        return drawings

    @cached_property
    def _repeats(self) -> Drawings:
        if self.second is None:
            return {}
        again, copies = self._find_drawings(self.second), 0
        strangers = sorted(again.keys() - self._drawings.keys())
        if strangers:
            raise DataError(
                f"{self.root / self.second / strangers[0]} repeats nobody's masks; name it after one of "
                f"{', '.join(self.annotators)}"
            )
        for annotator, drawn in again.items():
            first = self._drawings[annotator]
            both = drawn.keys() & first.keys()
            same = [n for n in both if np.array_equal(self._decoded(drawn[n]), self._decoded(first[n]))]
            copies += len(same)
            again[annotator] = {n: path for n, path in drawn.items() if n not in same}
        if copies:
            _log.info(f"{copies} masks in {self.root / self.second} are copies of the first drawing: left out.")
        return again

    def _find_drawings(self, folder: str) -> Drawings:
        parent = self.root / folder
        if not parent.is_dir():
            raise DataError(
                f"expected a folder for each annotator in {parent}, got no such folder; check data.source.root"
            )
        people = sorted(p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
        drawings = {p.name: find_files(p) for p in people}
        for annotator, drawn in drawings.items():
            if not drawn:
                raise DataError(
                    f"the annotator folder {parent / annotator} has no mask; add masks or remove the folder"
                )
            strange = sorted(drawn.keys() - self._images.keys())
            if strange:
                close = get_close_matches(strange[0], self._images, n=1)
                hint = f" (there is {close[0]!r})" if close else ""
                raise DataError(
                    f"the mask {drawn[strange[0]]} has no image of its name in {self.root / 'images'}{hint}; rename or "
                    "remove it"
                )
        return drawings

    def _decoded(self, path: Path) -> np.ndarray:
        return self._mask_values.read(path) if self._mask_values else read_mask(path)

    def _read(self, image_id: str, path: Path) -> np.ndarray:
        mask = self._decoded(path)
        if self.foreground is not None and self._mask_values is None:
            wrong = (mask != 0) & (mask != self.foreground) & (mask != VOID)
            if wrong.any():
                raise DataError(
                    f"expected mask values 0 and {self.foreground} (data.source.foreground), got {mask[wrong].max()} "
                    f"in {path}; set data.source.foreground to null if masks hold class indices"
                )
            mask = np.where(mask == self.foreground, 1, mask).astype(np.uint8)
        check_mask(path, self.size(image_id), mask, self.num_classes)
        return mask
