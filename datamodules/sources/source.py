"""What a data set is."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np

from acquisition.annotation import VOID
from acquisition.identity import Described
from datamodules.annotations import AnnotationSource
from datamodules.files import DataError, image_size, read_image, read_instances, read_mask
from datamodules.mask_values import MaskValues

__all__ = ["FileSource", "ImageFile", "Source", "check_value_range"]


class Source(Described, AnnotationSource, ABC):
    """A data set: images with stable ids, and its own annotations of them, the truth of a simulation.

    It knows no Lightning and no ledger, and travels to a loader's processes. A new one gives `class_names`, `images`,
    `read_image` and `read_annotation`; what is not told otherwise is found out by reading.
    """

    target: ClassVar[Literal["mask", "label"]] = "mask"
    """What an annotation is, and what batches call it: a mask per image, or one class."""

    flip: float = 0.5
    """Probability of a horizontal flip in training, unless the data module is told another."""

    drawable: bool = True
    """Whether people have the images as they are read here, and can draw on them."""

    @property
    @abstractmethod
    def class_names(self) -> Sequence[str]:
        """Names of the classes 0, 1, ..."""

    @abstractmethod
    def images(self, split: str) -> Sequence[str]:
        """Ids of the images of "train", "val" or "test"; empty where there is no such split.

        An id is a name that stays when other images come and go, never a position.
        """

    def undrawn(self) -> Sequence[str]:
        """Ids of images that are kept for validation, but that the data set has no annotation of.

        They are in no split until somebody has drawn them: see `Pool.images`.
        """
        return ()

    def why_empty(self, split: str) -> str:
        """What to do about a split without an image, for an error; "" where nothing is known to help.

        Args:
            split: "train" or "val".
        """
        return ""

    @abstractmethod
    def read_image(self, image_id: str) -> np.ndarray:
        """H x W x 3, uint8."""

    def size(self, image_id: str) -> tuple[int, int]:
        """Height and width of an image as annotators see it, before any resizing."""
        height, width = self.read_image(image_id).shape[:2]
        return height, width

    def path(self, image_id: str) -> Path | None:
        """The image's file, where there is one."""
        return None

    def read_instances(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        """Which object each pixel belongs to, H x W int32, and -1 where to none.

        Where a data set has no instances: the connected parts of each class of the annotation.

        Args:
            image_id: The image.
            draw: As in `read_annotation`, whose objects these are.
        """
        from skimage.measure import label  # few runs need it, and it takes long to import

        mask = self.read_annotation(image_id, draw).astype(np.int32)
        # each class by itself, and void as background
        components: np.ndarray = label(np.where(mask == VOID, 0, mask + 1), background=0, connectivity=2)
        return components.astype(np.int32) - 1

    @property
    def mask_values(self) -> MaskValues | None:
        """Which value of a mask's file is which class, where `data.mask_values` says so."""
        return None

    @property
    def has_plain_masks(self) -> bool:
        """Whether masks are files whose values are class indices as they stand, or what `mask_values` says."""
        return False

    @property
    def classes_file(self) -> Path | None:
        """Where people have listed the classes, if they have."""
        return None

    def with_mask_values(self, mapping: Mapping[Any, int | str]) -> Self:
        """The same data set, with values of its mask files that stand for classes.

        Args:
            mapping: As of `datamodules.mask_values.MaskValues`.

        Raises:
            DataError: If its masks are no files with values that somebody could name.
        """
        raise DataError(
            "data.mask_values says what the values of mask files are, and data.source "
            f"{type(self).__name__} knows that of its own or has no such files; leave it out"
        )

    def check(self) -> None:
        """Refuse a data set of which nothing can be learned; called before the first fit."""

    def prepare(self) -> None:
        """Do once what takes long; called in every process before its loaders' workers get a copy of the source."""

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return len(self.class_names)


_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image's file, and its mask's file or its class where there is one; with a mask, the file of its instances."""

    image: Path
    mask: Path | None = None
    label: int | None = None
    instances: Path | None = None


class FileSource(Source, ABC):
    """Images, and masks where they are drawn, in files: a data set gives `class_names` and `find`.

    Ids are the names that `find` gives; an image of the validation or test split that has the name of one in a split
    before is called SPLIT/NAME.

    Args:
        value_range: The values that become black and white in images of more than 8 bits (16-bit, 32-bit or
            floating-point grey), [0, 4095] say; without it such images are refused.
    """

    def __init__(self, value_range: Sequence[float] | None = None) -> None:
        check_value_range(value_range)
        self.value_range = value_range
        self._found: dict[str, dict[str, ImageFile]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._mask_values: MaskValues | None = None

    @abstractmethod
    def find(self, split: str) -> dict[str, ImageFile]:
        """The files of "train", "val" or "test" by image id; empty where there is no such split."""

    def images(self, split: str) -> Sequence[str]:
        return list(self._split(split))

    def read_image(self, image_id: str) -> np.ndarray:
        image = read_image(self.file(image_id).image, self.value_range)
        self._sizes[image_id] = image.shape[0], image.shape[1]
        return image

    def size(self, image_id: str) -> tuple[int, int]:
        # an image's units ask for it one after another
        if image_id not in self._sizes:
            self._sizes[image_id] = image_size(self.file(image_id).image)
        return self._sizes[image_id]

    def path(self, image_id: str) -> Path | None:
        return self.file(image_id).image

    def is_annotated(self, image_id: str) -> bool:
        return self.file(image_id).mask is not None

    def annotation_path(self, image_id: str) -> Path | None:
        return self.file(image_id).mask

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        path = self.file(image_id).mask
        if path is None:
            raise DataError(f"the image {image_id!r} has no mask; draw it, or take the image out of the labelled split")
        return self._mask_values.read(path) if self._mask_values else read_mask(path)

    @property
    def mask_values(self) -> MaskValues | None:
        return self._mask_values

    @property
    def has_plain_masks(self) -> bool:
        # a data set that reads masks in its own way knows its own values
        return self.target == "mask" and type(self).read_annotation is FileSource.read_annotation

    def with_mask_values(self, mapping: Mapping[Any, int | str]) -> Self:
        if not self.has_plain_masks:
            return super().with_mask_values(mapping)
        other = copy.copy(self)
        other._mask_values = MaskValues(mapping, self.class_names)
        return other

    def read_instances(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        """The file of instances where there is one: a value for each object; void belongs to none."""
        path = self.file(image_id).instances
        if path is None:
            return super().read_instances(image_id, draw)
        instances, annotation = read_instances(path), self.read_annotation(image_id, draw)
        if instances.shape != annotation.shape:
            raise DataError(
                f"expected instances of the image's size {annotation.shape[0]} x {annotation.shape[1]} in {path}, got "
                f"{instances.shape[0]} x {instances.shape[1]}; put the right file there"
            )
        return np.where(annotation == VOID, -1, instances).astype(np.int32)

    def file(self, image_id: str) -> ImageFile:
        """An image's files."""
        for split in _SPLITS:
            if image_id in self._split(split):
                return self._split(split)[image_id]
        raise DataError(f"{type(self).__name__} has no image {image_id!r}; check the id and data.source.root")

    def _split(self, split: str) -> dict[str, ImageFile]:
        """The files of a split; an image with the name of one in a split before is called SPLIT/NAME."""
        if split not in self._found:
            before = {name for other in _SPLITS[: _SPLITS.index(split)] for name in self._split(other)}
            found = self.find(split)
            named = {f"{split}/{name}" if name in before else name: file for name, file in found.items()}
            if len(named) < len(found) or before & named.keys():
                twice = next(n for n in (f"{split}/{name}" for name in found) if n in before or n in found)
                raise DataError(
                    f"two images are called {twice}: {named[twice].image} and one of a split before or beside it; "
                    "rename one of them"
                )
            self._found[split] = named
        return self._found[split]


def check_value_range(value_range: Sequence[float] | None) -> None:
    """Refuse a setting that does not say which values are black and white."""
    if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
        raise ValueError(
            f"data.source.value_range must be two values, black and then white, such as [0, 4095], got {value_range}"
        )
