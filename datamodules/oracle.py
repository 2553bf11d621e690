"""Who answers a query: hidden ground truth, or people who fill a folder."""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

from datamodules.units import Unit

__all__ = ["FolderOracle", "HiddenTruth", "Oracle"]


class Oracle(ABC):
    """Knows which units somebody has labelled."""

    partial: bool = False
    """Whether a cycle may go on when only some of its units are labelled."""
    knows_truth: bool = False
    """Whether the data set's own labels are the answers, so that oracle strategies may look at them."""

    @abstractmethod
    def answer(self, unit: Unit) -> Unit | None:
        """The unit with its mask, or None while nobody has drawn it."""

    @abstractmethod
    def instructions(self) -> str:
        """What people have to do, in one sentence."""


class HiddenTruth(Oracle):
    """Simulation: the data set has every mask already and answers at once."""

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
