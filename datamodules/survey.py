"""What a data set's masks hold, and which setting they need: asked before the first fit, and by people who begin."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.annotations import AnnotationSource
from datamodules.checks import check_mask
from datamodules.files import DataError, is_in_colour, read_values
from datamodules.mask_values import MaskValues, Value, as_setting, codes_of, value_of
from datamodules.sources.source import Source

__all__ = ["MOST_MASKS", "MaskSurvey", "survey"]

MOST_MASKS = 200
"""Masks that are read, where nobody says otherwise; of large ones as many as have 100 million pixels, at least 20."""

_MOST_PIXELS = 100_000_000
_FEWEST = 20
_MOST_VALUES = 256

_T = TypeVar("_T")


@dataclass(frozen=True)
class MaskSurvey:
    """What stands in mask files, and what it means by the settings as they are."""

    class_names: Sequence[str]
    count: int
    """Masks that there are."""
    read: int
    """Masks of which this is known."""
    unreadable: dict[str, str]
    """What is wrong with masks that cannot be read, by image id."""
    undrawn: int
    """Images of the train split that nobody has drawn."""
    in_colour: bool = False
    pixels: dict[Value, int] = field(default_factory=dict)
    """Grey values or colours as they stand in the files, with their numbers of pixels, in their order; of more than 256
    the first that were met."""
    first: dict[Value, Path] = field(default_factory=dict)
    """A file that holds each of them."""
    unknown: Sequence[Value] = ()
    """Those that are no class by the settings, neither void nor `UNANSWERED`."""
    classes: dict[int, int] = field(default_factory=dict)
    """Class indices, `VOID` and `UNANSWERED` by the settings, with their numbers of pixels."""
    mapped: bool = False
    """Whether `data.mask_values` says what the values mean."""

    @property
    def complete(self) -> bool:
        """Whether every image has a mask and all of them were read."""
        return self.read == self.count and not self.undrawn

    @property
    def void_share(self) -> float:
        """Share of void among the pixels that somebody has answered and that mean anything."""
        answered = sum(n for k, n in self.classes.items() if k != UNANSWERED)
        return self.classes.get(VOID, 0) / answered if answered else 0.0

    @property
    def missing(self) -> list[str]:
        """Names of the classes that never occur; all of them where no mask was read."""
        return [name for k, name in enumerate(self.class_names) if not self.classes.get(k)]

    @property
    def too_many(self) -> bool:
        """Whether there are more values than a mask ever has, as in photographs and in masks saved as JPEG."""
        return len(self.pixels) >= _MOST_VALUES

    @property
    def proposed(self) -> dict[Value, int | str] | None:
        """What `data.mask_values` could be, or None where it need not be set or nothing can be said.

        Values in their order stand for the classes in theirs, where there are as many; one more is void, 255 if it is
        there. Colours that are more than the classes are all listed, the rest of them void, for people to correct.
        """
        if self.mapped or self.too_many or not self.pixels:
            return None
        values = [value for value in self.pixels if self.in_colour or value != UNANSWERED]
        number = len(self.class_names)
        own = set(range(number)) | {VOID}
        if not self.in_colour and set(values) <= own and not self._void_may_be_a_class(values):
            return None
        if len(values) == number + 1 and VOID in values:
            return {v: k for k, v in enumerate(v for v in values if v != VOID)} | {VOID: "void"}
        if self.in_colour:
            names = [*self.class_names, *["void"] * len(values)]
            return dict(zip(values, names, strict=False))
        return {v: k for k, v in enumerate(values)} if len(values) == number else None

    @property
    def setting(self) -> str | None:
        """`proposed` as it is pasted into YAML or, quoted, behind `--data.mask_values`."""
        proposed = self.proposed
        return None if proposed is None else as_setting(proposed)

    def _void_may_be_a_class(self, values: Sequence[Value]) -> bool:
        """As many values as classes, 255 among them, of which a class does not occur."""
        return VOID in values and len(values) == len(self.class_names)


def survey(
    source: Source,
    annotations: AnnotationSource | None = None,
    splits: Sequence[str] = ("train", "val"),
    most: int = MOST_MASKS,
) -> MaskSurvey:
    """Read masks as they stand in their files and count what they hold; nothing is refused for what it means.

    Where a data set's masks are no files of plain values (Cityscapes, drawn scenes), classes are counted alone.

    Args:
        source: The data set, of masks.
        annotations: Who says what is in the images of the train split, such as a folder that people fill; the data set
            itself unless given.
        splits: Which splits are read.
        most: Masks to read at most, evenly spread over all of them in their order; fewer where they are large (see
            `MOST_MASKS`).

    Raises:
        DataError: If the data set has one class per image.
    """
    if source.target != "mask":
        raise DataError(f"{type(source).__name__} has one class per image and no masks, so there is nothing to survey")
    drawn: list[tuple[str, AnnotationSource]] = []
    undrawn = 0
    for split in splits:
        who = annotations if annotations is not None and split == "train" else source
        for image_id in source.images(split):
            if who.is_annotated(image_id):
                drawn.append((image_id, who))
            else:
                undrawn += split == "train"
    chosen = _spread(drawn, _affordable(source, drawn, most))
    plain = source.has_plain_masks
    counts, classes = Counter[int](), Counter[int]()
    first: dict[int, Path] = {}
    unreadable: dict[str, str] = {}
    in_colour, values = False, source.mask_values
    if plain:
        in_colour = values.in_colour if values else _some_in_colour(chosen)
        for image_id, who in chosen:
            try:
                for path in who.annotation_files(image_id):
                    found = _counted(path, in_colour)
                    if len(counts) < _MOST_VALUES:
                        counts.update(found)
                    for code in found:
                        first.setdefault(code, path)
            except DataError as error:
                unreadable[image_id] = str(error)
        counts = Counter(dict(sorted(counts.items())))
        known, unknown = _meant(counts, in_colour, values, source.num_classes)
        classes.update(known)
    else:
        unknown = []
        for image_id, who in chosen:
            try:
                mask = who.read_annotation(image_id)
                check_mask(who.annotation_path(image_id) or image_id, source.size(image_id), mask, source.num_classes)
            except DataError as error:
                unreadable[image_id] = str(error)
                continue
            classes.update(dict(enumerate(np.bincount(mask.ravel(), minlength=256).tolist())))
    return MaskSurvey(
        class_names=tuple(source.class_names),
        count=len(drawn),
        read=len(chosen) - len(unreadable),
        unreadable=unreadable,
        undrawn=undrawn,
        in_colour=in_colour,
        pixels={value_of(code, in_colour): n for code, n in counts.items()},
        first={value_of(code, in_colour): path for code, path in first.items() if code in counts},
        unknown=[value_of(code, in_colour) for code in unknown],
        classes={k: n for k, n in classes.items() if n},
        mapped=values is not None,
    )


def _affordable(source: Source, drawn: Sequence[tuple[str, AnnotationSource]], most: int) -> int:
    if not drawn:
        return most
    height, width = source.size(drawn[0][0])
    return min(most, max(_FEWEST, _MOST_PIXELS // (height * width)))


def _spread(things: Sequence[_T], most: int) -> Sequence[_T]:
    """At most so many of them, evenly spread in their order."""
    if len(things) <= most:
        return things
    return [things[i] for i in np.linspace(0, len(things) - 1, most).astype(int).tolist()]


def _some_in_colour(chosen: Sequence[tuple[str, AnnotationSource]]) -> bool:
    for image_id, who in chosen:
        with suppress(DataError):
            if any(is_in_colour(path) for path in who.annotation_files(image_id)):
                return True
    return False


def _counted(path: Path, in_colour: bool) -> dict[int, int]:
    """How often each value occurs in a file, as a number."""
    values = read_values(path, in_colour)
    if values.ndim == 3 and not in_colour:
        if (values != values[..., :1]).any():
            raise DataError(f"expected grey values in {path}, because data.mask_values names no colour, got colours")
        values = values[..., 0]
    found, counts = np.unique(codes_of(values, in_colour), return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def _meant(
    counts: Counter[int], in_colour: bool, values: MaskValues | None, num_classes: int
) -> tuple[dict[int, int], list[int]]:
    """Pixels by class, and the values that are none."""
    codes = np.array(list(counts), dtype=np.int64)
    if values is not None:
        classes, known = values.lookup_codes(codes)
    else:
        classes = codes
        known = (codes < num_classes) | (codes == VOID) | (codes == UNANSWERED)
        if in_colour:
            known = np.zeros_like(known)
    found = Counter[int]()
    for code, k, named in zip(codes.tolist(), classes.tolist(), known.tolist(), strict=True):
        if named:
            found[int(k)] += counts[code]
    return dict(found), [code for code, named in zip(codes.tolist(), known.tolist(), strict=True) if not named]
