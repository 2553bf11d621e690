"""How an image falls into units: regions that are queried, labelled and paid one by one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from acquisition.identity import Described
from acquisition.seeding import generator_for
from datamodules.files import DataError
from datamodules.sources.source import Source
from records.run_directory import RunDirectory

__all__ = ["Grid", "Partition", "Points", "RandomCrops", "Region", "WholeImages"]


@dataclass(frozen=True, slots=True)
class Region:
    """A unit of an image.

    Args:
        unit_id: Stable, and the same for nothing else in the data set.
        pixels: How many it has.
        box: Its bounding box: row and column of its upper left pixel, height and width.
    """

    unit_id: str
    pixels: int
    box: tuple[int, int, int, int]


class Partition(Described, ABC):
    """Divides images into units; no pixel is in two of them."""

    survives_resizing: bool = True
    """Whether the units of a resized image are still there."""

    def prepare(self, source: Source, image_ids: Sequence[str], run: RunDirectory) -> None:
        """Do once what takes long; called in every process before its first question about units.

        Args:
            source: The data set.
            image_ids: The images that will be asked about.
            run: Where to leave it for the next process.
        """

    @abstractmethod
    def regions(self, source: Source, image_id: str) -> list[Region]:
        """The units of an image, in the order of its index map."""

    @abstractmethod
    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        """Which unit each pixel belongs to.

        Returns:
            H x W, int32, of the image's own size: k where the pixel belongs to unit number k, -1 where to none. Or
            1 x 1, which stands for as many pixels as the image has.
        """

    def unit_ids(self, source: Source, image_id: str) -> list[str]:
        """Ids of the units of an image, in the order of its index map."""
        return [region.unit_id for region in self.regions(source, image_id)]


class WholeImages(Partition):
    """Every image is one unit, whose id is the image's."""

    def regions(self, source: Source, image_id: str) -> list[Region]:
        height, width = source.size(image_id)
        return [Region(image_id, height * width, (0, 0, height, width))]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        return np.zeros((1, 1), dtype=np.int32)

    def unit_ids(self, source: Source, image_id: str) -> list[str]:
        # no file has to be opened for it
        return [image_id]


class Grid(Partition):
    """Cells of one size, row by row from the upper left corner; those at the lower and right edge may be smaller.

    Ids are IMAGE_ID#crop=ROW,COLUMN,HEIGHT,WIDTH, with the cell's upper left pixel.

    Args:
        height: Of a cell, in pixels of the image as annotators see it.
        width: The same across, in pixels.

    Raises:
        ValueError: If a cell has no pixel.
    """

    def __init__(self, height: int, width: int) -> None:
        _check_at_least_one("a cell of data.partition Grid", height, width)
        self.height = height
        self.width = width

    def regions(self, source: Source, image_id: str) -> list[Region]:
        return [
            Region(f"{image_id}#crop={y},{x},{h},{w}", h * w, (y, x, h, w))
            for y, x, h, w in _cells(*_size(self, source, image_id), self.height, self.width)
        ]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        height, width = _size(self, source, image_id)
        rows, columns = np.arange(height) // self.height, np.arange(width) // self.width
        return (rows[:, None] * -(-width // self.width) + columns).astype(np.int32)


class RandomCrops(Partition):
    """Crops of one size at uniformly random places, none of which overlap; the rest of an image is in no unit.

    They are drawn from seed and image id alone. Ids are IMAGE_ID#crop=ROW,COLUMN,HEIGHT,WIDTH, in reading order.

    Args:
        height: Of a crop, in pixels of the image as annotators see it.
        width: The same across, in pixels.
        per_image: How many crops an image has.
        seed: Which ones; the run's own seed does not change them.

    Raises:
        ValueError: If a crop has no pixel, or an image has none.
    """

    def __init__(self, height: int, width: int, per_image: int = 1, seed: int = 0) -> None:
        _check_at_least_one("a crop of data.partition RandomCrops", height, width)
        if per_image < 1:
            raise ValueError(f"data.partition.per_image must be at least 1 crop, got {per_image}")
        self.height = height
        self.width = width
        self.per_image = per_image
        self.seed = seed

    def regions(self, source: Source, image_id: str) -> list[Region]:
        h, w = self.height, self.width
        return [
            Region(f"{image_id}#crop={y},{x},{h},{w}", h * w, (y, x, h, w))
            for y, x in self._corners(image_id, *_size(self, source, image_id))
        ]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        size = _size(self, source, image_id)
        index = np.full(size, -1, dtype=np.int32)
        for k, (y, x) in enumerate(self._corners(image_id, *size)):
            index[y : y + self.height, x : x + self.width] = k
        return index

    def _corners(self, image_id: str, height: int, width: int) -> list[tuple[int, int]]:
        corners = _random_corners(height, width, self.height, self.width, self.per_image, self.seed, image_id)
        if len(corners) < self.per_image:
            raise DataError(
                f"expected room for {self.per_image} crops of data.partition RandomCrops that do not overlap, got "
                f"{image_id!r} of {height} x {width} where only {len(corners)} of {self.height} x {self.width} were "
                "placed; choose a lower per_image or smaller crops"
            )
        return corners


class Points(Partition):
    """Single pixels, each of which is labelled by one click; the pixels between them are in no unit.

    There is one at a random place of every cell of a grid, drawn from seed and image id alone: few enough for a ledger,
    and close enough together that a network is about as uncertain at one of them as at its most uncertain pixel. Shin
    et al. 2021, "All you need are a few pixels", query 10 pixels of every image: that is
    `acquisition.limits.AtMostPerImage` with count 10. `acquisition.limits.FarApart` keeps them apart. Ids are
    IMAGE_ID#point=ROW,COLUMN, row by row of cells.

    Args:
        spacing: Height and width of a cell, in pixels of the image as annotators see it.
        seed: Which ones; the run's own seed does not change them.

    Raises:
        ValueError: If a cell has no pixel.
    """

    survives_resizing = False

    def __init__(self, spacing: int = 8, seed: int = 0) -> None:
        _check_at_least_one("a cell of data.partition Points", spacing, spacing)
        self.spacing = spacing
        self.seed = seed

    def regions(self, source: Source, image_id: str) -> list[Region]:
        rows, columns = self._places(source, image_id)
        return [
            Region(f"{image_id}#point={y},{x}", 1, (y, x, 1, 1))
            for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
        ]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        index = np.full(source.size(image_id), -1, dtype=np.int32)
        rows, columns = self._places(source, image_id)
        index[rows, columns] = np.arange(len(rows))
        return index

    def _places(self, source: Source, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        return _points(*source.size(image_id), self.spacing, self.seed, image_id)


def _check_at_least_one(what: str, height: int, width: int) -> None:
    if min(height, width) < 1:
        raise ValueError(f"{what} has at least 1 x 1 pixels, got {height} x {width}")


def _size(partition: Grid | RandomCrops, source: Source, image_id: str) -> tuple[int, int]:
    height, width = source.size(image_id)
    if partition.height > height or partition.width > width:
        what = "cells" if isinstance(partition, Grid) else "crops"
        raise DataError(
            f"expected {what} of data.partition {type(partition).__name__} no larger than the images, got "
            f"{partition.height} x {partition.width} where {image_id!r} has {height} x {width}; choose smaller {what}"
        )
    return height, width


@lru_cache(maxsize=1024)
def _cells(height: int, width: int, cell_height: int, cell_width: int) -> list[tuple[int, int, int, int]]:
    return [
        (y, x, min(cell_height, height - y), min(cell_width, width - x))
        for y in range(0, height, cell_height)
        for x in range(0, width, cell_width)
    ]


@lru_cache(maxsize=4096)
def _points(height: int, width: int, spacing: int, seed: int, image_id: str) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each point, cell by cell."""
    boxes = torch.tensor(_cells(height, width, spacing, spacing))
    corners, sizes = boxes[:, :2], boxes[:, 2:]
    shares = torch.rand(boxes.shape[0], 2, generator=generator_for(seed, "points", image_id), dtype=torch.float64)
    rows, columns = (corners + (shares * sizes).long()).numpy().T
    return rows, columns


@lru_cache(maxsize=4096)
def _random_corners(
    height: int, width: int, crop_height: int, crop_width: int, count: int, seed: int, image_id: str
) -> list[tuple[int, int]]:
    """Upper left pixels of crops in reading order; fewer where no free place is found."""
    generator = generator_for(seed, "crops", image_id)
    found: list[tuple[int, int]] = []
    while len(found) < count:
        # of so many places one is free, or few enough are that people had better choose other crops
        tries = 1 if not found else 4096
        y = torch.randint(height - crop_height + 1, (tries,), generator=generator)
        x = torch.randint(width - crop_width + 1, (tries,), generator=generator)
        free = torch.ones(tries, dtype=torch.bool)
        for other_y, other_x in found:
            free &= ((y - other_y).abs() >= crop_height) | ((x - other_x).abs() >= crop_width)
        if not free.any():
            break
        first = int(free.int().argmax())
        found.append((int(y[first]), int(x[first])))
    return sorted(found)
