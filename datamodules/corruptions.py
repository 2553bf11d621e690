"""Labels that are wrong, missing or coarse, on purpose: rules through which an annotation source is seen.

What a rule draws depends on (seed, image, object) alone, so that an object has the same label in every epoch, cycle and
strategy. Objects are a data set's instances, or connected parts of a class (see `Source.read_instances`); a classified
image is one object. Where people take turns, each one's drawing has objects of its own.
"""

import hashlib
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from acquisition.identity import Described
from acquisition.seeding import uniform_for
from datamodules.annotations import AnnotationSource
from datamodules.sources.source import Source

__all__ = [
    "Corrupted", "Corruption", "FlipBackground", "FlipClass", "FlipMissing", "Keeping", "Objectness", "PairNoise",
    "PositiveUnlabelled", "RandomCategory", "RateRelabelling", "Relabelling", "SymmetricNoise", "Withheld",
    "known_objects",
]  # fmt: skip

_KEPT_BYTES = 128 * 2**20


class Corruption(Described, ABC):
    """A rule that changes an annotation, the same way whenever it is asked."""

    merges_classes: bool = False
    """Whether it is meant to leave classes without a label."""

    def check(self, num_classes: int) -> None:
        """Refuse a data set that the rule does not fit.

        Args:
            num_classes: How many classes it has.

        Raises:
            ValueError: If it does not.
        """

    @abstractmethod
    def corrupt(self, annotation: np.ndarray, objects: np.ndarray, image_id: str, num_classes: int) -> np.ndarray:
        """Change an annotation.

        Args:
            annotation: H x W, or one class, of no dimension: classes, `VOID` or `UNANSWERED`.
            objects: Which object each pixel belongs to, of the same shape; -1 where to none.
            image_id: The image.
            num_classes: How many classes there are.

        Returns:
            The changed annotation, of the same shape.
        """


class Relabelling(Corruption):
    """Gives whole objects another class: subclass it with a `relabel`.

    Args:
        seed: Of what is drawn; the run's own seed does not change it.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @abstractmethod
    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        """The class that an object is given.

        Args:
            label: Its class.
            drawn: Numbers from 0 to below 1, the object's own.
            num_classes: How many classes there are.
        """

    def corrupt(self, annotation: np.ndarray, objects: np.ndarray, image_id: str, num_classes: int) -> np.ndarray:
        if not annotation.ndim:
            # one object, and a data set has many images: looking for it would take ten times as long
            known = int(annotation) not in (VOID, UNANSWERED)
            label = self.relabel(int(annotation), self._drawn(image_id, 0), num_classes) if known else annotation
            return np.array(label, dtype=annotation.dtype)
        objects = known_objects(annotation, objects)
        numbers, first, which = np.unique(objects, return_index=True, return_inverse=True)
        old = annotation.reshape(-1)[first]
        new = old.copy()
        for k, number in enumerate(numbers.tolist()):
            if number >= 0:
                new[k] = self.relabel(int(old[k]), self._drawn(image_id, number), num_classes)
        which = which.reshape(objects.shape)
        return np.where((objects >= 0) & (annotation == old[which]), new[which], annotation)

    def _drawn(self, image_id: str, number: int) -> Iterator[float]:
        return (uniform_for(self.seed, type(self).__name__, image_id, number, k) for k in count())


class RateRelabelling(Relabelling):
    """Gives objects another class with a probability.

    Args:
        rate: The probability, from 0 to 1; below 1 where no class would be left otherwise, as with FlipMissing.
        seed: Of what is drawn; the run's own seed does not change it.

    Raises:
        ValueError: If the rate does not lie there.
    """

    may_be_certain: bool = True
    """Whether every class may have labels where the rate is 1."""

    def __init__(self, rate: float, seed: int = 0) -> None:
        super().__init__(seed)
        if not 0 <= rate <= 1 or (rate == 1 and not self.may_be_certain):
            below = "" if self.may_be_certain else "below "
            raise ValueError(f"{type(self).__name__} needs a probability from 0 to {below}1, got {rate}")
        self.rate = rate


class FlipMissing(RateRelabelling):
    """An object of any class but the background has been overlooked, and is background, class 0."""

    may_be_certain = False

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return 0 if label and next(drawn) < self.rate else label


class FlipBackground(RateRelabelling):
    """A piece of background, class 0, is taken for an object, of any other class alike."""

    may_be_certain = False

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return label if label or next(drawn) >= self.rate else 1 + int(next(drawn) * (num_classes - 1))


class SymmetricNoise(RateRelabelling):
    """An object is taken for any other class alike."""

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        if next(drawn) >= self.rate:
            return label
        return (label + 1 + int(next(drawn) * (num_classes - 1))) % num_classes


class PairNoise(RateRelabelling):
    """An object is taken for the next class, and one of the last class for class 0."""

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return (label + 1) % num_classes if next(drawn) < self.rate else label


class FlipClass(Relabelling):
    """An object of class i is taken for class j with a probability of its own.

    Args:
        matrix: C x C: row i has the probabilities of classes 0 to C - 1 for an object of class i.
        seed: Of what is drawn at random.

    Raises:
        ValueError: If a row does not sum to 1, a probability does not lie in [0, 1], or a class would have no label.
    """

    def __init__(self, matrix: Sequence[Sequence[float]], seed: int = 0) -> None:
        super().__init__(seed)
        lengths = [len(row) for row in matrix]
        if len(set(lengths)) > 1:
            raise ValueError(
                f"FlipClass needs a matrix of C x C probabilities, got rows of {', '.join(map(str, lengths))}; give "
                "each class a row of C"
            )
        self.matrix = np.array(matrix, dtype=float)
        if self.matrix.ndim != 2 or self.matrix.shape[0] != self.matrix.shape[1]:
            raise ValueError(f"FlipClass needs a matrix of C x C probabilities, got {self.matrix.shape}")
        if not ((self.matrix >= 0) & (self.matrix <= 1)).all():
            low, high = self.matrix.min(), self.matrix.max()
            raise ValueError(f"FlipClass needs probabilities from 0 to 1, got {low:g} to {high:g}")
        for i, total in enumerate(self.matrix.sum(axis=1)):
            if abs(total - 1) > 1e-6:
                raise ValueError(f"the rows of FlipClass's matrix sum to 1, got {total:g} for class {i}; correct it")
        empty = np.flatnonzero(self.matrix.sum(axis=0) == 0)
        if len(empty):
            raise ValueError(
                f"FlipClass would leave class {empty[0]} without a label: expected a probability above 0 somewhere in "
                f"column {empty[0]}, got none"
            )

    def check(self, num_classes: int) -> None:
        if len(self.matrix) != num_classes:
            raise ValueError(
                f"FlipClass needs a row for each of the {num_classes} classes, got a matrix of {len(self.matrix)}"
            )

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return min(int(np.searchsorted(self.matrix[label].cumsum(), next(drawn), side="right")), num_classes - 1)


class Keeping(Relabelling):
    """Objects keep their label with a probability.

    Args:
        kept: The probability: 0.5 is "50 %" of the labels.
        seed: Of what is drawn; the run's own seed does not change it.

    Raises:
        ValueError: If it does not lie in (0, 1], for with 0 nobody would be labelled.
    """

    otherwise: int
    """What the others are given."""

    def __init__(self, kept: float, seed: int = 0) -> None:
        super().__init__(seed)
        if not 0 < kept <= 1:
            raise ValueError(
                f"{type(self).__name__} keeps some labels: expected kept above 0 and at most 1, got {kept}"
            )
        self.kept = kept

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return label if next(drawn) < self.kept else self.otherwise


class PositiveUnlabelled(Keeping):
    """A positive, of any class but 0, keeps its label with a probability, and is 0, unlabelled, otherwise.

    With `kept` 0.5 it is "50 % P + U".
    """

    otherwise = 0


class Withheld(Keeping):
    """An object keeps its label with a probability, and is void, nobody's to learn from, otherwise.

    What is left is true: with `kept` 0.5 it is "50 % (P + N)", to see what wrong labels cost beside fewer right ones.
    """

    otherwise = VOID


class Objectness(Relabelling):
    """Every object is class 1, whatever its class; background, class 0, stays. Nothing is drawn at random."""

    merges_classes = True

    def __init__(self) -> None:
        super().__init__()

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return min(label, 1)


class RandomCategory(Relabelling):
    """Every object is of a class from 1 on, all alike and whatever its own; background, class 0, stays.

    Args:
        seed: Of what is drawn at random.
    """

    def relabel(self, label: int, drawn: Iterator[float], num_classes: int) -> int:
        return 1 + int(next(drawn) * (num_classes - 1)) if label else 0


class Corrupted(AnnotationSource):
    """A data set's own annotations, seen through a rule.

    What the rule has made of masks is kept, the last 128 MiB of it, for every epoch asks for the same. Loaders' workers
    keep their own, and begin every epoch anew.

    Args:
        source: The data set.
        corruption: The rule.
    """

    def __init__(self, source: Source, corruption: Corruption) -> None:
        corruption.check(source.num_classes)
        self.source = source
        self.corruption = corruption
        self._kept: OrderedDict[tuple[str, bytes], np.ndarray] = OrderedDict()
        self._bytes = 0
        self._classes: dict[str, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        # a loader's process keeps its own
        return {**self.__dict__, "_kept": OrderedDict(), "_bytes": 0}

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        if draw is None and image_id in self._classes:
            return self._classes[image_id]
        annotation = self.source.read_annotation(image_id, draw)
        if not annotation.ndim:
            nothing = np.zeros((), dtype=np.int32)
            corrupted = self.corruption.corrupt(annotation, nothing, image_id, self.source.num_classes)
            if draw is None:
                # asked for several times before a fit begins
                self._classes[image_id] = corrupted
            return corrupted
        # a person's drawing may take the place of another's
        key = image_id, hashlib.blake2b(annotation.tobytes()).digest()
        if key not in self._kept:
            objects = self.source.read_instances(image_id, draw)
            self._keep(key, self.corruption.corrupt(annotation, objects, image_id, self.source.num_classes))
        self._kept.move_to_end(key)
        return self._kept[key].copy()

    def _keep(self, key: tuple[str, bytes], corrupted: np.ndarray) -> None:
        self._kept[key] = corrupted
        self._bytes += corrupted.nbytes
        while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def is_annotated(self, image_id: str) -> bool:
        return self.source.is_annotated(image_id)

    def annotation_path(self, image_id: str) -> Path | None:
        return self.source.annotation_path(image_id)

    def annotation_files(self, image_id: str) -> Sequence[Path]:
        return self.source.annotation_files(image_id)

    def drawn_by(self, image_id: str, draw: tuple[int, int] | None = None) -> int | None:
        return self.source.drawn_by(image_id, draw)


def known_objects(annotation: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The objects as far as their class is known.

    Args:
        annotation: H x W: classes, `VOID` or `UNANSWERED`.
        objects: Which object each pixel belongs to, of the same shape; -1 where to none.

    Returns:
        The same, -1 where the annotation is no class.
    """
    return np.where(np.isin(annotation, (VOID, UNANSWERED)), -1, objects)
