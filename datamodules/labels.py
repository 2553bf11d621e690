"""A pool for classification: every unit's label is one class."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from datamodules.pool import PoolDataModule
from datamodules.units import VOID, DataError, Unit

__all__ = ["LabelPool"]


class LabelPool(PoolDataModule):
    """Images with one class each; batches have "label", N int64.

    An image of none of the classes has the label `VOID`: it may be queried and costs a label like any other, but
    brings no training sample.

    allow_missing_classes: let the first fit begin without a sample of every class. The others are those of
    `PoolDataModule`.
    """

    def __init__(self, allow_missing_classes: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.allow_missing_classes = allow_missing_classes

    @property
    def training_units(self) -> list[Unit]:
        units = [u for u in self.labelled_units if u.label != VOID]
        if not units:
            raise DataError("every labelled image is of none of the classes, so there is nothing to train on")
        return units

    def answer(self, unit: Unit) -> Unit | None:
        answer = super().answer(unit)
        # most answers are indices already
        if answer is None or type(answer.label) is int:
            return answer
        return replace(answer, label=self.class_index(answer))

    def class_index(self, unit: Unit) -> int:
        """The unit's label as an index, or `VOID`."""
        label = unit.label
        if label is None:
            raise DataError(f"unit {unit.unit_id!r} has no label; {self.oracle.instructions()}")
        names = list(self.class_names)
        if isinstance(label, str) and label in names:
            return names.index(label)
        if isinstance(label, str) and label.lower() == "void":
            return VOID
        if str(label).isdecimal() and (int(label) < len(names) or int(label) == VOID):
            return int(label)
        raise DataError(
            f"expected the label of {unit.unit_id!r} to be one of {', '.join(names)} (or 0 to {len(names) - 1}, or "
            f"void for none of them), got {label!r}; correct it"
        )

    def has_label(self, unit: Unit) -> bool:
        return unit.label is not None

    def read_label(self, unit: Unit) -> np.ndarray:
        return np.array(self.class_index(unit), dtype=np.uint8)

    def checked_pixels(self, unit: Unit) -> int:
        self.class_index(unit)
        height, width = self.size(unit)
        return height * width

    def check_initial(self, chosen: Sequence[Unit]) -> None:
        super().check_initial(chosen)
        if not 2 <= self.num_classes < VOID:
            raise DataError(
                f"expected 2 to {VOID - 1} classes, got {self.num_classes} ({', '.join(self.class_names)}); add images "
                "of another class"
            )
        there = {self.class_index(u) for u in chosen}
        missing = [name for index, name in enumerate(self.class_names) if index not in there]
        if missing and not self.allow_missing_classes:
            raise DataError(
                f"the initial set of {len(chosen)} has no image of {', '.join(missing)}, so the network could not "
                "learn what it is; choose datamodules.initial.PerClass or a larger set, or set "
                "data.allow_missing_classes to true"
            )
