"""Pictures of units in layers of one size, that can be put on top of each other: image, classes, values, outline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from acquisition.annotation import UNANSWERED, VOID
from callbacks.pictures import class_colours

__all__ = ["ClassLayers", "image_layer", "layer_size", "nearest", "outline", "outline_layer", "thumb", "value_layer"]

_LONGEST, _SHORTEST, _THUMB = 1024, 128, 160
"""Pixels of the longer side: of a layer at most, and at least unless that is no multiple; of a thumb at most."""

_FEW = 25
"""A region of so few pixels gets a ring around it: nobody would find its outline."""

_INSIDE, _AROUND = 1, 2
"""In an outline: its white line, inside of the region, and its black one around that."""


def layer_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the layers of an image: its own, unless they are large, or very small.

    Args:
        height: Of the image.
        width: Of the image.

    Example:
        >>> layer_size(360, 480), layer_size(2048, 1024), layer_size(8, 8)
        ((360, 480), (1024, 512), (128, 128))
    """
    longest = max(height, width)
    if longest > _LONGEST:
        return max(1, round(height * _LONGEST / longest)), max(1, round(width * _LONGEST / longest))
    # compression blurs a picture of a few pixels
    times = max(1, _SHORTEST // longest)
    return height * times, width * times


def image_layer(image: np.ndarray) -> Image.Image:
    """An image in the size of its layers.

    Args:
        image: H x W x 3, uint8.
    """
    height, width = layer_size(*image.shape[:2])
    larger = height > image.shape[0]
    kind = Image.Resampling.NEAREST if larger else Image.Resampling.BILINEAR
    layer = Image.fromarray(np.ascontiguousarray(image))
    return layer if layer.size == (width, height) else layer.resize((width, height), kind, reducing_gap=2.0)


@dataclass(frozen=True)
class ClassLayers:
    """Masks in the classes' colours, the same in every picture of a run.

    Args:
        class_names: One name per class.
    """

    class_names: Sequence[str]

    @property
    def colours(self) -> list[str]:
        """The classes' colours as #rrggbb."""
        return ["#" + bytes(rgb).hex() for rgb in self._colours()]

    def __call__(self, mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
        """A mask as a layer; void, and what nobody has drawn, is transparent.

        Args:
            mask: Classes, `VOID` or `UNANSWERED`, in any size.
            size: Height and width of the layer.
        """
        picked = nearest(mask, size).astype(np.uint8)
        picked[picked == UNANSWERED] = VOID
        layer = Image.fromarray(picked, mode="P")
        layer.putpalette(self._colours().tobytes().ljust(3 * 256, b"\0"))
        layer.info["transparency"] = VOID
        return layer

    def _colours(self) -> np.ndarray:
        shares = class_colours(len(self.class_names))[:-1]
        return (shares * 255).round().astype(np.uint8)


def value_layer(values: np.ndarray, largest: float, size: tuple[int, int]) -> Image.Image:
    """Acquisition values as a layer, from dark (0) to bright, in colours that colour-blind people tell apart.

    Args:
        values: H x W, in any size.
        largest: What is brightest; equal for all pictures that are to be compared.
        size: Height and width of the layer.
    """
    height, width = size
    smooth = Image.fromarray(values.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    shares = np.asarray(smooth) / largest if largest > 0 else np.zeros(size)
    layer = Image.fromarray((shares * 255).round().clip(0, 255).astype(np.uint8), mode="P")
    layer.putpalette((colormaps["magma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8).tobytes())
    return layer


def outline(region: np.ndarray, line: int) -> np.ndarray:
    """The line around a region.

    Args:
        region: H x W booleans.
        line: How wide it is inside of the region; around it there is another one of one pixel.

    Returns:
        H x W uint8: 0 for nothing, 1 for the line, which is white, and 2 for the black one around it.
    """
    drawn = np.zeros(region.shape, dtype=np.uint8)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    if not len(rows):
        return drawn
    if region.sum() <= _FEW:
        return _ring((rows.mean(), columns.mean()), region.shape, line)
    # with a margin, so that the line is closed where the region meets the picture's edge
    top, left = max(rows[0] - 1, 0), max(columns[0] - 1, 0)
    part = np.pad(region[top : rows[-1] + 2, left : columns[-1] + 2], 1)
    inner = part
    for _ in range(line):
        inner = inner & _shifted(inner, np.logical_and)
    codes = np.where(part, np.where(inner, 0, _INSIDE), np.where(_shifted(part, np.logical_or), _AROUND, 0))[1:-1, 1:-1]
    drawn[top : top + codes.shape[0], left : left + codes.shape[1]] = codes
    return drawn


def outline_layer(region: np.ndarray) -> Image.Image:
    """The line around a region as a layer, which is transparent elsewhere.

    Args:
        region: H x W booleans, in the layer's size.
    """
    layer = Image.fromarray(outline(region, max(1, max(region.shape) // 256)), mode="P")
    layer.putpalette([0, 0, 0, 255, 255, 255, 0, 0, 0])
    layer.info["transparency"] = 0
    return layer


def thumb(image: Image.Image, region: np.ndarray | None = None) -> Image.Image:
    """An image made small, with the line around a region.

    Args:
        image: RGB, not changed.
        region: Booleans, in any size; None for none.
    """
    small = image.copy()
    small.thumbnail((_THUMB, _THUMB), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if region is None:
        return small
    size = (small.height, small.width)
    found = nearest(region, size)
    if not found.any():
        # a few pixels, none of which is left
        rows, columns = np.nonzero(region)
        centre = rows.mean() * size[0] / region.shape[0], columns.mean() * size[1] / region.shape[1]
        lines = _ring(centre, size, 1)
    else:
        lines = outline(found, 1)
    pixels = np.array(small)
    pixels[lines == _INSIDE] = np.iinfo(np.uint8).max
    pixels[lines == _AROUND] = 0
    return Image.fromarray(pixels)


def nearest(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Values in another size, each pixel's from the nearest one.

    Args:
        values: H x W, or 1 x 1 for a whole image.
        size: Height and width.
    """
    if values.shape == size:
        return values.copy()
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(size, values.shape, strict=True))
    return values[rows[:, None], columns]


def _ring(centre: tuple[float, float], shape: tuple[int, ...], line: int) -> np.ndarray:
    picture = Image.new("L", (shape[1], shape[0]))
    pen, radius = ImageDraw.Draw(picture), max(5, max(shape) // 40)
    y, x = centre
    for far, width, code in ((radius + 1, line + 2, _AROUND), (radius, line, _INSIDE)):
        pen.ellipse((x - far, y - far, x + far, y + far), outline=code, width=width)
    return np.array(picture)


def _shifted(region: np.ndarray, combine: np.ufunc) -> np.ndarray:
    """The four neighbours of each pixel, combined; what is beyond the edge belongs to no region."""
    padded = np.pad(region, 1)
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    result: np.ndarray = combine.reduce(sides)
    return result
