"""Superpixels as units: parts of an image that follow its edges."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from skimage.color import rgb2gray
from skimage.filters import sobel
from skimage.segmentation import slic, watershed

from datamodules.files import DataError
from datamodules.label_maps import KeptMap, LabelMap, label_map, prepare, read_label_map, read_parts
from datamodules.partitions import Partition, Region
from datamodules.sources.source import Source
from records.run_directory import RunDirectory

__all__ = ["Superpixels"]

_COMPACTNESS = {"watershed": 0.001, "slic": 10.0}


class Superpixels(Partition):
    """Superpixels of the image at its full resolution, by scikit-image. Every pixel is in one.

    Ids are IMAGE_ID#sp=K: the labels that occur in the image, in ascending order and counted anew from 0. Their maps
    are made once, by all cores, and kept in the run directory (a study's runs share the study's).

    Args:
        count: About how many superpixels an image has; there may be a few less or more.
        method: "watershed" on the gradient of the grey image (Neubert & Protzel 2014, Compact watershed and preemptive
            SLIC), or "slic" (Achanta et al. 2012, SLIC superpixels).
        compactness: How much a superpixel's roundness counts against the image's edges; 0.001 for watershed and 10 for
            slic unless given.

    Raises:
        ValueError: If there are none, the method is another, or the compactness is negative (0 for slic).
    """

    def __init__(
        self,
        count: int = 100,
        method: Literal["watershed", "slic"] = "watershed",
        compactness: float | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"data.partition.count must be at least 1 superpixel, got {count}")
        if method not in _COMPACTNESS:
            raise ValueError(f"data.partition.method must be watershed or slic, got {method!r}")
        self.count = count
        self.method = method
        self.compactness = _COMPACTNESS[method] if compactness is None else compactness
        if self.compactness < 0 or (method == "slic" and self.compactness == 0):
            least = "above 0" if method == "slic" else "0 or more"
            raise ValueError(f"data.partition.compactness must be {least} for {method}, got {compactness}")
        self._kept: Mapping[str, KeptMap] = {}

    @property
    def parameters(self) -> str:
        """What a map depends on beside the image, as text."""
        return f"method {self.method}, count {self.count}, compactness {self.compactness:g}"

    def prepare(self, source: Source, image_ids: Sequence[str], run: RunDirectory) -> None:
        """Make the maps that are missing, and refuse images that have changed since theirs was made."""
        self._kept = prepare(source, image_ids, run, self.segment, self.parameters)

    def regions(self, source: Source, image_id: str) -> list[Region]:
        kept = self._kept.get(image_id)
        if kept is not None:
            pixels, boxes = read_parts(kept.path)
        else:
            made = self._map(source, image_id)
            pixels, boxes = made.pixels, made.boxes
        return [
            Region(f"{image_id}#sp={k}", count, (y, x, h, w))
            for k, (count, (y, x, h, w)) in enumerate(zip(pixels.tolist(), boxes.tolist(), strict=True))
        ]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        return self._map(source, image_id).index.astype(np.int32)

    def unit_ids(self, source: Source, image_id: str) -> list[str]:
        # no file has to be opened where the table says how many
        kept = self._kept.get(image_id)
        count = len(self._map(source, image_id).pixels) if kept is None else kept.units
        return [f"{image_id}#sp={k}" for k in range(count)]

    def segment(self, image: np.ndarray, image_id: str) -> np.ndarray:
        """Divide an image.

        Args:
            image: H x W x 3, uint8.
            image_id: Its id, for messages.

        Returns:
            H x W, integer labels.

        Raises:
            DataError: If it has fewer pixels than superpixels are asked for.
        """
        height, width = image.shape[:2]
        if self.count > height * width:
            raise DataError(
                f"expected images of more pixels than data.partition.count, {self.count}, got {image_id!r} of "
                f"{height} x {width}; choose a lower count"
            )
        if self.method == "slic":
            return slic(image, n_segments=self.count, compactness=self.compactness, start_label=0)
        return watershed(sobel(rgb2gray(image)), markers=self.count, compactness=self.compactness)

    def _map(self, source: Source, image_id: str) -> LabelMap:
        kept = self._kept.get(image_id)
        if kept is not None:
            return read_label_map(kept.path)
        # from Python, without a run directory
        return label_map(self.segment(source.read_image(image_id), image_id))
