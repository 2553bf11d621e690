"""A data set seen with some of its classes, to learn others first."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.mask_values import MaskValues
from datamodules.sources.source import Source
from datamodules.sources.wrapper import SourceWrapper

__all__ = ["SomeClasses"]


class SomeClasses(SourceWrapper):
    """Some classes of a data set, numbered from 1 on in the order in which they are named; class 0 is background.

    Objects are those of the data set.

    Args:
        source: The data set, of masks.
        classes: Names of the classes.
        others: What pixels of the other classes are: "background", or "void", so that nobody learns or is judged there.
        background: The class of the data set, if it has one, that is background in any case.

    Raises:
        ValueError: If no class is named, one of them is not there or the background, or one is named twice.
        DataError: If the data set has one class per image.

    Example:
        >>> from datamodules.sources.synthetic import SyntheticRoads
        >>> list(SomeClasses(SyntheticRoads(), ["car", "road"]).class_names)
        ['background', 'car', 'road']
    """

    def __init__(
        self,
        source: Source,
        classes: Sequence[str],
        others: Literal["background", "void"] = "background",
        background: str | None = None,
    ) -> None:
        super().__init__(source)
        known = list(source.class_names)
        named = [*classes, *([] if background is None else [background])]
        if unknown := [name for name in named if name not in known]:
            raise ValueError(
                f"data.source SomeClasses knows the classes {', '.join(known)} of {type(source).__name__}, got "
                f"{', '.join(unknown)}; correct the names"
            )
        if "background" in classes:
            raise ValueError(
                "data.source SomeClasses has class 0 for the background, got background among data.source.classes; "
                "take it out, and set data.source.background to background"
            )
        if not classes or len(set(named)) < len(named):
            raise ValueError(
                f"data.source SomeClasses needs at least one class and each of them once, got {', '.join(named)}; set "
                "data.source.classes"
            )
        self.classes = tuple(classes)
        self._seen_as = np.full(256, VOID if others == "void" else 0, dtype=np.uint8)
        self._seen_as[[VOID, UNANSWERED]] = VOID, UNANSWERED
        self._seen_as[[known.index(name) for name in classes]] = range(1, len(classes) + 1)
        if background is not None:
            self._seen_as[known.index(background)] = 0

    @property
    def class_names(self) -> Sequence[str]:
        return ["background", *self.classes]

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._seen_as[super().read_annotation(image_id, draw)]

    @property
    def mask_values(self) -> MaskValues | None:
        """The data set's values, of which people's masks may hold any."""
        values = self.source.mask_values
        return values and values.then(self._seen_as, self.class_names)

    @property
    def has_plain_masks(self) -> bool:
        return False

    def read_instances(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        """The data set's objects; of those that are void here nothing is seen."""
        objects = super().read_instances(image_id, draw)
        return np.where(self.read_annotation(image_id, draw) == VOID, -1, objects).astype(np.int32)
