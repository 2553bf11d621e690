"""Sizes of images and batches that run, where the settings leave them out."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

from datamodules.partitions import Partition
from datamodules.sources.in_memory import TensorSource
from datamodules.sources.source import Source

__all__ = ["BATCH_SIZE", "LONGEST_SIDE", "Sizes", "default_sizes", "image_sizes"]

BATCH_SIZE = 8
"""Images per batch in training, where nobody says otherwise and their size allows it."""

LONGEST_SIDE = 640
"""Pixels; larger images are made smaller for the network, where nobody says otherwise."""

_MULTIPLE = 32
_MOST_IMAGES = 2000
_MOST_PIXELS = BATCH_SIZE * 512 * 512
_FEWEST = 2


@dataclass(frozen=True)
class Sizes:
    """Settings of the data module that were left out, and why; None is what the data module makes of None."""

    batch_size: int
    image_size: tuple[int, int] | None = None
    eval_batch_size: int | None = None
    reason: str = ""
    """Words for people, where it is not the ordinary case."""


def default_sizes(
    source: Source,
    partition: Partition | None = None,
    image_size: Sequence[int] | None = None,
    crop_size: Sequence[int] | None = None,
) -> Sizes:
    """What runs on these images: as large as they are if they are all of one moderate size, else a common one.

    Images larger than 640 pixels on the longer side, and images of several sizes, are resized to the median height and
    width, made smaller to 640 pixels on the longer side if that is more, in multiples of 32; not where a crop size is
    given, or the units of the partition would not survive it. A batch has 8 images, fewer if they are larger than
    512 x 512 pixels or there are fewer in the train split, but at least 2, for batch norm. Evaluation goes image by
    image where they stay of several sizes.

    Args:
        source: The data set.
        partition: Its units; whole images unless given.
        image_size: (height, width) where it is said.
        crop_size: The same of training crops.
    """
    if isinstance(source, TensorSource):
        return Sizes(BATCH_SIZE)
    found = image_sizes(source)
    if not found:
        return Sizes(BATCH_SIZE)
    several = len(set(found)) > 1
    common = (median_low(h for h, _ in found), median_low(w for _, w in found))
    large = max(common) > LONGEST_SIDE
    resized, eval_batch_size, reason = None, None, ""
    if image_size is None and (several or large):
        what = f"images of {_range(found)}" if several else f"images of {common[0]} x {common[1]}"
        if crop_size is None and (partition is None or partition.survives_resizing):
            resized, reason = _moderate(*common), what
        elif several:
            eval_batch_size, reason = 1, what
    height, width = crop_size or image_size or resized or common
    count = min(BATCH_SIZE, _MOST_PIXELS // max(height * width, 1), len(source.images("train")))
    batch_size = max(_FEWEST, 1 << max(count, 1).bit_length() - 1)
    return Sizes(batch_size, resized, eval_batch_size, reason)


def image_sizes(source: Source, most: int = _MOST_IMAGES) -> list[tuple[int, int]]:
    """Heights and widths of a data set's images, from the files' headers; the first alone where they are no files.

    Images that nobody has drawn yet are looked at, too: the sizes of a run do not change when people draw.

    Args:
        source: The data set.
        most: Images to look at, at most, evenly spread over all of them.
    """
    images = [image_id for split in ("train", "val", "test") for image_id in source.images(split)]
    images = sorted([*images, *source.undrawn()])
    if images and source.path(images[0]) is None:
        # drawn or decoded by a rule, and of one size
        images = images[:1]
    step = max(1, -(-len(images) // most))
    return [source.size(image_id) for image_id in images[::step]]


def _moderate(height: int, width: int) -> tuple[int, int]:
    """At most 640 pixels on the longer side, in multiples of 32, about as high and as wide."""
    factor = min(1.0, LONGEST_SIDE / max(height, width))
    return _rounded(height * factor), _rounded(width * factor)


def _rounded(side: float) -> int:
    return max(_MULTIPLE, round(side / _MULTIPLE) * _MULTIPLE)


def _range(found: Sequence[tuple[int, int]]) -> str:
    smallest, largest = (pick(found, key=lambda size: size[0] * size[1]) for pick in (min, max))
    return f"{smallest[0]} x {smallest[1]} to {largest[0]} x {largest[1]}"
