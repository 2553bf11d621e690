"""The initial labelled set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm.auto import tqdm

from acquisition.seeding import derive_seed
from datamodules.texts import read_lines, unshielded
from datamodules.units import VOID, DataError, Unit

__all__ = ["AllAnswered", "FromFile", "InitialSet", "LabelReader", "PerClass", "RandomSubset", "StratifiedSubset"]


class LabelReader(Protocol):
    """Where labels come from: a data module."""

    def read_label(self, unit: Unit) -> np.ndarray:
        """Class indices or `VOID`: of the mask, H x W, or of the image, of no dimension."""


class InitialSet(ABC):
    """Chooses among the units that the oracle has answered already."""

    @abstractmethod
    def choose(self, units: Sequence[Unit], reader: LabelReader, num_classes: int, seed: int) -> list[Unit]:
        """The units of cycle 0."""


class AllAnswered(InitialSet):
    """Everything that has a label: for a folder that people have begun to fill."""

    def choose(self, units: Sequence[Unit], reader: LabelReader, num_classes: int, seed: int) -> list[Unit]:
        return list(units)


class RandomSubset(InitialSet):
    """`size` units at random, drawn from (seed, unit id): adding images to the pool moves few of them."""

    def __init__(self, size: int) -> None:
        self.size = _positive(size)

    def choose(self, units: Sequence[Unit], reader: LabelReader, num_classes: int, seed: int) -> list[Unit]:
        _check_enough(self.size, units)
        return sorted(units, key=lambda u: derive_seed(seed, "initial", u.unit_id))[: self.size]


class PerClass(InitialSet):
    """`size` images of every class, at random as in `RandomSubset`: 2 are the 20 of Gal et al. 2017 on MNIST.

    For pools whose images have one class each. Takes no image of none of the classes.
    """

    def __init__(self, size: int) -> None:
        self.size = _positive(size)

    def choose(self, units: Sequence[Unit], reader: LabelReader, num_classes: int, seed: int) -> list[Unit]:
        shuffled = sorted(units, key=lambda u: derive_seed(seed, "initial", u.unit_id))
        if any(not isinstance(u.label, int) for u in shuffled):
            raise DataError("PerClass needs images with one class each; choose StratifiedSubset for masks")
        chosen = []
        for index in range(num_classes):
            members = [u for u in shuffled if u.label == index][: self.size]
            if len(members) < self.size:
                raise DataError(
                    f"the initial set wants {self.size} images of each class but there are only {len(members)} "
                    f"labelled ones of class {index}; lower data.initial.size or label more of them"
                )
            chosen += members
        return chosen


class StratifiedSubset(InitialSet):
    """`size` units whose class shares together come closest to those of all: greedily, one unit at a time.

    The difference is the sum over classes of squared differences between square roots of the shares (Hellinger),
    in which a rare class counts more than in plain shares. Reads every label of at most `candidates` units, which
    are drawn at random from the seed.
    """

    def __init__(self, size: int, candidates: int = 5000) -> None:
        if candidates < 1:
            raise ValueError(f"data.initial.candidates must be at least 1 unit to read, got {candidates}")
        self.size = _positive(size)
        self.candidates = candidates

    def choose(self, units: Sequence[Unit], reader: LabelReader, num_classes: int, seed: int) -> list[Unit]:
        _check_enough(self.size, units)
        pool = sorted(units, key=lambda u: derive_seed(seed, "initial", u.unit_id))[: max(self.candidates, self.size)]
        counts = np.stack([_class_counts(reader.read_label(u), num_classes) for u in tqdm(pool, desc="class content")])
        target = np.sqrt(counts.sum(axis=0) / max(counts.sum(), 1))
        chosen: list[int] = []
        sums = np.zeros(num_classes)
        free = np.ones(len(pool), dtype=bool)
        for _ in range(self.size):
            totals = sums + counts
            shares = totals / np.maximum(totals.sum(axis=1, keepdims=True), 1)
            distance = np.where(free, np.square(np.sqrt(shares) - target).sum(axis=1), np.inf)
            best = int(distance.argmin())
            chosen.append(best)
            free[best] = False
            sums += counts[best]
        return [pool[i] for i in chosen]


class FromFile(InitialSet):
    """The unit ids listed in a text file, one a line, as they stand in queried.csv or in scores.parquet."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def choose(self, units: Sequence[Unit], reader: LabelReader, num_classes: int, seed: int) -> list[Unit]:
        if not self.path.is_file():
            raise DataError(f"expected a list of unit ids at {self.path}, got no such file; write one id a line")
        wanted = [unshielded(line) for line in read_lines(self.path)]
        if not wanted:
            raise DataError(f"expected the ids of the initial set in {self.path}, got an empty file; write one a line")
        known = {u.unit_id: u for u in units}
        missing = [w for w in wanted if w not in known]
        if missing:
            raise DataError(
                f"{self.path} names {missing[0]!r} ({len(missing)} such ids), which is not a unit with a label; "
                f"ids look like {next(iter(known), 'NAME')!r}"
            )
        return [known[w] for w in dict.fromkeys(wanted)]


def _class_counts(mask: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(mask[mask != VOID], minlength=num_classes)[:num_classes].astype(np.float64)


def _positive(size: int) -> int:
    if size < 1:
        raise ValueError(f"the initial set needs at least 1 unit, got data.initial.size {size}")
    return size


def _check_enough(size: int, units: Sequence[Unit]) -> None:
    if size > len(units):
        raise DataError(
            f"the initial set wants {size} units but only {len(units)} have a label; lower data.initial.size "
            "or add labels"
        )
