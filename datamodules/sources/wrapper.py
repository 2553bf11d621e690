"""A data set seen through something."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from datamodules.files import DataError
from datamodules.mask_values import MaskValues
from datamodules.sources.source import Source

__all__ = ["SourceWrapper"]


class SourceWrapper(Source):
    """Another data set of masks, as it is: a subclass says what of it is different.

    Args:
        source: The data set.

    Raises:
        DataError: If it has one class per image.
    """

    def __init__(self, source: Source) -> None:
        if source.target != "mask":
            raise DataError(
                f"data.source {type(self).__name__} changes masks, but {type(source).__name__} has one class per "
                "image; take it as it is"
            )
        self.source = source
        self.flip = source.flip
        self.drawable = source.drawable

    @property
    def class_names(self) -> Sequence[str]:
        return self.source.class_names

    def images(self, split: str) -> Sequence[str]:
        return self.source.images(split)

    def undrawn(self) -> Sequence[str]:
        return self.source.undrawn()

    def why_empty(self, split: str) -> str:
        return self.source.why_empty(split)

    def read_image(self, image_id: str) -> np.ndarray:
        return self.source.read_image(image_id)

    def size(self, image_id: str) -> tuple[int, int]:
        return self.source.size(image_id)

    def path(self, image_id: str) -> Path | None:
        return self.source.path(image_id)

    def is_annotated(self, image_id: str) -> bool:
        return self.source.is_annotated(image_id)

    def annotation_path(self, image_id: str) -> Path | None:
        return self.source.annotation_path(image_id)

    def annotation_files(self, image_id: str) -> Sequence[Path]:
        return self.source.annotation_files(image_id)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self.source.read_annotation(image_id, draw)

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        return self.source.drawn_by(image_id, draw)

    def read_instances(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self.source.read_instances(image_id, draw)

    @property
    def mask_values(self) -> MaskValues | None:
        return self.source.mask_values

    @property
    def has_plain_masks(self) -> bool:
        return self.source.has_plain_masks

    @property
    def classes_file(self) -> Path | None:
        return self.source.classes_file

    def with_mask_values(self, mapping: Mapping[Any, int | str]) -> Self:
        """The same, of the data set behind it, whose classes are meant."""
        other = copy.copy(self)
        other.source = self.source.with_mask_values(mapping)
        return other

    def prepare(self) -> None:
        self.source.prepare()

    def check(self) -> None:
        self.source.check()
