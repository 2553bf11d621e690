"""Finding and reading the files of images and masks."""

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

__all__ = [
    "IMAGE_SUFFIXES",
    "DataError",
    "check_name",
    "find_files",
    "image_size",
    "read_image",
    "read_instances",
    "read_mask",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


class DataError(ValueError):
    """A file of the data set is missing or not what it should be."""


def find_files(folder: Path, suffixes: Iterable[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Files below a folder by name: the path within the folder, without its suffix.

    Links to folders are followed. Refuses one name twice, and names that no table or list could hold.
    """
    if not folder.is_dir():
        raise DataError(f"expected a folder of images at {folder}, got nothing there; check data.source.root")
    allowed = set(suffixes)
    found: dict[str, Path] = {}
    for path in sorted(_files_below(folder)):
        if path.suffix.lower() not in allowed or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        check_name(name, path)
        if name in found:
            raise DataError(f"two images have one name: {found[name]} and {path}; rename one of them")
        found[name] = path
    return found


def check_name(name: str, path: Path) -> None:
    """Refuse line breaks, other control characters and bytes that are no text in a name that comes from a path."""
    if not name.isprintable() and any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
        raise DataError(f"the name {str(path)!r} holds a control character or a byte that is no text; rename it")


def image_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels, from the file's header."""
    with _opened(path, decode=False) as image:
        return image.height, image.width


def read_image(path: Path, value_range: Sequence[float] | None = None) -> np.ndarray:
    """H x W x 3, uint8; of a file of several pages the first, and without transparency.

    Args:
        path: The file.
        value_range: The values of images of more than 8 bits that become 0 and 255, linearly and with what lies outside
            cut off; such images are refused without it, because nothing in the file says how bright they are meant to
            be.
    """
    with _opened(path) as image:
        if image.mode == "F" or image.mode.startswith("I"):
            grey = _to_8_bits(np.asarray(image).astype(np.float64), value_range, image.mode, path)
            return np.repeat(grey[..., None], 3, axis=2)
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


def read_instances(path: Path) -> np.ndarray:
    """H x W, int32: the values of a grey image of up to 32 bits as they stand in the file."""
    with _opened(path) as image:
        if image.mode not in ("L", "I") and not image.mode.startswith("I;16"):
            raise DataError(f"expected one channel of object numbers in {path}, got mode {image.mode}")
        return np.asarray(image).astype(np.int32)


def _to_8_bits(values: np.ndarray, value_range: Sequence[float] | None, mode: str, path: Path) -> np.ndarray:
    low, high = values.min(), values.max()
    if value_range is None or not np.isfinite([low, high]).all():
        raise DataError(
            f"expected an image of 8 bits per channel in {path}, got mode {mode} with values from {low:g} to {high:g}; "
            "set data.source.value_range to the finite values that mean black and white, such as [0, 4095], or save it "
            "with 8 bits"
        )
    black, white = value_range
    return ((values - black) / (white - black) * 255).round().clip(0, 255).astype(np.uint8)


def _files_below(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    here = os.path.realpath(folder)
    # a link to a folder that it lies in would lead round for ever
    if here in above:
        return
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from _files_below(Path(entry.path), (*above, here))
        else:
            yield Path(entry.path)


def _opened(path: Path, decode: bool = True) -> Image.Image:
    try:
        image = Image.open(path)
        wide = image.mode in ("RGB", "RGBA") and any(";16" in str(tile.args) for tile in image.tile)
        if decode:
            image.load()
    except FileNotFoundError as error:
        raise DataError(f"the file {path} is missing; put it back or take the image out of the data set") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large to be read safely ({error}); cut it into smaller images") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a readable image ({error}); replace the file or remove it") from error
    if wide:
        # Pillow has kept the upper byte of every channel, without a word
        raise DataError(f"expected 8 bits per channel in {path}, got colour of 16 bits; save it with 8 bits")
    return image
