"""Who answers a query: hidden ground truth, or people who fill a folder or a table."""

import csv
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

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
    A unit without a row keeps the class that the data set itself has for it, unless others is false.
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

    def instructions(self) -> str:
        return f"write their classes into {self.path} (CSV with the columns unit_id and label; void for no class)"

    def _labels(self) -> dict[str, str]:
        written_at = self.path.stat().st_mtime_ns if self.path.is_file() else 0
        if written_at != self._read_at:
            self._rows, self._read_at = self._read() if written_at else {}, written_at
        return self._rows

    def _read(self) -> dict[str, str]:
        with self.path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if not {"unit_id", "label"} <= set(table.fieldnames or ()):
                raise DataError(
                    f"expected the columns unit_id and label in {self.path}, got {', '.join(table.fieldnames or ())}; "
                    "correct its first line"
                )
            rows: dict[str, str] = {}
            for row in table:
                unit_id, label = row["unit_id"], (row["label"] or "").strip()
                if label and rows.setdefault(unit_id, label) != label:
                    raise DataError(f"{self.path} labels {unit_id!r} twice, {rows[unit_id]!r} and {label!r}; keep one")
        return rows
