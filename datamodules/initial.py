"""The initial labelled set."""

import csv
import io
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm.auto import tqdm

from acquisition.annotation import VOID
from acquisition.identity import Described
from acquisition.seeding import derive_seed
from datamodules.files import DataError
from datamodules.texts import read_lines, read_text, unshielded
from records.ledger import Ledger
from records.run_directory import RunDirectory

__all__ = [
    "AllAnswered",
    "FromFile",
    "FromRun",
    "InitialSet",
    "LabelReader",
    "PerClass",
    "RandomImages",
    "RandomSubset",
    "StratifiedSubset",
]


class LabelReader(Protocol):
    """Where labels come from: a pool."""

    def image_of(self, unit_id: str) -> str:
        """Id of the image that a unit is part of."""

    def read_labels(self, unit_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        """Each unit's id, in any order, with class indices or `VOID`: of its pixels, P, or one, of no dimension."""


class InitialSet(Described, ABC):
    """Chooses among the units that the oracle has answered already."""

    @abstractmethod
    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        """The units of cycle 0.

        Args:
            unit_ids: Those that the oracle has answered.
            reader: For their labels.
            num_classes: How many classes there are.
            seed: Of what is drawn.
        """


class AllAnswered(InitialSet):
    """Everything that has a label: for a folder that people have begun to fill."""

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        return list(unit_ids)


class RandomSubset(InitialSet):
    """Units at random, drawn from (seed, unit id): adding images to the pool moves few of them.

    Args:
        size: How many units are labelled at first.
        seed: Which units; the run's own unless given. Given, runs of several seeds begin with the same units.
    """

    def __init__(self, size: int, seed: int | None = None) -> None:
        self.size = _positive(size)
        self.seed = seed

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        _check_enough(self.size, unit_ids)
        drawn = seed if self.seed is None else self.seed
        return sorted(unit_ids, key=lambda u: derive_seed(drawn, "initial", u))[: self.size]


class RandomImages(InitialSet):
    """Images at random, with all their units: where these are parts that cover images, some whole images first.

    Draws the images that `RandomSubset` draws where images are units: strategies on whole images and on parts of them
    start alike.

    Args:
        size: How many images are labelled at first.
    """

    def __init__(self, size: int) -> None:
        self.size = _positive(size)

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        units: dict[str, list[str]] = {}
        for unit_id in unit_ids:
            units.setdefault(reader.image_of(unit_id), []).append(unit_id)
        _check_enough(self.size, list(units), "images")
        chosen = sorted(units, key=lambda image_id: derive_seed(seed, "initial", image_id))[: self.size]
        return [unit_id for image_id in chosen for unit_id in units[image_id]]


class PerClass(InitialSet):
    """Images of every class, at random as in `RandomSubset`: 2 are the 20 of Gal et al. 2017 on MNIST.

    For data sets whose images have one class each. Takes no image of none of the classes.

    Args:
        size: How many of each class.
    """

    def __init__(self, size: int) -> None:
        self.size = _positive(size)

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        shuffled = sorted(unit_ids, key=lambda u: derive_seed(seed, "initial", u))
        labels: dict[str, int] = {}
        for unit_id, label in reader.read_labels(shuffled):
            if label.ndim:
                raise DataError("PerClass needs images with one class each; choose StratifiedSubset for masks")
            labels[unit_id] = int(label)
        chosen: list[str] = []
        for index in range(num_classes):
            of_class = [u for u in shuffled if labels[u] == index][: self.size]
            if len(of_class) < self.size:
                raise DataError(
                    f"the initial set wants {self.size} images of each class but there are only {len(of_class)} "
                    f"labelled ones of class {index}; lower data.initial.size or label more of them"
                )
            chosen += of_class
        return chosen


class StratifiedSubset(InitialSet):
    """Units whose class shares together come closest to those of all: greedily, one unit at a time.

    The difference is the sum over classes of squared differences between square roots of the shares (Hellinger),
    in which a rare class counts more than in plain shares.

    Args:
        size: How many units are labelled at first.
        candidates: The most units whose labels are read; they are drawn at random from the seed.
    """

    def __init__(self, size: int, candidates: int = 5000) -> None:
        if candidates < 1:
            raise ValueError(f"data.initial.candidates must be at least 1 unit to read, got {candidates}")
        self.size = _positive(size)
        self.candidates = candidates

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        _check_enough(self.size, unit_ids)
        pool = sorted(unit_ids, key=lambda u: derive_seed(seed, "initial", u))[: max(self.candidates, self.size)]
        found = tqdm(reader.read_labels(pool), desc="class content", total=len(pool), unit="unit", disable=None)
        content = {unit_id: _class_counts(label, num_classes) for unit_id, label in found}
        counts = np.stack([content[unit_id] for unit_id in pool])
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
    """The unit ids that a file lists, as they stand in queried.csv or in scores.parquet.

    Args:
        path: A text file with one id a line, or a table with the suffix .csv and a column unit_id, such as the
            queried.csv of a query. An apostrophe that shields an id from spreadsheets is taken off.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        if not self.path.is_file():
            raise DataError(
                f"expected a list of unit ids at {self.path}, got no such file; write one id a line, or name the "
                "queried.csv of a query"
            )
        is_table = self.path.suffix.lower() == ".csv"
        lines = _unit_column(self.path) if is_table else read_lines(self.path)
        wanted = [unshielded(line) for line in lines]
        if not wanted:
            got = "a table without rows; write one a row" if is_table else "an empty file; write one a line"
            raise DataError(f"expected the ids of the initial set in {self.path}, got {got}")
        _check_known(wanted, unit_ids, str(self.path), "write the ids of this data set, divided as data.partition says")
        return list(dict.fromkeys(wanted))


class FromRun(InitialSet):
    """The units with which another run began, by its ledger.

    Args:
        run_dir: The directory of that run.
    """

    def __init__(self, run_dir: str) -> None:
        self.run_dir = Path(run_dir)

    def choose(self, unit_ids: Sequence[str], reader: LabelReader, num_classes: int, seed: int) -> list[str]:
        path = RunDirectory(self.run_dir).ledger
        if not path.is_file():
            raise DataError(
                f"expected the ledger of a run at {path}, got no such file; give the directory of a fit that has begun"
            )
        with closing(Ledger(path)) as ledger:
            wanted = ledger.initial()
        if not wanted:
            raise DataError(
                f"expected the initial set of a run in {path}, got none; give the directory of a fit that has begun"
            )
        _check_known(wanted, unit_ids, str(path), "take the data and the data.partition of that run")
        return wanted


def _unit_column(path: Path) -> list[str]:
    """The values of a table's column unit_id, empty ones left out."""
    try:
        rows = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        if "unit_id" not in (names := rows.fieldnames or ()):
            raise DataError(
                f"expected a table with the column unit_id in {path}, got the columns {', '.join(names) or '(none)'}; "
                "name a queried.csv, or give a list of one id a line another suffix, such as .txt"
            )
        return [unit_id.strip() for row in rows if (unit_id := row["unit_id"] or "").strip()]
    except csv.Error as error:
        raise DataError(f"{path} is not a readable table ({error}); save it as CSV, with commas") from error


def _check_known(wanted: Sequence[str], unit_ids: Sequence[str], where: str, remedy: str) -> None:
    known = set(unit_ids)
    missing = [w for w in wanted if w not in known]
    if missing:
        raise DataError(
            f"{where} names {missing[0]!r} ({len(missing)} such ids), which is not a unit with a label; "
            f"ids look like {next(iter(unit_ids), 'NAME')!r}; {remedy}"
        )


def _class_counts(mask: np.ndarray, num_classes: int) -> np.ndarray:
    return np.bincount(mask[mask != VOID], minlength=num_classes)[:num_classes].astype(np.float64)


def _positive(size: int) -> int:
    if size < 1:
        raise ValueError(f"the initial set needs at least 1 unit, got data.initial.size {size}")
    return size


def _check_enough(size: int, unit_ids: Sequence[str], what: str = "units") -> None:
    if size > len(unit_ids):
        raise DataError(
            f"the initial set wants {size} {what} but only {len(unit_ids)} have a label; lower data.initial.size "
            "or add labels"
        )
