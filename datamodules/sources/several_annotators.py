"""Images that several people have drawn."""

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from acquisition.annotation import VOID
from acquisition.seeding import uniform_for
from datamodules.consensus import Confusions, dawid_skene, staple
from datamodules.files import DataError
from datamodules.sources.source import Source
from datamodules.votes import majority

__all__ = ["DAWID_SKENE", "MAJORITY", "RANDOM", "STAPLE", "WORDS", "SeveralAnnotators"]

MAJORITY, RANDOM, STAPLE, DAWID_SKENE = "majority", "random", "staple", "dawid_skene"
WORDS = (MAJORITY, RANDOM, STAPLE, DAWID_SKENE)
"""What `data.source.annotator` may be beside an annotator's name."""


class SeveralAnnotators(Source):
    """Several annotators' masks of the same images, each of any subset: a data set says who drew what, and reads it.

    An image that somebody has not drawn is not in that person's splits: missing is not background.

    Args:
        annotator: Whose masks to train and validate on: a name; "majority" (ties void, see `votes.majority`); "staple"
            or "dawid_skene", which find out who is to be believed, in each image or over the train split (see
            `datamodules.consensus`); or "random": one of those who drew the image, drawn from (seed, epoch, image) for
            training, and the majority otherwise.
        folds: Into how many parts the images fall, by a hash of their names alone, so that they stay when images, masks
            or annotators are added, and for every seed and annotator.
        fold: The number of the part that is the validation split.
        people: Names of the annotators whose masks are used, all of them unless given; the others' are there for an
            evaluation by people who have not been seen.

    Raises:
        ValueError: If there is no such fold.
    """

    def __init__(
        self, annotator: str = MAJORITY, folds: int = 5, fold: int = 0, people: Sequence[str] | None = None
    ) -> None:
        if folds < 2:
            raise ValueError(f"folds must be at least 2, one to validate on and one to train on, got {folds}")
        if not 0 <= fold < folds:
            raise ValueError(f"fold must be from 0 to {folds - 1} (data.source.folds is {folds}), got {fold}")
        self.annotator = annotator
        self.folds = folds
        self.fold = fold
        self.people = None if people is None else sorted(set(people))
        self._confusions: Confusions | None = None

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
        if (drawer := self._drawer(image_id, draw)) is not None:
            return self.read_drawing(image_id, drawer)
        masks = [self.read_drawing(image_id, name) for name in self._drawers(image_id)]
        if self.annotator == STAPLE:
            return staple(masks, self.num_classes).labels(masks)
        if self.annotator == DAWID_SKENE:
            return self.confusions().labels(self._all_masks(image_id))
        return majority(masks, self.num_classes)

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        """Number in `annotators` of whose mask it is; None of a consensus."""
        drawer = self._drawer(image_id, draw)
        return None if drawer is None else self.annotators.index(drawer)

    def confusions(self) -> Confusions:
        """How far Dawid and Skene's model believes each person whose masks are used, by the train split alone.

        Fitted when first asked for; it reads all masks of the split.
        """
        if self._confusions is None:
            images = map(self._all_masks, self.images("train"))
            self._confusions = dawid_skene(images, self.num_classes)
        return self._confusions

    def prepare(self) -> None:
        if self.annotator == DAWID_SKENE:
            self.confusions()

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
        together = self.annotator in WORDS and self.annotator != RANDOM
        if together and not any(_holds_something(self.read_annotation(i)) for i in images):
            raise DataError(f"the {self.annotator}'s masks are all empty: there is nothing to learn; check the masks")

    def _drawers(self, image_id: str) -> list[str]:
        return [a for a in self.annotators_of(image_id) if a in self._chosen]

    def _drawer(self, image_id: str, draw: tuple[int, int] | None) -> str | None:
        """Who it is, where an annotation is one person's."""
        if self.annotator not in WORDS:
            return self.annotator
        if self.annotator != RANDOM or draw is None:
            return None
        seed, epoch = draw
        names = self._drawers(image_id)
        return names[int(uniform_for(seed, "annotator", epoch, image_id) * len(names))]

    def _all_masks(self, image_id: str) -> np.ndarray:
        """A mask of everybody whose masks are used, N x H x W; void throughout of those who have not drawn."""
        drawn = {name: self.read_drawing(image_id, name) for name in self._drawers(image_id)}
        nothing = np.full_like(next(iter(drawn.values())), VOID)
        return np.stack([drawn.get(name, nothing) for name in self._chosen])

    @cached_property
    def _chosen(self) -> list[str]:
        clash = set(WORDS) & set(self.annotators)
        if clash:
            raise DataError(
                f"no annotator may be called {clash.pop()!r}, a word of data.source.annotator; rename the folder"
            )
        people = self.annotators if self.people is None else self.people
        strangers = [name for name in people if name not in self.annotators]
        if strangers:
            raise DataError(
                f"expected data.source.people to be among {', '.join(self.annotators)}, got {strangers[0]!r}"
            )
        if self.annotator not in (*WORDS, *people):
            words = ", ".join(map(repr, WORDS))
            named = "one of" if self.people is None else "one of data.source.people,"
            raise DataError(
                f"expected data.source.annotator to be {words} or {named} {', '.join(people)}, got {self.annotator!r}"
            )
        if self.annotator not in WORDS:
            return [self.annotator]
        if len(people) < 2:
            raise DataError(
                f"data.source.annotator {self.annotator!r} is about at least two people, got data.source.people "
                f"{', '.join(people) or 'without a name'}; name more of them, or set data.source.annotator to a name"
            )
        return people


def _holds_something(mask: np.ndarray) -> bool:
    return bool(((mask != 0) & (mask != VOID)).any())
