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
    "is_in_colour",
    "read_image",
    "read_instances",
    "read_mask",
    "read_values",
]

_MOST = 65_535

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
    values = read_values(path)
    if values.ndim == 3:
        raise DataError(
            f"expected one channel of class indices in {path}, got mode RGB; save the mask as an 8-bit grey PNG, or "
            f"say which class each colour is ({_some_colours(values)} here) with data.mask_values, such as "
            "'{[128, 64, 128]: road}'"
        )
    if values.size and values.max() > 255:
        raise DataError(
            f"expected class indices from 0 to 255 in {path}, got {values.min()} to {values.max()}; say which value is "
            "which class with data.mask_values, such as '{0: 0, 65535: 1}'"
        )
    return values.astype(np.uint8)


def is_in_colour(path: Path) -> bool:
    """Whether a file holds red, green and blue, from its header; a palette's indices are no colours."""
    with _opened(path, decode=False) as image:
        return image.mode in ("RGB", "RGBA")


def read_values(path: Path, colours: bool = False) -> np.ndarray:
    """What stands in a mask's file, before anybody says which value is which class.

    Args:
        path: The file: grey of up to 16 bits, of a palette, or RGB. Transparency is refused, unless nothing is.
        colours: Give colours in any case: a palette's, and grey as red, green and blue alike.

    Returns:
        H x W, uint8 or uint16, the values of a grey image or the indices of a palette; or H x W x 3, uint8, where it
        is in colour, or colours are asked for.

    Raises:
        DataError: If the file cannot be read, or holds something else.
    """
    with _opened(path) as image:
        if image.mode in ("RGBA", "LA"):
            if np.asarray(image.getchannel("A")).min() < 255:
                raise DataError(f"expected a mask without transparency in {path}, got mode {image.mode}; save it anew")
            image = image.convert(image.mode.removesuffix("A"))
        if image.mode not in ("RGB", "L", "P", "1", "I") and not image.mode.startswith("I;16"):
            raise DataError(
                f"expected one channel of class indices in {path}, got mode {image.mode}; save the mask as an 8-bit "
                "grey PNG"
            )
        if image.mode == "RGB" or (colours and image.mode in ("L", "P", "1")):
            return np.asarray(image.convert("RGB"))
        wide = image.mode.startswith("I")
        values = np.asarray(image)
    if wide:
        if values.size and (values.min() < 0 or values.max() > _MOST):
            raise DataError(
                f"expected mask values from 0 to {_MOST} in {path}, got {values.min()} to {values.max()}; save the "
                "mask with 8 or 16 bits"
            )
        if colours:
            raise DataError(
                f"expected colours of 8 bits in {path} (data.mask_values names colours), got grey of 16 bits; save it "
                "as the other masks"
            )
    return values.astype(np.uint16 if wide else np.uint8)


def read_instances(path: Path) -> np.ndarray:
    """H x W, int32: the values of a grey image of up to 32 bits as they stand in the file."""
    with _opened(path) as image:
        if image.mode not in ("L", "I") and not image.mode.startswith("I;16"):
            raise DataError(f"expected one channel of object numbers in {path}, got mode {image.mode}")
        return np.asarray(image).astype(np.int32)


def _some_colours(values: np.ndarray, most: int = 4) -> str:
    found = np.unique(values.reshape(-1, 3), axis=0)
    listed = ", ".join(str(colour) for colour in found[:most].tolist())
    return f"{listed} and {len(found) - most} more" if len(found) > most else listed


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
