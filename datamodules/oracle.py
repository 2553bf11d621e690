"""Who answers a query: hidden ground truth, or people who fill a folder or a table."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from acquisition.annotation import UNANSWERED, VOID
from acquisition.identity import Described
from datamodules.annotations import AnnotationSource, ClassTable, LabelledUnits, MaskFolder
from datamodules.files import DataError
from datamodules.objects import DrawnObjects, LabelledObjects
from datamodules.sources.source import Source
from datamodules.units import Units
from records.ledger import Labelled

__all__ = ["FolderOracle", "HiddenTruth", "LabelTable", "Oracle", "WholeObjects"]


class Oracle(Described, ABC):
    """An annotation source of answers, and its instructions for people."""

    partial: bool = False
    """Whether a cycle may go on when only some of its units are labelled."""
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
        """What answers cost, as the ledger records it: a unit's pixels, unless more is drawn with it.

        Args:
            units: Of the train split.
            labelled: Ids of the units that were labelled before.
            answered: Ids of units, in the order in which they are labelled.
        """
        return list(zip(answered, units.pixels(answered), strict=True))

    @abstractmethod
    def instructions(self) -> str:
        """What people have to do, in one sentence."""


class HiddenTruth(Oracle):
    """Simulation: the data set has every label already and answers at once."""

    knows_truth = True

    def annotations(self, source: Source) -> AnnotationSource:
        return source

    def instructions(self) -> str:
        return "the ground truth answers at once"


class WholeObjects(HiddenTruth):
    """Simulation in which every object that a queried unit overlaps is drawn completely.

    That is what annotators do in SuperAnnotate 2020, "Active Learning for Semantic Segmentation".

    Objects are the data set's instances, or else connected parts of a class (see `Source.read_instances`). Nothing is
    paid twice: the ledger has a unit's newly labelled pixels and objects. A unit that is void throughout is labelled,
    and brings nothing.
    """

    def labelled_part(
        self, annotations: AnnotationSource, units: Units, labelled: Mapping[str, Sequence[int]]
    ) -> AnnotationSource:
        return LabelledObjects(units.source, units.partition, labelled)

    def costs(self, units: Units, labelled: Collection[str], answered: Sequence[str]) -> list[Labelled]:
        before: dict[str, list[int]] = {}
        for unit_id in labelled:
            image_id, k = units.location[unit_id]
            before.setdefault(image_id, []).append(k)
        now: dict[str, list[str]] = {}
        for unit_id in answered:
            now.setdefault(units.image_of(unit_id), []).append(unit_id)
        found: dict[str, tuple[int, int]] = {}
        for image_id, unit_ids in now.items():
            drawn = DrawnObjects(units.source, units.partition, image_id)
            drawn.add(before.get(image_id, []))
            for unit_id in unit_ids:
                found[unit_id] = drawn.add([units.location[unit_id][1]])
        return [(unit_id, *found[unit_id]) for unit_id in answered]


class FolderOracle(Oracle):
    """People: an image is labelled when `folder`/IMAGE_ID.png exists. Masks of the data set itself are not looked at.

    Where units are parts of images, those are labelled of whose pixels none is 254, which stands for "not drawn yet".

    Args:
        folder: Where the masks appear.
        partial: Go on with the next cycle as soon as one queried unit is drawn, instead of all of them.
    """

    def __init__(self, folder: str, partial: bool = False) -> None:
        self.folder = Path(folder)
        self.partial = partial

    def annotations(self, source: Source) -> AnnotationSource:
        if source.target != "mask":
            raise DataError(
                f"data.oracle FolderOracle reads masks, but {type(source).__name__} has images with one class each; "
                "set it to datamodules.oracle.LabelTable"
            )
        return MaskFolder(self.folder)

    def instructions(self) -> str:
        return (
            f"draw their masks as {self.folder}/IMAGE_ID.png (8-bit grey, class indices, {VOID} for void, {UNANSWERED} "
            "for what is not drawn yet)"
        )


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
