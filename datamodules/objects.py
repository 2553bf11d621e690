"""Objects that are drawn completely where a queried unit touches them."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from scipy.ndimage import find_objects

from acquisition.annotation import VOID
from datamodules.annotations import AnnotationSource
from datamodules.files import DataError
from datamodules.partitions import Partition
from datamodules.sources.source import Source

__all__ = ["DrawnObjects", "LabelledObjects"]


class DrawnObjects:
    """The objects of one image that have been drawn, unit by unit.

    Args:
        source: The data set.
        partition: The units of its images.
        image_id: The image.

    Raises:
        DataError: If the image's instances are not of its size.
    """

    def __init__(self, source: Source, partition: Partition, image_id: str) -> None:
        self.instances = source.read_instances(image_id)
        if self.instances.shape != source.size(image_id):
            raise DataError(
                f"expected the instances of {image_id!r} to be of its size {source.size(image_id)}, got "
                f"{self.instances.shape}; correct the data set's instances"
            )
        self._index = np.broadcast_to(partition.index_map(source, image_id), self.instances.shape)
        self._drawn: set[int] = set()

    def add(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """Draw the objects that units overlap.

        Args:
            numbers: Of units, in the image's index map.

        Returns:
            The pixels of each new object, bool, cut out along its bounding box.
        """
        new = set(np.unique(self.instances[np.isin(self._index, numbers)]).tolist()) - self._drawn - {-1}
        self._drawn |= new
        return [self.instances[self._boxes[number]] == number for number in sorted(new)]

    @cached_property
    def _boxes(self) -> Sequence[tuple[slice, slice]]:
        return find_objects(self.instances + 1)

    @property
    def pixels(self) -> np.ndarray:
        """H x W booleans: whether a pixel belongs to an object that has been drawn."""
        drawn: np.ndarray = np.isin(self.instances, list(self._drawn))
        return drawn


class LabelledObjects(AnnotationSource):
    """What trains where whole objects are drawn: those that a labelled unit overlaps; `VOID` elsewhere.

    Args:
        annotations: Who says what the objects are.
        source: The data set.
        partition: The units of its images.
        labelled: Which units of an image are labelled, as their positions in the image's index map.
    """

    def __init__(
        self,
        annotations: AnnotationSource,
        source: Source,
        partition: Partition,
        labelled: Mapping[str, Sequence[int]],
    ) -> None:
        self.annotations = annotations
        self.source = source
        self.partition = partition
        self.labelled = labelled

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        return self.annotations.drawn_by(image_id, draw)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        drawn = DrawnObjects(self.source, self.partition, image_id)
        drawn.add(self.labelled[image_id])
        annotation = self.annotations.read_annotation(image_id, draw)
        return np.where(drawn.pixels, annotation, VOID).astype(np.uint8)
