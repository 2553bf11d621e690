"""Any data set of masks at another size."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datamodules.files import DataError
from datamodules.sources.source import Source

__all__ = ["Resized"]


class Resized(Source):
    """A data set whose images and masks are divided and learned at one size, for simulations: nobody has files of it.

    `data.image_size` resizes for the network alone, and single labelled pixels are lost there; here units, too, are
    parts of the resized images. Images are averaged over boxes, masks and instances taken at the nearest pixel.

    Args:
        source: The data set.
        height: Of every image, in pixels.
        width: The same.

    Raises:
        ValueError: If there is no pixel.
        DataError: If the data set has one class per image.
    """

    drawable = False

    def __init__(self, source: Source, height: int, width: int) -> None:
        if min(height, width) < 1:
            raise ValueError(f"data.source Resized needs at least 1 x 1 pixels, got {height} x {width}")
        if source.target != "mask":
            raise DataError(
                f"data.source Resized resizes masks, but {type(source).__name__} has one class per image; "
                "take it as it is"
            )
        self.source = source
        self.height = height
        self.width = width

    @property
    def class_names(self) -> Sequence[str]:
        return self.source.class_names

    def images(self, split: str) -> Sequence[str]:
        return self.source.images(split)

    def read_image(self, image_id: str) -> np.ndarray:
        return self._resized(self.source.read_image(image_id), Image.Resampling.BOX)

    def size(self, image_id: str) -> tuple[int, int]:
        return self.height, self.width

    def path(self, image_id: str) -> Path | None:
        return self.source.path(image_id)

    def is_annotated(self, image_id: str) -> bool:
        return self.source.is_annotated(image_id)

    def annotation_path(self, image_id: str) -> Path | None:
        return self.source.annotation_path(image_id)

    def annotation_files(self, image_id: str) -> Sequence[Path]:
        return self.source.annotation_files(image_id)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._resized(self.source.read_annotation(image_id, draw), Image.Resampling.NEAREST)

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        return self.source.drawn_by(image_id, draw)

    def read_instances(self, image_id: str) -> np.ndarray:
        return self._resized(self.source.read_instances(image_id), Image.Resampling.NEAREST)

    def check(self) -> None:
        self.source.check()

    def prepare(self) -> None:
        self.source.prepare()

    def _resized(self, pixels: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize((self.width, self.height), how))
