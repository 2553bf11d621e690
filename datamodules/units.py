"""Units: what is queried and labelled, and reading their files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

__all__ = ["IMAGE_SUFFIXES", "VOID", "DataError", "Unit", "find_files", "image_size", "read_image", "read_mask"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

VOID = 255
"""The mask value of pixels, and the label of images, that neither train nor count (the losses' ignore index)."""


class DataError(ValueError):
    """A file of the data set is missing or not what it should be."""


@dataclass(frozen=True, slots=True)
class Unit:
    """unit_id: stable name, never a position. image and mask: files, or None where the data set draws them itself
    or where nobody has drawn a mask. label: where images have one class each, its index, `VOID` for an image of none
    of the classes, the class's name as people write it, or None where nobody has said.
    """

    unit_id: str
    image: Path | None = None
    mask: Path | None = None
    label: int | str | None = None


def find_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Files below a folder by name: the path within the folder, without its suffix. Refuses one name twice."""
    if not folder.is_dir():
        raise DataError(f"expected a folder of images at {folder}, got nothing there; check data.root")
    allowed = set(suffixes)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in allowed or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise DataError(f"two images have one name: {found[name]} and {path}; rename one of them")
        found[name] = path
    return found


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels, from the file's header."""
    with _opened(path, decode=False) as image:
        return image.height, image.width


def read_image(path: Path) -> np.ndarray:
    """H x W x 3, uint8."""
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def read_mask(path: Path) -> np.ndarray:
    """H x W, uint8: the values of a grey or palette image as they stand in the file."""
    with _opened(path) as image:
        if image.mode not in ("L", "P", "1", "I", "I;16"):
            raise DataError(
                f"expected one channel of class indices in {path}, got mode {image.mode}; save the mask as an "
                "8-bit grey PNG"
            )
        values = np.asarray(image)
    if values.size and (values.min() < 0 or values.max() > 255):
        raise DataError(f"expected class indices from 0 to 255 in {path}, got {values.min()} to {values.max()}")
    return values.astype(np.uint8)


def _opened(path: Path, decode: bool = True) -> Image.Image:
    try:
        image = Image.open(path)
        if decode:
            image.load()
    except FileNotFoundError as error:
        raise DataError(f"the file {path} is missing; put it back or take the unit out of the data set") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a readable image ({error}); replace the file or remove it") from error
    return image
