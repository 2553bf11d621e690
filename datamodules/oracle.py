"""Who answers a query: hidden ground truth, or people who fill a folder or a table."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from acquisition.identity import Described
from datamodules.annotations import AnnotationSource, ClassTable, LabelledUnits, MaskFolder
from datamodules.corruptions import Corrupted, Corruption
from datamodules.files import DataError
from datamodules.mask_values import MaskValues
from datamodules.objects import DrawnObjects, LabelledObjects
from datamodules.outlines import count_clicks, parts_of
from datamodules.sources.source import Source
from datamodules.units import Units
from records.ledger import Labelled

__all__ = ["COUNTING", "FolderOracle", "HiddenTruth", "LabelTable", "Oracle", "WholeObjects"]


COUNTING = {
    "objects": "datamodules.oracle.WholeObjects",
    "clicks": "datamodules.oracle.HiddenTruth or WholeObjects with a click_tolerance",
}
"""Who counts what, for errors."""


class Oracle(Described, ABC):
    """An annotation source of answers, and its instructions for people."""

    partial: bool = False
    """Whether a cycle may go on when only some of its units are labelled."""
    counts: frozenset[str] = frozenset()
    """What of "objects" and "clicks" an answer costs is known when a query is made."""
    labels: str | None = None
    """What is wrong on purpose with the answers, for the ledger."""
    knows_truth: bool = False
    """Whether the data set's own annotations are the answers, so that oracle strategies may look at them."""

    @abstractmethod
    def annotations(self, source: Source) -> AnnotationSource:
        """Where the answers about a data set are read."""

    def named(self) -> Collection[str]:
        """Ids that the answers are written down for, where they stand in a list; each must be an image."""
        return ()

    def labelled_part(
        self, annotations: AnnotationSource, units: Units, labelled: Mapping[str, Sequence[int]]
    ) -> AnnotationSource:
        """What of the annotations trains: the pixels of labelled units, unless more is drawn with them.

        Args:
            annotations: The answers.
            units: Of the train split.
            labelled: Which units of an image are labelled, as their positions in its index map.
        """
        return LabelledUnits(annotations, units.source, units.partition, labelled)

    def costs(self, units: Units, labelled: Collection[str], answered: Sequence[str]) -> list[Labelled]:
        """What answers cost, as the ledger records it: a unit's pixels, unless more is drawn or counted.

        Args:
            units: Of the train split.
            labelled: Ids of the units that were labelled before.
            answered: Ids of units, in the order in which they are labelled.
        """
        return [Labelled(*pair) for pair in zip(answered, units.pixels(answered), strict=True)]

    def signed(self, strategy: str) -> str:
        """A strategy's name in the ledger, with what is wrong on purpose with its labels.

        Args:
            strategy: The name.
        """
        return strategy if self.labels is None else f"{strategy}, {self.labels}"

    @abstractmethod
    def instructions(self) -> str:
        """What people have to do, in one sentence."""


class HiddenTruth(Oracle):
    """Simulation: the data set has every label already and answers at once.

    Args:
        click_tolerance: Count clicks: the corners of the outlines of what is drawn, each class's connected parts within
            a unit, simplified so that they are so many pixels beside the true ones at most (2, say). A unit of one
            pixel, or a classified image, is one click. None counts none, for it takes a while.
        corruption: What is wrong with the answers (see `datamodules.corruptions`): with what trains, never with what is
            validated or drawn in figures, nor with costs. None for answers that are right.

    Raises:
        ValueError: If the tolerance is below 0.
    """

    knows_truth = True

    def __init__(self, click_tolerance: float | None = None, corruption: Corruption | None = None) -> None:
        if click_tolerance is not None and click_tolerance < 0:
            raise ValueError(f"data.oracle.click_tolerance must be 0 or more pixels, got {click_tolerance}")
        self.click_tolerance = click_tolerance
        self.corruption = corruption
        self.labels = None if corruption is None else f"labels {corruption.short_description}"
        self.counts = frozenset() if click_tolerance is None else frozenset({"clicks"})

    def costs(self, units: Units, labelled: Collection[str], answered: Sequence[str]) -> list[Labelled]:
        costs = super().costs(units, labelled, answered)
        tolerance = self.click_tolerance
        if tolerance is None:
            return costs
        if units.source.target == "label":
            return [Labelled(cost.unit_id, cost.pixels, clicks=1) for cost in costs]
        clicks: dict[str, int] = {}
        # somebody has to look at a point, even if it is void
        clicks |= {cost.unit_id: 1 for cost in costs if cost.pixels == 1}
        for image_id, unit_ids in _by_image(units, [u for u in answered if u not in clicks]).items():
            mask = units.source.read_annotation(image_id)
            index = units.index_map(image_id, mask.shape)
            for unit_id, region in zip(unit_ids, units.regions_of(unit_ids), strict=True):
                row, column, height, width = region.box
                box = slice(row, row + height), slice(column, column + width)
                inside = np.where(index[box] == units.location[unit_id][1], mask[box], VOID)
                clicks[unit_id] = count_clicks(parts_of(inside, {VOID, UNANSWERED}), tolerance)
        return [Labelled(cost.unit_id, cost.pixels, clicks=clicks[cost.unit_id]) for cost in costs]

    def annotations(self, source: Source) -> AnnotationSource:
        return source if self.corruption is None else Corrupted(source, self.corruption)

    def instructions(self) -> str:
        return "the ground truth answers at once"


class WholeObjects(HiddenTruth):
    """Simulation in which every object that a queried unit overlaps is drawn completely.

    That is what annotators do in SuperAnnotate 2020, "Active Learning for Semantic Segmentation".

    Objects are the data set's instances, or else connected parts of a class (see `Source.read_instances`). Nothing is
    paid twice: the ledger has a unit's newly labelled pixels and objects. A unit that is void throughout is labelled,
    and brings nothing.

    Args:
        click_tolerance: Count clicks as well, those of the objects' outlines; as of `HiddenTruth`.
        corruption: What is wrong with the answers; as of `HiddenTruth`.
    """

    def __init__(self, click_tolerance: float | None = None, corruption: Corruption | None = None) -> None:
        super().__init__(click_tolerance, corruption)
        self.counts = self.counts | {"objects"}

    def labelled_part(
        self, annotations: AnnotationSource, units: Units, labelled: Mapping[str, Sequence[int]]
    ) -> AnnotationSource:
        return LabelledObjects(annotations, units.source, units.partition, labelled)

    def costs(self, units: Units, labelled: Collection[str], answered: Sequence[str]) -> list[Labelled]:
        before = _by_image(units, labelled)
        tolerance = self.click_tolerance
        found: dict[str, Labelled] = {}
        for image_id, unit_ids in _by_image(units, answered).items():
            drawn = DrawnObjects(units.source, units.partition, image_id)
            drawn.add([units.location[unit_id][1] for unit_id in before.get(image_id, [])])
            for unit_id in unit_ids:
                new = drawn.add([units.location[unit_id][1]])
                clicks = None if tolerance is None else count_clicks(new, tolerance)
                found[unit_id] = Labelled(unit_id, sum(int(one.sum()) for one in new), len(new), clicks)
        return [found[unit_id] for unit_id in answered]


def _by_image(units: Units, unit_ids: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for unit_id in unit_ids:
        found.setdefault(units.image_of(unit_id), []).append(unit_id)
    return found


class FolderOracle(Oracle):
    """People: an image is labelled when `folder`/IMAGE_ID.png exists. Masks of the data set itself are not looked at.

    Where units are parts of images, those are labelled of whose pixels none is 254, which stands for "not drawn yet".
    With `data.mask_values` people draw with the values that it names, too.

    Args:
        folder: Where the masks appear.
        partial: Go on with the next cycle as soon as one queried unit is drawn, instead of all of them.
    """

    def __init__(self, folder: str, partial: bool = False) -> None:
        self.folder = Path(folder)
        self.partial = partial
        self._values: MaskValues | None = None

    def annotations(self, source: Source) -> AnnotationSource:
        if source.target != "mask":
            raise DataError(
                f"data.oracle FolderOracle reads masks, but {type(source).__name__} has images with one class each; "
                "set it to datamodules.oracle.LabelTable"
            )
        self._values = source.mask_values
        return MaskFolder(self.folder, self._values)

    def instructions(self) -> str:
        values = f"8-bit grey, class indices, {VOID} for void, {UNANSWERED} for what is not drawn yet"
        if self._values is not None:
            values = f"by data.mask_values: {self._values.listed}"
        return f"draw their masks as {self.folder}/IMAGE_ID.png ({values})"


class LabelTable(Oracle):
    """People: an image is labelled when the CSV file `path`, with columns unit_id and label, has a row with its class.

    A label is a class by its name or index, or void for an image of none of the classes; an empty one is not answered
    yet. A unit_id is what the column of queried.csv that is called so holds, not its `name`; one that no image has is
    refused.

    Args:
        path: The file, which need not be there yet.
        others: An image without a row keeps the class that the data set itself has for it.
        partial: Go on with the next cycle as soon as one queried image is labelled, instead of all of them.
    """

    def __init__(self, path: str, others: bool = True, partial: bool = False) -> None:
        self.path = Path(path)
        self.others = others
        self.partial = partial
        self._table: ClassTable | None = None

    def annotations(self, source: Source) -> AnnotationSource:
        if source.target != "label":
            raise DataError(
                f"data.oracle LabelTable reads one class per image, but {type(source).__name__} has masks; set it to "
                "datamodules.oracle.FolderOracle"
            )
        self._table = ClassTable(self.path, source.class_names, source if self.others else None)
        return self._table

    def named(self) -> Collection[str]:
        return self._table.rows().keys() if self._table is not None else ()

    def instructions(self) -> str:
        return f"write their classes into {self.path} (CSV with the columns unit_id and label; void for no class)"
