"""The units of a data set: which there are, of which image each is a region, and where."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from acquisition.regions import Regions
from datamodules.files import DataError
from datamodules.partitions import Partition, Region
from datamodules.sources.source import Source
from records.run_directory import RunDirectory

__all__ = ["Units", "nothing_in"]


def nothing_in(source: Source, split: str) -> DataError:
    """What is raised where a split has no image.

    Args:
        source: The data set.
        split: "train" or "val".
    """
    remedy = source.why_empty(split)
    return DataError(
        f"expected at least one image in the {split} split of {type(source).__name__}, got none"
        f"{f'; {remedy}' if remedy else ''}"
    )


class Units:
    """The train split of a data set as units, found when first asked for.

    Args:
        source: The data set.
        partition: What the units of its images are.
        run_dir: Where the partition leaves what takes long to find out.
    """

    def __init__(self, source: Source, partition: Partition, run_dir: Path) -> None:
        self.source = source
        self.partition = partition
        self.run_dir = run_dir
        self._splits: dict[str, list[str]] = {}
        self._regions: tuple[str, list[Region]] = ("", [])  # of the image that was asked for last

    def images(self, split: str) -> list[str]:
        """Ids of the images of "train", "val" or "test".

        Raises:
            DataError: If there are none, unless it is the test split.
        """
        if split not in self._splits:
            found = list(self.source.images(split))
            if not found and split != "test":
                raise nothing_in(self.source, split)
            self._splits[split] = found
        return self._splits[split]

    @cached_property
    def of_image(self) -> Mapping[str, list[str]]:
        """Ids of the units of every image, in the order of its index map."""
        images = self.images("train")
        self.partition.prepare(self.source, images, RunDirectory(self.run_dir))
        return {image_id: self.partition.unit_ids(self.source, image_id) for image_id in images}

    @cached_property
    def location(self) -> Mapping[str, tuple[str, int]]:
        """Image, and number in its index map, of every unit."""
        return {unit_id: (image_id, k) for image_id, units in self.of_image.items() for k, unit_id in enumerate(units)}

    @cached_property
    def ids(self) -> Sequence[str]:
        """Ids of all units, sorted."""
        return sorted(self.location)

    def image_of(self, unit_id: str) -> str:
        """Id of the image that a unit is part of."""
        return self.location[unit_id][0]

    def images_of(self, unit_ids: Iterable[str]) -> list[str]:
        """Ids of the images that units are part of, each once, in their order."""
        return list(dict.fromkeys(self.location[unit_id][0] for unit_id in unit_ids))

    def regions_of(self, unit_ids: Sequence[str]) -> list[Region]:
        """Pixels and box of each unit, as annotators see the image; a look at every file, for its size."""
        found: dict[str, Region] = {}
        # image by image
        for unit_id in sorted(unit_ids, key=self.location.__getitem__):
            image_id, k = self.location[unit_id]
            found[unit_id] = self._in_image(image_id)[k]
        return [found[unit_id] for unit_id in unit_ids]

    def centres_of(self, unit_ids: Sequence[str]) -> list[tuple[float, float]]:
        """Centres (y, x) of units' bounding boxes, in pixels of the image as annotators see it."""
        boxes = (region.box for region in self.regions_of(unit_ids))
        return [(row + height / 2, column + width / 2) for row, column, height, width in boxes]

    def pixels(self, unit_ids: Sequence[str]) -> list[int]:
        """How many pixels each unit has, as annotators see the image."""
        return [region.pixels for region in self.regions_of(unit_ids)]

    def index_map(self, image_id: str, shape: tuple[int, ...]) -> np.ndarray:
        """An image's index map, H x W int32, for a mask of a shape."""
        return np.broadcast_to(self.partition.index_map(self.source, image_id), shape)

    def regions(self, image_ids: Sequence[str], index: Tensor, asked: Collection[str]) -> Regions:
        """The units of a batch of images that are asked for, as a scorer wants them.

        Args:
            image_ids: N images.
            index: N x H x W (or N x 1 x 1), each image's index map, of any size.
            asked: Ids of units.
        """
        asked = asked if isinstance(asked, AbstractSet) else set(asked)
        whole = index.shape[1:] == (1, 1)
        unit_ids: list[str] = []
        places: list[tuple[float, float, float]] = []
        # -1 is the last column, which stays -1
        position = torch.full((len(image_ids), 1 + max(len(self.of_image[i]) for i in image_ids)), -1)
        for number, image_id in enumerate(image_ids):
            wanted = [k for k, unit_id in enumerate(self.of_image[image_id]) if unit_id in asked]
            position[number, wanted] = torch.arange(len(unit_ids), len(unit_ids) + len(wanted))
            unit_ids += [self.of_image[image_id][k] for k in wanted]
            places += [(number, *centre) for centre in self._centres(image_id, wanted, whole)]
        numbers = torch.arange(len(image_ids))[:, None, None]
        return Regions(
            list(image_ids),
            unit_ids,
            position[numbers, index.long()],
            torch.tensor(places, dtype=torch.float64).view(-1, 3),
        )

    def _centres(self, image_id: str, wanted: Sequence[int], whole: bool) -> list[tuple[float, float]]:
        if whole or not wanted:
            # no file has to be opened for it
            return [(0.5, 0.5)] * len(wanted)
        height, width = self.source.size(image_id)
        boxes = [region.box for region in self._in_image(image_id)]
        return [((boxes[k][0] + boxes[k][2] / 2) / height, (boxes[k][1] + boxes[k][3] / 2) / width) for k in wanted]

    def _in_image(self, image_id: str) -> list[Region]:
        if self._regions[0] != image_id:
            self._regions = image_id, self.partition.regions(self.source, image_id)
        return self._regions[1]
