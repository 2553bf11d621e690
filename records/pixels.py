"""What a network says of the pixels of one image, kept for figures."""

from dataclasses import asdict, dataclass
from zipfile import BadZipFile

import numpy as np

from records.files import RunDirectoryError, replacing
from records.run_directory import RunDirectory

__all__ = ["PixelValues", "read_pixels", "write_pixels"]


@dataclass(frozen=True)
class PixelValues:
    """What a network says of the pixels of one image.

    Args:
        image: As the network saw it, but for its normalisation: H x W x 3 uint8.
        logits: Of one pass with dropout off, C x H x W; C is 1 where a sigmoid tells two classes apart.
        prediction: Predicted classes, H x W.
        odin: Values of ODIN for several settings, K x H x W.
        settings: Temperature and epsilon of each, K x 2.
        class_names: One name per class.
    """

    image: np.ndarray
    logits: np.ndarray
    prediction: np.ndarray
    odin: np.ndarray
    settings: np.ndarray
    class_names: np.ndarray


def write_pixels(run: RunDirectory, image_id: str, values: PixelValues) -> None:
    """Write an image's values atomically.

    Args:
        run: The run directory.
        image_id: The image.
        values: What is kept.
    """
    with replacing(run.pixel_values(image_id)) as beside:
        np.savez_compressed(beside, **asdict(values))


def read_pixels(run: RunDirectory, image_id: str | None = None) -> tuple[str, PixelValues]:
    """Read an image's values.

    Args:
        run: The run directory.
        image_id: The image; may be left out where the directory has values of one image only.

    Returns:
        The image's id and its values.

    Raises:
        RunDirectoryError: There are no values, not of this image, of several, or their file is damaged.
    """
    there = sorted(p.relative_to(run.pixels).with_suffix("").as_posix() for p in run.pixels.rglob("[!.]*.npz"))
    if not there or (image_id is not None and image_id not in there):
        raise RunDirectoryError(
            f"expected pixel values of {image_id or 'an image'} in {run.pixels}, got {', '.join(there) or 'none'}; "
            "write them first with the verb pixels and trained weights: "
            f"pixels --config YAML --run_dir {run.path} --ckpt_path {run.cycle(0).best}"
            + (f" --image {image_id}" if image_id else "")
        )
    if image_id is None and len(there) > 1:
        raise RunDirectoryError(f"{run.pixels} has values of several images; give one with --image: {', '.join(there)}")
    found = image_id or there[0]
    try:
        with np.load(run.pixel_values(found)) as content:
            return found, PixelValues(**content)
    except (OSError, ValueError, TypeError, EOFError, BadZipFile) as error:
        raise RunDirectoryError(f"{run.pixel_values(found)} cannot be read ({error}); write it again") from error
