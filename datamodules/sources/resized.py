"""Any data set of masks at another size."""

import numpy as np
from PIL import Image

from datamodules.sources.source import Source
from datamodules.sources.wrapper import SourceWrapper

__all__ = ["Resized"]


class Resized(SourceWrapper):
    """A data set whose images and masks are divided and learned at one size, for simulations: nobody has files of it.

    `data.image_size` resizes for the network alone, and single labelled pixels are lost there; here units, too, are
    parts of the resized images. Images are averaged over boxes, masks and instances taken at the nearest pixel.

    Args:
        source: The data set.
        height: Of every image, in pixels.
        width: The new width, in pixels.

    Raises:
        ValueError: If there is no pixel.
        DataError: If the data set has one class per image.
    """

    def __init__(self, source: Source, height: int, width: int) -> None:
        if min(height, width) < 1:
            raise ValueError(f"data.source Resized needs at least 1 x 1 pixels, got {height} x {width}")
        super().__init__(source)
        self.drawable = False
        self.height = height
        self.width = width

    def read_image(self, image_id: str) -> np.ndarray:
        return self._resized(super().read_image(image_id), Image.Resampling.BOX)

    def size(self, image_id: str) -> tuple[int, int]:
        return self.height, self.width

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._resized(super().read_annotation(image_id, draw), Image.Resampling.NEAREST)

    def read_instances(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._resized(super().read_instances(image_id, draw), Image.Resampling.NEAREST)

    def _resized(self, pixels: np.ndarray, how: Image.Resampling) -> np.ndarray:
        return np.asarray(Image.fromarray(pixels).resize((self.width, self.height), how))
