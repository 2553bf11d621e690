"""Images that several people have drawn."""

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from acquisition.seeding import uniform_for
from datamodules.masks import MaskPool
from datamodules.units import VOID, DataError, Unit
from datamodules.votes import majority

__all__ = ["MAJORITY", "RANDOM", "MultiAnnotatorPool"]

MAJORITY, RANDOM = "majority", "random"


class MultiAnnotatorPool(MaskPool):
    """Several annotators' masks of the same images, each of any subset; a subclass reads them.

    An image that somebody has not drawn is not in that person's splits: missing is not background.

    annotator: whose masks to train and validate on: a name, "majority" (ties void, see `votes.majority`), or "random":
    one of those who drew the unit, drawn from (seed, epoch, unit) for training, and the majority otherwise. folds and
    fold: the images of fold number `fold` of `folds` are the validation split; an image's fold is a hash of its name
    alone, so that it stays when images, masks or annotators are added, and for every seed and annotator.
    The other arguments are those of `MaskPool`.
    """

    def __init__(self, annotator: str = MAJORITY, folds: int = 5, fold: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if folds < 2:
            raise ValueError(f"folds must be at least 2, one to validate on and one to train on, got {folds}")
        if not 0 <= fold < folds:
            raise ValueError(f"fold must be from 0 to {folds - 1} (data.folds is {folds}), got {fold}")
        self.annotator = annotator
        self.folds = folds
        self.fold = fold

    @property
    @abstractmethod
    def annotators(self) -> list[str]:
        """Names of the annotators, sorted; at least two."""

    @abstractmethod
    def images(self) -> list[Unit]:
        """Every image, drawn or not, in order of their ids."""

    @abstractmethod
    def annotators_of(self, unit_id: str) -> list[str]:
        """Who drew an image, sorted."""

    @abstractmethod
    def read_annotation(self, unit_id: str, annotator: str) -> np.ndarray:
        """One person's mask, H x W uint8: class indices or `VOID`, of the image's size."""

    def read_repeats(self, unit_id: str) -> dict[str, np.ndarray]:
        """The same people's second drawings of an image, where there are any."""
        return {}

    def fold_of(self, unit_id: str) -> int:
        """Which fold an image is in, by its name alone."""
        return int(uniform_for("fold", unit_id) * self.folds)

    def evaluation_units(self, fold: int) -> list[Unit]:
        """Images of a fold that at least two people drew, whoever `annotator` is, without masks."""
        in_fold = [u for u in self.images() if self.fold_of(u.unit_id) == fold]
        return [u for u in in_fold if len(self.annotators_of(u.unit_id)) > 1]

    def annotations(self, unit_id: str, resized: bool = False) -> dict[str, np.ndarray]:
        """Each person's mask of an image, H x W uint8, only of those who drew it.

        At the image's own size, or resized as the network's masks are (image_size, nearest neighbour).
        """
        return self._sized({a: self.read_annotation(unit_id, a) for a in self.annotators_of(unit_id)}, resized)

    def repeats_of(self, unit_id: str, resized: bool = False) -> dict[str, np.ndarray]:
        """`annotations`, of the same people's second drawings; empty where there are none."""
        return self._sized(self.read_repeats(unit_id), resized)

    def find_units(self, split: str) -> list[Unit]:
        if split == "test":
            return []
        drawn = [u for u in self.images() if self._drawers(u.unit_id)]
        found = [u for u in drawn if (self.fold_of(u.unit_id) == self.fold) == (split == "val")]
        if not found:
            place = "in" if split == "val" else "outside"
            raise DataError(
                f"expected at least one image {place} fold {self.fold} of {self.folds} that is drawn by "
                f"{self.annotator!r}, got none of {len(drawn)}; choose another data.fold or number of data.folds"
            )
        return found

    def read_mask(self, unit: Unit) -> np.ndarray:
        if unit.mask is not None:  # an oracle has answered with a file of its own
            return super().read_mask(unit)
        if self.annotator in self.annotators:
            return self.read_annotation(unit.unit_id, self.annotator)
        return majority(list(self.annotations(unit.unit_id).values()), self.num_classes)

    def read_training_mask(self, unit: Unit, epoch: int) -> np.ndarray:
        if self.annotator != RANDOM or unit.mask is not None:
            return self.read_mask(unit)
        names = self._drawers(unit.unit_id)
        return self.read_annotation(
            unit.unit_id, names[int(uniform_for(self.seed, "annotator", epoch, unit.unit_id) * len(names))]
        )

    def start(self) -> None:
        if not self.ledger.labelled():
            self._check_not_empty()
        super().start()

    def has_label(self, unit: Unit) -> bool:
        return unit.mask is not None or bool(self._drawers(unit.unit_id))

    def _drawers(self, unit_id: str) -> list[str]:
        return [a for a in self.annotators_of(unit_id) if a in self._chosen]

    @cached_property
    def _chosen(self) -> list[str]:
        clash = {MAJORITY, RANDOM} & set(self.annotators)
        if clash:
            raise DataError(f"no annotator may be called {clash.pop()!r}, a word of data.annotator; rename the folder")
        if self.annotator in (MAJORITY, RANDOM):
            return self.annotators
        if self.annotator not in self.annotators:
            raise DataError(
                f"expected data.annotator to be {MAJORITY!r}, {RANDOM!r} or one of {', '.join(self.annotators)}, got "
                f"{self.annotator!r}"
            )
        return [self.annotator]

    def _check_not_empty(self) -> None:
        units = list(self._units("train").values())
        for name in self._chosen:
            drawn = [u.unit_id for u in units if name in self.annotators_of(u.unit_id)]
            if not drawn or any(_holds_something(self.read_annotation(u, name)) for u in drawn):
                continue
            problem = f"all {len(drawn)} masks that {name!r} drew outside fold {self.fold} are background or void"
            if len(self._chosen) == 1:
                raise DataError(f"{problem}: there is nothing to learn; check them or choose another data.annotator")
            rank_zero_warn(f"{problem}; they count all the same, so take them out if that is wrong")
        if self.annotator == MAJORITY and not any(_holds_something(self.read_mask(u)) for u in units):
            raise DataError("the majority's masks are all empty: there is nothing to learn; check the masks")

    def _sized(self, masks: dict[str, np.ndarray], resized: bool) -> dict[str, np.ndarray]:
        if not (resized and masks):
            return masks
        blank = np.zeros((*next(iter(masks.values())).shape, 3), dtype=np.uint8)
        return {a: self._eval_transform(blank, m)["mask"].numpy() for a, m in masks.items()}


def _holds_something(mask: np.ndarray) -> bool:
    return bool(((mask != 0) & (mask != VOID)).any())
