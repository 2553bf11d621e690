"""What is labelled, what is not, and how units move: the units of a data set, their oracle and their ledger."""

import copy
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.annotations import AnnotationSource, FirstToSay
from datamodules.beginning import PEOPLE, check_initial, not_begun
from datamodules.checks import check_known, check_mask, check_named
from datamodules.files import DataError
from datamodules.initial import InitialSet
from datamodules.oracle import Oracle
from datamodules.partitions import Partition
from datamodules.sources.source import Source
from datamodules.survey_checks import check_masks
from datamodules.units import Units
from records.ledger import AlreadyLabelledError, Labelled, Ledger, Queried
from records.run_directory import RunDirectory

__all__ = ["Pool"]


class Pool:
    """The train split of a data set as units, with the ledger that says which are labelled.

    Args:
        source: The data set.
        partition: What the units of its images are.
        oracle: Who answers queries.
        initial: The labelled set of cycle 0, chosen among the units that the oracle has answered.
        run_dir: Where the ledger stands.
        seed: Of the initial set.
        allow_missing_classes: Let the first fit begin without an image, or a mask, of every class.
        max_void: Share of void pixels above which masks are refused before the first fit.
    """

    def __init__(
        self,
        source: Source,
        partition: Partition,
        oracle: Oracle,
        initial: InitialSet,
        run_dir: Path,
        seed: int = 0,
        allow_missing_classes: bool = False,
        max_void: float = 0.99,
    ) -> None:
        self.source = source
        self.units = Units(source, partition, run_dir)
        self.oracle = oracle
        self.annotations = oracle.annotations(source)
        # people may draw what is held out, too
        self.judge = source if oracle.knows_truth else FirstToSay([source, self.annotations])
        self.initial = initial
        self.run_dir = run_dir
        self.seed = seed
        self.allow_missing_classes = allow_missing_classes
        self.max_void = max_void
        self._ledger: Ledger | None = None

    def __getstate__(self) -> dict[str, Any]:
        # a connection belongs to its process
        return {**self.__dict__, "_ledger": None}

    def at(self, run_dir: Path, seed: int) -> Self:
        """The same data for another run: what has been read is shared, the ledger is not."""
        other = copy.copy(self)
        other.run_dir, other.seed, other._ledger = run_dir, seed, None
        return other

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run directory, opened when first needed."""
        if self._ledger is None:
            self._ledger = Ledger(RunDirectory(self.run_dir).ledger)
        return self._ledger

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return self.source.num_classes

    @property
    def labelled(self) -> list[str]:
        """Ids of the units whose label may be used, in the order of labelling; a rejected one may not.

        Raises:
            DataError: If the data set no longer has one of them, or its annotation has gone.
        """
        labelled = self.ledger.training()
        for unit_id in labelled:
            if unit_id not in self.units.location:
                raise DataError(
                    f"the ledger {self.ledger.path} lists the labelled unit {unit_id!r}, which the data set, divided "
                    f"by {self.units.partition.short_description}, does not have; put the image back, take the "
                    "partition of before, or start a new run directory"
                )
            if not self.annotations.is_annotated(self.units.image_of(unit_id)):
                raise DataError(
                    f"the {self.source.target} of the labelled unit {unit_id!r} has gone; put it back: "
                    f"{self.oracle.instructions()}"
                )
        return labelled

    @property
    def unlabelled(self) -> list[str]:
        """Ids of the units that are not labelled yet, sorted: the pool."""
        labelled = set(self.ledger.labelled())
        return [unit_id for unit_id in self.units.ids if unit_id not in labelled]

    def images(self, split: str) -> list[str]:
        """Ids of the images of "train", "val" or "test".

        Where people label, those of the validation split that nobody has drawn yet are left out.

        Raises:
            DataError: If there are none, unless it is the test split.
        """
        if split != "val" or self.oracle.knows_truth:
            return self.units.images(split)
        if judged := self.judged():
            return judged
        raise not_begun(self, self.ledger.labelled())

    def kept_for_validation(self) -> list[str]:
        """Ids of the images that are held out, whether or not anybody has drawn them."""
        return [*self.source.images("val"), *self.source.undrawn()]

    def judged(self) -> list[str]:
        """Ids of those of them that somebody has drawn; a rejected drawing is none."""
        rejected = self._rejected()
        return [i for i in self.kept_for_validation() if i not in rejected and self.judge.is_annotated(i)]

    def training_images(self) -> list[str]:
        """Ids of the images that bring a training sample, in the order in which their first unit was labelled.

        Classified images of none of the classes bring none.
        """
        images = self.units.images_of(self.labelled)
        if not images and (rejected := self.ledger.rejected()):
            raise DataError(
                f"every labelled unit was rejected in review ({min(rejected)!r} first), so there is nothing to train "
                f"on: {self.oracle.instructions()}, and record with the verb review that they are corrected"
            )
        if self.source.target == "label":
            images = [image_id for image_id in images if self.read_class(image_id) != VOID]
            if not images:
                raise DataError("every labelled image is of none of the classes, so there is nothing to train on")
        return images

    def training_annotations(self) -> AnnotationSource:
        """What trains: the annotation where something is labelled, void elsewhere."""
        labelled: dict[str, list[int]] = {}
        for unit_id in self.labelled:
            image_id, index = self.units.location[unit_id]
            labelled.setdefault(image_id, []).append(index)
        return self.oracle.labelled_part(self.annotations, self.units, labelled)

    def start(self) -> None:
        """Label the initial set if nothing is labelled yet.

        Raises:
            DataError: If there is nothing to train on, or an annotation is not what it should be.
        """
        self.check_named()
        if self.ledger.labelled():
            if not self.oracle.knows_truth:
                # a validation split whose drawings have all gone is refused before a fit
                self.images("val")
            return
        if self.units.images("train") and self.source.has_plain_masks:
            people = None if self.oracle.knows_truth else self.annotations
            check_masks(self.source, people, self.allow_missing_classes, self.max_void)
        self.source.check()
        candidates = self.answered()
        if not candidates or not (self.oracle.knows_truth or self.judged()):
            raise not_begun(self, candidates)
        chosen = self.initial.choose(candidates, self, self.num_classes, self.seed)
        check_initial(self, chosen)
        self.ledger.start(self._answers(chosen), self.oracle.labels)

    def answered(self) -> list[str]:
        """Ids of the units of the train split that have a label already, whether or not the ledger knows.

        Where people label, every annotation is read.
        """
        found = [
            u for i in self.units.images("train") if self.annotations.is_annotated(i) for u in self.units.of_image[i]
        ]
        return found if self.oracle.knows_truth else self._answered(found)

    def ask(self, chosen: Sequence[Queried], strategy: str) -> list[str]:
        """Record what the open cycle queries and label what the oracle answers at once, in one transaction.

        Args:
            chosen: Units of the pool.
            strategy: Who chose them, for the ledger.

        Returns:
            The ids of units that wait for somebody. The cycle closes when none does.

        Raises:
            DataError: If a unit is none of the train split, or units of the query before wait.
            AlreadyLabelledError: If one is labelled.
        """
        check_known([q.unit_id for q in chosen], self.units.location)
        self.check_open()
        again = {q.unit_id for q in chosen} & set(self.ledger.labelled())
        if again:
            raise AlreadyLabelledError(
                f"a query may only name units of the pool, but {min(again)!r} is labelled already"
            )
        answered = self._answers([q.unit_id for q in chosen])
        self.ledger.query(self.ledger.cycle, self.oracle.signed(strategy), chosen, answered)
        return self.ledger.waiting(self.ledger.cycle) if len(answered) < len(chosen) else []

    def check_open(self) -> None:
        """Refuse a query that could never be answered, or while units of the one before wait for somebody."""
        self._check_oracle()
        if waiting := self.ledger.waiting(self.ledger.cycle):
            raise DataError(
                f"cycle {self.ledger.cycle} has been queried and {len(waiting)} of its units wait for a label "
                f"({waiting[0]!r} first); {self.oracle.instructions()}, then run fit"
            )

    def collect(self) -> list[str]:
        """Label the open cycle's queried units that have been answered since.

        The cycle closes when none waits, or when some were answered and the oracle is content with a part.

        Returns:
            The ids of those still waiting.
        """
        self.check_named()
        cycle = self.ledger.cycle
        queried, waiting = self.ledger.queried(cycle), self.ledger.waiting(cycle)
        answered = self._answers(waiting)
        self._check_names(waiting)
        labelled = len(queried) - len(waiting) + len(answered)
        # units may have been labelled before, by `label` or because a mask was there when they were queried
        close = bool(labelled) and (self.oracle.partial or labelled == len(queried))
        if answered or close:
            self.ledger.label(cycle, answered, close)
        return self.ledger.waiting(cycle)

    def label(self, unit_ids: Sequence[str]) -> None:
        """Move units from the pool to the labelled split, all or none; the oracle must have answered them."""
        answers = self._answers(unit_ids)
        missing = sorted(set(unit_ids) - {unit_id for unit_id, *_ in answers})
        if missing and missing[0] in self._rejected():
            raise DataError(
                f"unit {missing[0]!r} cannot be labelled: its {self.source.target} was rejected in review; correct it, "
                "and record that with the verb review"
            )
        if missing:
            raise DataError(
                f"unit {missing[0]!r} cannot be labelled: it has no {self.source.target} yet; "
                f"{self.oracle.instructions()}"
            )
        self.ledger.label(self.ledger.cycle, answers)

    def check_truth(self) -> None:
        """Refuse an oracle strategy where people label."""
        if not self.oracle.knows_truth:
            raise DataError(
                "an oracle strategy looks at the truth of the pool, which only a simulation has: expected data.oracle "
                f"HiddenTruth, got {type(self.oracle).__name__}; choose another strategy"
            )

    def image_of(self, unit_id: str) -> str:
        """Id of the image that a unit is part of."""
        return self.units.image_of(unit_id)

    def read_labels(
        self, unit_ids: Iterable[str], source: AnnotationSource | None = None
    ) -> Iterator[tuple[str, np.ndarray]]:
        """What is said of units, image by image, so that each is read once.

        Args:
            unit_ids: Units of the train split, in any order.
            source: Who says it; the oracle unless given.

        Yields:
            A unit's id, and class indices or `VOID`: of its pixels, P, or of a classified image, of no dimension.
        """
        by_image: dict[str, list[str]] = {}
        for unit_id in unit_ids:
            by_image.setdefault(self.units.image_of(unit_id), []).append(unit_id)
        for image_id, units in by_image.items():
            annotation = self._checked(image_id, source)
            index = self.units.index_map(image_id, annotation.shape) if annotation.ndim else annotation
            for unit_id in units:
                k = self.units.location[unit_id][1]
                yield unit_id, annotation[index == k] if annotation.ndim else annotation

    def read_class(self, image_id: str) -> int:
        """The class of a classified image as the oracle gives it, or `VOID`."""
        return int(self._checked(image_id))

    def read_truth(self, unit_id: str) -> np.ndarray | None:
        """The data set's own annotation of a unit's image, if it has one: for pictures, never for scores."""
        image_id = self.units.image_of(unit_id)
        return self._checked(image_id, self.source) if self.source.is_annotated(image_id) else None

    def read_drawn(self, image_id: str) -> np.ndarray:
        """An image's mask as far as the oracle has answered: H x W, `UNANSWERED` where nobody has drawn."""
        if self.annotations.is_annotated(image_id):
            return self._checked(image_id)
        return np.full(self.source.size(image_id), UNANSWERED, dtype=np.uint8)

    def _checked(self, image_id: str, source: AnnotationSource | None = None) -> np.ndarray:
        """An image's annotation, by the oracle unless told otherwise, refused where it is not what it should be."""
        source = source or self.annotations
        annotation = source.read_annotation(image_id)
        if self.source.target == "mask":
            where = source.annotation_path(image_id) or image_id
            check_mask(where, self.source.size(image_id), annotation, self.num_classes)
        return annotation

    def costs(self, unit_ids: Sequence[str]) -> list[Labelled]:
        """What the oracle's answers for units would cost, in their order, each beside what those before it brought."""
        return self.oracle.costs(self.units, self.ledger.labelled(), unit_ids)

    def _answers(self, unit_ids: Sequence[str]) -> list[Labelled]:
        """Those of the units that the oracle has answered, with what they cost."""
        return self.costs(self._answered(unit_ids))

    def _answered(self, unit_ids: Sequence[str]) -> list[str]:
        """Those of the units that the oracle has answered; every image's annotation is read once."""
        check_known(unit_ids, self.units.location)
        waiting: dict[str, set[int]] = {}
        for image_id in self.units.images_of(unit_ids):
            if self.annotations.is_annotated(image_id):
                annotation = self._checked(image_id)
                undrawn = annotation == UNANSWERED
                index = self.units.index_map(image_id, undrawn.shape) if undrawn.any() else undrawn
                waiting[image_id] = set(np.unique(index[undrawn]).tolist())
        located = [(u, *self.units.location[u]) for u in unit_ids if self.units.image_of(u) in waiting]
        undrawn = [(u, image_id) for u, image_id, k in located if k in waiting[image_id]]
        if undrawn and self.oracle.knows_truth:
            unit_id, image_id = undrawn[0]
            raise DataError(
                f"the data set's own mask is to answer for {unit_id!r}, but "
                f"{self.annotations.annotation_path(image_id) or 'it'} holds {UNANSWERED} there, which means that "
                f"nobody has drawn it; draw it, or let people answer: set data.oracle to {PEOPLE[self.source.target]}"
            )
        rejected = self._rejected()
        return [u for u, image_id, k in located if k not in waiting[image_id] and u not in rejected]

    def _rejected(self) -> Collection[str]:
        """Where people label: ids whose drawings wait for a correction, which counts as not drawn."""
        # a look at a data set makes no ledger
        known = not self.oracle.knows_truth and RunDirectory(self.run_dir).ledger.is_file()
        return self.ledger.rejected() if known else ()

    def _check_names(self, waiting: Sequence[str]) -> None:
        """Refuse a mask that is called like a part of an image: nobody would ever look at it."""
        parts = [] if self.oracle.knows_truth else [u for u in waiting if u != self.units.image_of(u)]
        for unit_id in parts:
            if path := self.annotations.annotation_path(unit_id):
                raise DataError(
                    f"expected the mask of a whole image, {self.units.image_of(unit_id)}{path.suffix}, got {path}, "
                    "which is called like a part of it; draw that part into the image's mask, of the image's size: "
                    f"{self.oracle.instructions()}"
                )

    def _check_oracle(self) -> None:
        self.check_named()
        images = self.units.images("train")
        missing = [i for i in images if not self.annotations.is_annotated(i)] if self.oracle.knows_truth else []
        if missing:
            raise DataError(
                f"data.oracle {type(self.oracle).__name__} answers with the data set's own {self.source.target}s, but "
                f"{len(missing)} of {len(images)} images have none ({missing[0]!r} first); add them or take the images "
                f"out, or let people answer: set data.oracle to {PEOPLE[self.source.target]}"
            )

    def check_named(self) -> None:
        """Refuse answers that are written down for images that are not there."""
        if named := self.oracle.named():
            known = {i for split in ("train", "val", "test") for i in self.source.images(split)}
            known.update(self.source.undrawn())
            check_named(named, known, self.units.images("train")[0], self.oracle.instructions())
