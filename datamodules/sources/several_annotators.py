"""Images that several people have drawn."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from acquisition.annotation import VOID
from acquisition.seeding import uniform_for
from datamodules.files import DataError
from datamodules.sources.source import Source
from datamodules.votes import majority

__all__ = ["MAJORITY", "RANDOM", "SeveralAnnotators"]

MAJORITY, RANDOM = "majority", "random"


class SeveralAnnotators(Source):
    """Several annotators' masks of the same images, each of any subset: a data set says who drew what, and reads it.

    An image that somebody has not drawn is not in that person's splits: missing is not background.

    Args:
        annotator: Whose masks to train and validate on: a name, "majority" (ties void, see `votes.majority`), or
            "random": one of those who drew the image, drawn from (seed, epoch, image) for training, and the majority
            otherwise.
        folds: Into how many parts the images fall, by a hash of their names alone, so that they stay when images, masks
            or annotators are added, and for every seed and annotator.
        fold: The number of the part that is the validation split.

    Raises:
        ValueError: If there is no such fold.
    """

    def __init__(self, annotator: str = MAJORITY, folds: int = 5, fold: int = 0) -> None:
        if folds < 2:
            raise ValueError(f"folds must be at least 2, one to validate on and one to train on, got {folds}")
        if not 0 <= fold < folds:
            raise ValueError(f"fold must be from 0 to {folds - 1} (data.source.folds is {folds}), got {fold}")
        self.annotator = annotator
        self.folds = folds
        self.fold = fold

    @property
    @abstractmethod
    def annotators(self) -> list[str]:
        """Names of the annotators, sorted; at least two."""

    @abstractmethod
    def all_images(self) -> list[str]:
        """Ids of every image, drawn or not, in their order."""

    @abstractmethod
    def annotators_of(self, image_id: str) -> list[str]:
        """Who drew an image, sorted."""

    @abstractmethod
    def read_drawing(self, image_id: str, annotator: str) -> np.ndarray:
        """One person's mask, H x W uint8: class indices or `VOID`, of the image's size."""

    def repeats(self, image_id: str) -> dict[str, np.ndarray]:
        """The same people's second drawings of an image, where there are any."""
        return {}

    def fold_of(self, image_id: str) -> int:
        """Which fold an image is in, by its name alone."""
        return int(uniform_for("fold", image_id) * self.folds)

    def evaluation_images(self, fold: int) -> list[str]:
        """Images of a fold that at least two people drew, whoever `annotator` is."""
        in_fold = [i for i in self.all_images() if self.fold_of(i) == fold]
        return [i for i in in_fold if len(self.annotators_of(i)) > 1]

    def drawings(self, image_id: str) -> dict[str, np.ndarray]:
        """Each person's mask of an image, H x W uint8, only of those who drew it."""
        return {a: self.read_drawing(image_id, a) for a in self.annotators_of(image_id)}

    def images(self, split: str) -> Sequence[str]:
        if split == "test":
            return []
        drawn = [i for i in self.all_images() if self._drawers(i)]
        found = [i for i in drawn if (self.fold_of(i) == self.fold) == (split == "val")]
        if not found:
            where = "in" if split == "val" else "outside"
            raise DataError(
                f"expected at least one image {where} fold {self.fold} of {self.folds} that is drawn by "
                f"{self.annotator!r}, got none of {len(drawn)}; choose another data.source.fold or number of "
                "data.source.folds"
            )
        return found

    def is_annotated(self, image_id: str) -> bool:
        return bool(self._drawers(image_id))

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        if self.annotator in self.annotators:
            return self.read_drawing(image_id, self.annotator)
        if self.annotator == RANDOM and draw is not None:
            seed, epoch = draw
            names = self._drawers(image_id)
            chosen = names[int(uniform_for(seed, "annotator", epoch, image_id) * len(names))]
            return self.read_drawing(image_id, chosen)
        return majority(list(self.drawings(image_id).values()), self.num_classes)

    def check(self) -> None:
        """Refuse masks that are all empty, and name annotators whose masks are."""
        images = self.images("train")
        for name in self._chosen:
            drawn = [i for i in images if name in self.annotators_of(i)]
            if not drawn or any(_holds_something(self.read_drawing(i, name)) for i in drawn):
                continue
            problem = f"all {len(drawn)} masks that {name!r} drew outside fold {self.fold} are background or void"
            if len(self._chosen) == 1:
                raise DataError(
                    f"{problem}: there is nothing to learn; check them or choose another data.source.annotator"
                )
            warnings.warn(f"{problem}; they count all the same, so take them out if that is wrong", stacklevel=2)
        if self.annotator == MAJORITY and not any(_holds_something(self.read_annotation(i)) for i in images):
            raise DataError("the majority's masks are all empty: there is nothing to learn; check the masks")

    def _drawers(self, image_id: str) -> list[str]:
        return [a for a in self.annotators_of(image_id) if a in self._chosen]

    @cached_property
    def _chosen(self) -> list[str]:
        clash = {MAJORITY, RANDOM} & set(self.annotators)
        if clash:
            raise DataError(
                f"no annotator may be called {clash.pop()!r}, a word of data.source.annotator; rename the folder"
            )
        if self.annotator in (MAJORITY, RANDOM):
            return self.annotators
        if self.annotator not in self.annotators:
            raise DataError(
                f"expected data.source.annotator to be {MAJORITY!r}, {RANDOM!r} or one of "
                f"{', '.join(self.annotators)}, got {self.annotator!r}"
            )
        return [self.annotator]


def _holds_something(mask: np.ndarray) -> bool:
    return bool(((mask != 0) & (mask != VOID)).any())
