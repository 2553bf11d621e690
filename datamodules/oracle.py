"""Who answers a query: hidden ground truth, or people who fill a folder or a table."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from datamodules.texts import read_text, unshielded
from datamodules.units import DataError, Unit

__all__ = ["FolderOracle", "HiddenTruth", "LabelTable", "Oracle"]


class Oracle(ABC):
    """Knows which units somebody has labelled."""

    partial: bool = False
    """Whether a cycle may go on when only some of its units are labelled."""
    knows_truth: bool = False
    """Whether the data set's own labels are the answers, so that oracle strategies may look at them."""

    @abstractmethod
    def answer(self, unit: Unit) -> Unit | None:
        """The unit with its label, or None while nobody has given one."""

    def named(self) -> Collection[str]:
        """Ids that the answers are written down for, where they stand in a list; each must be a unit."""
        return ()

    @abstractmethod
    def instructions(self) -> str:
        """What people have to do, in one sentence."""


class HiddenTruth(Oracle):
    """Simulation: the data set has every label already and answers at once."""

    knows_truth = True

    def answer(self, unit: Unit) -> Unit | None:
        return unit

    def instructions(self) -> str:
        return "the ground truth answers at once"


class FolderOracle(Oracle):
    """People: a unit is labelled when `folder`/UNIT_ID.png exists. Masks of the data set itself are not looked at.

    partial: go on with the next cycle as soon as one queried unit is drawn, instead of all of them.
    """

    def __init__(self, folder: str, partial: bool = False) -> None:
        self.folder = Path(folder)
        self.partial = partial

    def answer(self, unit: Unit) -> Unit | None:
        path = self.folder / f"{unit.unit_id}.png"
        return replace(unit, mask=path) if path.is_file() else None

    def instructions(self) -> str:
        return f"draw their masks as {self.folder}/UNIT_ID.png (8-bit grey, class indices, 255 for void)"


class LabelTable(Oracle):
    """People: an image is labelled when the CSV file `path`, with columns unit_id and label, has a row with its class.

    label: a class by its name or index, or void for an image of none of the classes; an empty one is not answered yet.
    unit_id: the column of queried.csv that is called so, not its `name`; an id that no unit has is refused. A unit
    without a row keeps the class that the data set itself has for it, unless others is false.
    partial: go on with the next cycle as soon as one queried unit is labelled, instead of all of them.
    """

    def __init__(self, path: str, others: bool = True, partial: bool = False) -> None:
        self.path = Path(path)
        self.others = others
        self.partial = partial
        self._read_at = -1
        self._rows: dict[str, str] = {}

    def answer(self, unit: Unit) -> Unit | None:
        label: int | str | None = self._labels().get(unit.unit_id) or (unit.label if self.others else None)
        return None if label is None else replace(unit, label=label)

    def named(self) -> Collection[str]:
        return self._labels().keys()

    def instructions(self) -> str:
        return f"write their classes into {self.path} (CSV with the columns unit_id and label; void for no class)"

    def _labels(self) -> dict[str, str]:
        written_at = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        if written_at != self._read_at:
            self._rows, self._read_at = self._read() if written_at else {}, written_at
        return self._rows

    def _read(self) -> dict[str, str]:
        table = csv.DictReader(io.StringIO(read_text(self.path)))
        columns = table.fieldnames or ()
        if not {"unit_id", "label"} <= set(columns):
            hint = "copy the column unit_id of queried.csv, not name" if "name" in columns else "correct its first line"
            raise DataError(
                f"expected the columns unit_id and label in {self.path}, got {', '.join(columns) or 'none'}; {hint}"
            )
        rows: dict[str, str] = {}
        for row in table:
            unit_id, label = unshielded(row["unit_id"] or ""), (row["label"] or "").strip()
            if label and rows.setdefault(unit_id, label) != label:
                raise DataError(f"{self.path} labels {unit_id!r} twice, {rows[unit_id]!r} and {label!r}; keep one")
        return rows
