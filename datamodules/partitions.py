"""How an image falls into units: regions that are queried, labelled and paid one by one."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from acquisition.identity import Described
from datamodules.files import DataError
from datamodules.sources.source import Source

__all__ = ["Grid", "Partition", "Region", "WholeImages"]


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
        width: The same.

    Raises:
        ValueError: If a cell has no pixel.
    """

    def __init__(self, height: int, width: int) -> None:
        if min(height, width) < 1:
            raise ValueError(f"a cell of data.partition Grid has at least 1 x 1 pixels, got {height} x {width}")
        self.height = height
        self.width = width

    def regions(self, source: Source, image_id: str) -> list[Region]:
        return [
            Region(f"{image_id}#crop={y},{x},{h},{w}", h * w, (y, x, h, w))
            for y, x, h, w in _cells(*self._size(source, image_id), self.height, self.width)
        ]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        height, width = self._size(source, image_id)
        rows, columns = np.arange(height) // self.height, np.arange(width) // self.width
        return (rows[:, None] * -(-width // self.width) + columns).astype(np.int32)

    def _size(self, source: Source, image_id: str) -> tuple[int, int]:
        height, width = source.size(image_id)
        if self.height > height or self.width > width:
            raise DataError(
                f"expected cells of data.partition Grid no larger than the images, got {self.height} x {self.width} "
                f"where {image_id!r} has {height} x {width}; choose smaller cells"
            )
        return height, width


@lru_cache(maxsize=1024)
def _cells(height: int, width: int, cell_height: int, cell_width: int) -> list[tuple[int, int, int, int]]:
    return [
        (y, x, min(cell_height, height - y), min(cell_width, width - x))
        for y in range(0, height, cell_height)
        for x in range(0, width, cell_width)
    ]
