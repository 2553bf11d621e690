"""A data set that is labelled little by little."""

import copy
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from acquisition.identity import Described
from datamodules.datasets import shard
from datamodules.initial import AllAnswered, InitialSet
from datamodules.oracle import HiddenTruth, Oracle
from datamodules.units import DataError, Unit
from records.ledger import AlreadyLabelledError, Ledger, Queried
from records.run_directory import RunDirectory

__all__ = ["PoolDataModule"]

_UNSEEN = frozenset({"run_dir", "seed", "initial", "oracle", "batch_size", "eval_batch_size", "num_workers"})
"""Arguments that change neither an image nor its truth."""


class PoolDataModule(Described, pl.LightningDataModule):
    """A labelled split, a pool and a validation split, with the ledger that says which is which.

    What a label is, and how images are read, is for its subclasses: `MaskPool` (a mask per image), `TensorPool` (a
    class per image, all in memory) and `ClassFolders`. A data set then gives `class_names` and `find_units`.

    run_dir: where `ledger.sqlite` stands. seed: of the initial set, shuffling and augmentation. initial: the
    labelled set of cycle 0, chosen among the units that the oracle has answered. oracle: who answers queries.
    batch_size: per process. eval_batch_size: for validation and queries, batch_size unless given.
    """

    label_word: ClassVar[str] = "label"
    """What a label is called in messages."""
    people: ClassVar[str] = "datamodules.oracle.LabelTable"
    """The oracle by which people answer."""

    def __init__(
        self,
        run_dir: str = "runs/default",
        seed: int = 0,
        initial: InitialSet | None = None,
        oracle: Oracle | None = None,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size)):
            if size is not None and size < 1:
                raise DataError(f"data.{name} must be at least 1, got {size}")
        # one ledger for all nodes
        self.prepare_data_per_node = False
        self.run_dir = Path(run_dir)
        self.seed = seed
        self.initial = initial or AllAnswered()
        self.oracle = oracle or HiddenTruth()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self._splits: dict[str, dict[str, Unit]] = {}
        self._ledger: Ledger | None = None

    def __getstate__(self) -> dict[str, Any]:
        # what a loader's process reads with; connection and trainer belong to this process
        return {**self.__dict__, "_ledger": None, "trainer": None}

    @property
    @abstractmethod
    def class_names(self) -> Sequence[str]:
        """Names of the classes 0, 1, ..."""

    @abstractmethod
    def find_units(self, split: str) -> list[Unit]:
        """Units of "train", "val" or "test" with every label there is; empty where there is no such split."""

    @abstractmethod
    def loader(self, units: Sequence[Unit], training: bool, labels: bool) -> DataLoader[dict[str, Any]]:
        """Batches {"unit_id": N names, "image": N x C x H x W float32[, and the labels]} of this process.

        training: shuffled, augmented, every batch full, this process's share; otherwise the units as they are.
        labels: whether labels are read at all.
        """

    @abstractmethod
    def size(self, unit: Unit) -> tuple[int, int]:
        """Height and width as annotators see the unit, before any resizing."""

    @abstractmethod
    def has_label(self, unit: Unit) -> bool:
        """Whether the unit comes with its label."""

    @abstractmethod
    def read_label(self, unit: Unit) -> np.ndarray:
        """Class indices, or 255 for void: the mask, H x W, or the image's class, of no dimension."""

    @abstractmethod
    def checked_pixels(self, unit: Unit) -> int:
        """How many pixels the unit has, once its label is known to be what it should be."""

    @abstractmethod
    def to_display(self, image: np.ndarray) -> np.ndarray:
        """A normalised C x H x W image, as loaders give it, to H x W x 3, uint8."""

    def answer(self, unit: Unit) -> Unit | None:
        """The unit as the oracle labels it, or None while it has not."""
        return self.oracle.answer(unit)

    def check_initial(self, chosen: Sequence[Unit]) -> None:
        """Refuse an initial set that cannot be trained on."""
        if not chosen:
            raise DataError(f"no unit is labelled, so there is nothing to train on: {self.oracle.instructions()}")

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run directory, opened when first needed."""
        if self._ledger is None:
            self._ledger = Ledger(RunDirectory(self.run_dir).ledger)
        return self._ledger

    def at(self, run_dir: Path, seed: int) -> Self:
        """The same data for another run: what has been read is shared, the ledger is not."""
        other = copy.copy(self)
        other.run_dir, other.seed, other._ledger = run_dir, seed, None
        return other

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return len(self.class_names)

    @property
    def labelled_units(self) -> list[Unit]:
        """Units whose label may be used for training, with their labels, in the order of labelling."""
        return [self._answered(unit_id) for unit_id in self.ledger.labelled()]

    @property
    def training_units(self) -> list[Unit]:
        """Labelled units that bring a training sample: all of them, unless a subclass knows better."""
        return self.labelled_units

    @property
    def pool(self) -> list[Unit]:
        """Units not labelled yet, in order of their ids, without their labels."""
        labelled = set(self.ledger.labelled())
        return [Unit(u.unit_id, u.image) for i, u in sorted(self._units("train").items()) if i not in labelled]

    def prepare_data(self) -> None:
        """Before a fit: label the initial set if nothing is labelled yet."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            self.start()

    def start(self) -> None:
        """Label the initial set if nothing is labelled yet."""
        self._check_named()
        if self.ledger.labelled():
            return
        answered = [a for u in self._units("train").values() if (a := self.answer(u)) and self.has_label(a)]
        chosen = self.initial.choose(answered, self, self.num_classes, self.seed)
        self.check_initial(chosen)
        self.ledger.start([(u.unit_id, self.checked_pixels(u)) for u in chosen])

    def ask(self, chosen: Sequence[Queried], strategy: str) -> list[str]:
        """Record what the open cycle queries and label what the oracle answers at once, in one transaction.

        Returns the ids that wait for somebody. The cycle closes when none does.
        """
        self._check_known([q.unit_id for q in chosen])
        self.check_open()
        again = {q.unit_id for q in chosen} & set(self.ledger.labelled())
        if again:
            raise AlreadyLabelledError(
                f"a query may only name units of the pool, but {min(again)!r} is labelled already"
            )
        answered = self._answers([q.unit_id for q in chosen])
        self.ledger.query(self.ledger.cycle, strategy, chosen, answered)
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
        """Label the open cycle's queried units that have been answered since; returns those still waiting.

        The cycle closes when none waits, or when some were answered and the oracle is content with a part.
        """
        self._check_named()
        cycle = self.ledger.cycle
        queried, waiting = self.ledger.queried(cycle), self.ledger.waiting(cycle)
        answered = self._answers(waiting)
        labelled = len(queried) - len(waiting) + len(answered)
        # units may have been labelled before, by `label` or because a mask was there when they were queried
        close = bool(labelled) and (self.oracle.partial or labelled == len(queried))
        if answered or close:
            self.ledger.label(cycle, answered, close)
        return self.ledger.waiting(cycle)

    def label(self, unit_ids: Sequence[str]) -> None:
        """Move units from the pool to the labelled split, all or none; the oracle must have answered them."""
        answers = self._answers(unit_ids)
        missing = sorted(set(unit_ids) - {u for u, _ in answers})
        if missing:
            raise DataError(
                f"unit {missing[0]!r} cannot be labelled: it has no {self.label_word} yet; {self.oracle.instructions()}"
            )
        self.ledger.label(self.ledger.cycle, answers)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The labelled split, shuffled and augmented; every batch is full."""
        return self.loader(self.training_units, training=True, labels=True)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation split, as it is."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test split, or the validation split where there is none."""
        return self._evaluation("test" if self._units("test") else "val")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The pool without labels."""
        return self.pool_dataloader(self.pool)

    def pool_dataloader(self, units: Sequence[Unit]) -> DataLoader[dict[str, Any]]:
        """This process's share of some units of the pool: no labels, no augmentation, no shuffling."""
        return self.loader(shard(units, *self.rank_and_world_size), training=False, labels=False)

    def truth_dataloader(self, units: Sequence[Unit]) -> DataLoader[dict[str, Any]]:
        """`pool_dataloader` with the labels that the data set has, for strategies declared as oracle strategies."""
        self.check_truth()
        known = [self._units("train")[u.unit_id] for u in units]
        return self.loader(shard(known, *self.rank_and_world_size), training=False, labels=True)

    def check_truth(self) -> None:
        """Refuse an oracle strategy where people label."""
        if not self.oracle.knows_truth:
            raise DataError(
                "an oracle strategy looks at the truth of the pool, which only a simulation has: expected data.oracle "
                f"HiddenTruth, got {type(self.oracle).__name__}; choose another strategy"
            )

    def view(self, units: Sequence[Unit], labels: bool) -> str:
        """What scores of these units depend on: every argument but those that change no image, and each file's size
        and time. labels: whether the labels are read too. Text, equal in every process.
        """
        shown = [self._units("train")[u.unit_id] if labels else u for u in units]
        files = [_stamp(p) for u in shown for p in (u.image, u.mask)]
        return repr((self.description(_UNSEEN), shown, files))

    def sizes(self, unit_ids: Sequence[str]) -> list[tuple[int, int]]:
        """`size` of units of the train split."""
        units = self._units("train")
        return [self.size(units[u]) for u in unit_ids]

    def read_truth(self, unit_id: str) -> np.ndarray | None:
        """`read_label` of a unit of the pool where the data set has one: for pictures, never for scores."""
        unit = self._units("train")[unit_id]
        return self.read_label(unit) if self.has_label(unit) else None

    @property
    def rank_and_world_size(self) -> tuple[int, int]:
        """Rank of this process and number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    @property
    def progress(self) -> tuple[int, int]:
        """The epoch that the fit is in and how many of its batches it has seen: more than 0 where it was resumed."""
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    @property
    def pins_memory(self) -> bool:
        """Whether batches go to a GPU."""
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _units(self, split: str) -> dict[str, Unit]:
        if split not in self._splits:
            units = self.find_units(split)
            if not units and split != "test":
                raise DataError(f"expected at least one image in the {split} split of {type(self).__name__}, got none")
            self._splits[split] = {u.unit_id: u for u in units}
        return self._splits[split]

    def _check_oracle(self) -> None:
        self._check_named()
        units = self._units("train").values()
        missing = [u.unit_id for u in units if not self.has_label(u)] if self.oracle.knows_truth else []
        if missing:
            raise DataError(
                f"data.oracle {type(self.oracle).__name__} answers with the data set's own {self.label_word}s, but "
                f"{len(missing)} of {len(units)} units have none ({missing[0]!r} first); add them or take the images "
                f"out, or let people answer: set data.oracle to {self.people}"
            )

    def _check_named(self) -> None:
        splits = ("train", "val", "test")
        strangers = [i for i in self.oracle.named() if not any(i in self._units(split) for split in splits)]
        if strangers:
            raise DataError(
                f"data.oracle has an answer for {strangers[0]!r} ({len(strangers)} such ids), which is no unit of the "
                f"data set (ids look like {next(iter(self._units('train')))!r}); correct the unit_id: "
                f"{self.oracle.instructions()}"
            )

    def _answered(self, unit_id: str) -> Unit:
        unit = self._units("train").get(unit_id)
        if unit is None:
            raise DataError(
                f"the ledger {self.ledger.path} lists the labelled unit {unit_id!r}, which the data set no longer has; "
                "put the image back, or start a new run directory"
            )
        answer = self.answer(unit)
        if answer is None:
            raise DataError(
                f"the {self.label_word} of the labelled unit {unit_id!r} has gone; put it back: "
                f"{self.oracle.instructions()}"
            )
        return answer

    def _answers(self, unit_ids: Sequence[str]) -> list[tuple[str, int]]:
        self._check_known(unit_ids)
        units = (self.answer(self._units("train")[u]) for u in unit_ids)
        return [(u.unit_id, self.checked_pixels(u)) for u in units if u is not None]

    def _check_known(self, unit_ids: Sequence[str]) -> None:
        unknown = [u for u in unit_ids if u not in self._units("train")]
        if unknown:
            raise DataError(f"a query may only name units of the pool, got {unknown[0]!r}")
        twice = [u for u, times in Counter(unit_ids).items() if times > 1]
        if twice:
            raise DataError(f"a query may name a unit once, got {twice[0]!r} twice")

    def _evaluation(self, split: str) -> DataLoader[dict[str, Any]]:
        units = list(self._units(split).values())
        rank, world_size = self.rank_and_world_size
        if len(units) < world_size:
            raise DataError(
                f"the {split} split has {len(units)} images for {world_size} processes; use fewer devices or add images"
            )
        return self.loader(shard(units, rank, world_size), training=False, labels=True)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        # whoever reads the file says so better
        found = None
    return found and (found.st_size, found.st_mtime_ns)
