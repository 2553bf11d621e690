"""A data set that is labelled little by little."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from torch.utils.data import DataLoader

from datamodules.datasets import EpochSampler, UnitDataset, check_mask, collate_units, shard
from datamodules.initial import AllAnswered, InitialSet
from datamodules.ledger import AlreadyLabelledError, Ledger, Queried
from datamodules.oracle import HiddenTruth, Oracle
from datamodules.transforms import eval_transform, train_transform
from datamodules.units import DataError, Unit, image_size, read_image, read_mask

__all__ = ["PoolDataModule"]


class PoolDataModule(pl.LightningDataModule):
    """A labelled split, a pool and a validation split, with the ledger that says which is which.

    A subclass gives `class_names` and `find_units`, and reads its own masks where they need decoding.

    run_dir: where `ledger.sqlite` stands. seed: of the initial set, shuffling and augmentation. initial: the
    labelled set of cycle 0, chosen among the units that the oracle has answered. oracle: who answers queries.
    image_size: (height, width) to which every image and mask is resized first, or None. crop_size: (height,
    width) of training crops after random scaling, or None for whole images. batch_size: per process.
    eval_batch_size: for validation and queries, batch_size unless given.
    """

    def __init__(
        self,
        run_dir: str = "runs/default",
        seed: int = 0,
        initial: InitialSet | None = None,
        oracle: Oracle | None = None,
        image_size: Sequence[int] | None = None,
        crop_size: Sequence[int] | None = None,
        scale: Sequence[float] = (0.5, 2.0),
        flip: float = 0.5,
        batch_size: int = 8,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        # one ledger for all nodes
        self.prepare_data_per_node = False
        self.run_dir = Path(run_dir)
        self.seed = seed
        self.initial = initial or AllAnswered()
        self.oracle = oracle or HiddenTruth()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = num_workers
        self._train_transform = train_transform(image_size, crop_size, scale, flip)
        self._eval_transform = eval_transform(image_size)
        self._splits: dict[str, dict[str, Unit]] = {}
        self._ledger: Ledger | None = None

    @property
    @abstractmethod
    def class_names(self) -> Sequence[str]:
        """Names of the classes 0, 1, ..."""

    @abstractmethod
    def find_units(self, split: str) -> list[Unit]:
        """Units of "train", "val" or "test" with every mask there is; empty where there is no such split."""

    def read_image(self, unit: Unit) -> np.ndarray:
        """H x W x 3, uint8."""
        assert unit.image is not None
        return read_image(unit.image)

    def read_mask(self, unit: Unit) -> np.ndarray:
        """H x W, uint8: class indices, or 255 for void."""
        if unit.mask is None:
            raise DataError(f"unit {unit.unit_id!r} has no mask; draw it, or take the image out of the labelled split")
        return read_mask(unit.mask)

    def size(self, unit: Unit) -> tuple[int, int]:
        """Height and width as annotators see the unit, before any resizing."""
        assert unit.image is not None
        return image_size(unit.image)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run directory, opened when first needed."""
        if self._ledger is None:
            self._ledger = Ledger(self.run_dir / "ledger.sqlite")
        return self._ledger

    @property
    def num_classes(self) -> int:
        """How many classes."""
        return len(self.class_names)

    @property
    def labelled_units(self) -> list[Unit]:
        """Units whose label may be used for training, with their masks, in the order of labelling."""
        return [self._answered(unit_id) for unit_id in self.ledger.labelled()]

    @property
    def pool(self) -> list[Unit]:
        """Units not labelled yet, in order of their ids, without their masks."""
        labelled = set(self.ledger.labelled())
        return [replace(u, mask=None) for i, u in sorted(self._units("train").items()) if i not in labelled]

    def prepare_data(self) -> None:
        """Before a fit: label the initial set if nothing is labelled yet."""
        if self.trainer is None or self.trainer.state.fn == TrainerFn.FITTING:
            self.start()

    def start(self) -> None:
        """Label the initial set if nothing is labelled yet."""
        if self.ledger.labelled():
            return
        answered = [a for u in self._units("train").values() if (a := self.oracle.answer(u)) and self._has_mask(a)]
        chosen = self.initial.choose(answered, self, self.num_classes, self.seed)
        if not chosen:
            raise DataError(f"no unit is labelled, so there is nothing to train on: {self.oracle.instructions()}")
        self.ledger.start([(u.unit_id, self._checked_pixels(u)) for u in chosen])

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
        """Refuse a query while units of the one before wait for somebody."""
        if waiting := self.ledger.waiting(self.ledger.cycle):
            raise DataError(
                f"cycle {self.ledger.cycle} has been queried and {len(waiting)} of its units wait for a label "
                f"({waiting[0]!r} first); {self.oracle.instructions()}, then run fit"
            )

    def collect(self) -> list[str]:
        """Label the open cycle's queried units that have been answered since; returns those still waiting.

        The cycle closes when none waits, or when some were answered and the oracle is content with a part.
        """
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
            raise DataError(f"unit {missing[0]!r} cannot be labelled: it has no mask yet; {self.oracle.instructions()}")
        self.ledger.label(self.ledger.cycle, answers)

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The labelled split, shuffled and augmented; every batch is full."""
        units = self.labelled_units
        dataset = self._dataset(units, self._train_transform, masks=True)
        sampler = EpochSampler(len(units), self.batch_size, self.seed, *self._place())
        return self._loader(dataset, self.batch_size, sampler)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The validation split, as it is."""
        return self._evaluation("val")

    def test_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The test split, or the validation split where there is none."""
        return self._evaluation("test" if self._units("test") else "val")

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """The pool without masks."""
        return self.pool_dataloader(self.pool)

    def pool_dataloader(self, units: Sequence[Unit]) -> DataLoader[dict[str, Any]]:
        """This process's share of some units of the pool: no masks, no augmentation, no shuffling."""
        dataset = self._dataset(shard(units, *self._place()), self._eval_transform, masks=False)
        return self._loader(dataset, self.eval_batch_size)

    def truth_dataloader(self, units: Sequence[Unit]) -> DataLoader[dict[str, Any]]:
        """`pool_dataloader` with the masks that the data set has, for strategies declared as oracle strategies."""
        if not self.oracle.knows_truth:
            raise DataError(
                "an oracle strategy looks at the truth of the pool, which only a simulation has: expected data.oracle "
                f"HiddenTruth, got {type(self.oracle).__name__}; choose another strategy"
            )
        known = [self._units("train")[u.unit_id] for u in units]
        dataset = self._dataset(shard(known, *self._place()), self._eval_transform, masks=True)
        return self._loader(dataset, self.eval_batch_size)

    def sizes(self, unit_ids: Sequence[str]) -> list[tuple[int, int]]:
        """`size` of units of the train split."""
        units = self._units("train")
        return [self.size(units[u]) for u in unit_ids]

    def read_truth(self, unit_id: str) -> np.ndarray | None:
        """The mask of a unit of the pool where the data set has one: for pictures, never for scores."""
        unit = self._units("train")[unit_id]
        return self.read_mask(unit) if self._has_mask(unit) else None

    def _has_mask(self, unit: Unit) -> bool:
        return unit.mask is not None

    def _units(self, split: str) -> dict[str, Unit]:
        if split not in self._splits:
            units = self.find_units(split)
            if not units and split != "test":
                raise DataError(f"expected at least one image in the {split} split of {type(self).__name__}, got none")
            self._splits[split] = {u.unit_id: u for u in units}
        return self._splits[split]

    def _answered(self, unit_id: str) -> Unit:
        unit = self._units("train").get(unit_id)
        if unit is None:
            raise DataError(
                f"the ledger {self.ledger.path} lists the labelled unit {unit_id!r}, which the data set no longer has; "
                "put the image back, or start a new run directory"
            )
        answer = self.oracle.answer(unit)
        if answer is None:
            raise DataError(
                f"the mask of the labelled unit {unit_id!r} has gone; put it back: {self.oracle.instructions()}"
            )
        return answer

    def _answers(self, unit_ids: Sequence[str]) -> list[tuple[str, int]]:
        self._check_known(unit_ids)
        units = (self.oracle.answer(self._units("train")[u]) for u in unit_ids)
        return [(u.unit_id, self._checked_pixels(u)) for u in units if u is not None]

    def _check_known(self, unit_ids: Sequence[str]) -> None:
        unknown = [u for u in unit_ids if u not in self._units("train")]
        if unknown:
            raise DataError(f"a query may only name units of the pool, got {unknown[0]!r}")
        twice = [u for u, times in Counter(unit_ids).items() if times > 1]
        if twice:
            raise DataError(f"a query may name a unit once, got {twice[0]!r} twice")

    def _checked_pixels(self, unit: Unit) -> int:
        image = self.read_image(unit)
        check_mask(unit, image, self.read_mask(unit), self.num_classes)
        return int(image.shape[0] * image.shape[1])

    def _evaluation(self, split: str) -> DataLoader[dict[str, Any]]:
        units = list(self._units(split).values())
        rank, world_size = self._place()
        if len(units) < world_size:
            raise DataError(
                f"the {split} split has {len(units)} images for {world_size} processes; use fewer devices or add images"
            )
        units = shard(units, rank, world_size)
        return self._loader(self._dataset(units, self._eval_transform, masks=True), self.eval_batch_size)

    def _dataset(self, units: Sequence[Unit], transform: Any, masks: bool) -> UnitDataset:
        return UnitDataset(units, self, transform, self.num_classes, masks, self.seed)

    def _loader(
        self, dataset: UnitDataset, batch_size: int, sampler: EpochSampler | None = None
    ) -> DataLoader[dict[str, Any]]:
        pin = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        # by keyword, because Lightning makes the loader again with another sampler for predict
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate_units,
            pin_memory=pin,
        )

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
