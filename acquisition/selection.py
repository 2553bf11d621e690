"""From scores to chosen units.

Every selection returns a complete order of the units, first choice first: the caller cuts it where the
budget ends. Equal scores are ordered by a hash of (seed, unit id): always the same way, whatever the order
in which the units came, and without the bias towards one city that alphabetical order has.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from acquisition.identity import Described
from acquisition.numbers import exact
from acquisition.seeding import derive_seed, uniform_for

__all__ = [
    "Alphabetical",
    "FromFile",
    "Layout",
    "PowerSampling",
    "RandomSelection",
    "Selection",
    "SoftRankSampling",
    "SoftmaxSampling",
    "StochasticSelection",
    "Stride",
    "TopK",
    "rank_units",
]


def rank_units(unit_ids: Sequence[str], scores: Sequence[float], seed: int) -> list[int]:
    """Positions from the highest score to the lowest, ties by hash of (seed, unit id).

    Args:
        unit_ids: The names of N units.
        scores: Their N scores.
        seed: Of the order among equal scores.

    Returns:
        N positions, the highest score's first.

    Raises:
        ValueError: If a score is NaN or infinite.

    Example:
        >>> rank_units(["a", "b", "c"], [0.25, 0.75, 0.5], seed=0)
        [1, 2, 0]
    """
    values = np.asarray(scores, dtype=np.float64)
    if not np.isfinite(values).all():
        bad = unit_ids[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise ValueError(f"scores must be finite numbers, got {values[unit_ids.index(bad)]} for unit {bad!r}")
    _, place, times = np.unique(values, return_inverse=True, return_counts=True)
    ties = np.zeros(len(unit_ids), dtype=np.int64)
    # a hash costs more than the sort, and scores are rarely equal
    for i in np.flatnonzero(times[place] > 1).tolist():
        ties[i] = derive_seed(seed, "tie", unit_ids[i])
    order: list[int] = np.lexsort((ties, -values)).tolist()
    return order


class Layout(Protocol):
    """Where units are: of a pool's units, or of any that are told.

    Example:
        >>> class Row:
        ...     def image_of(self, unit_id):
        ...         return unit_id[0]
        ...     def centres_of(self, unit_ids):
        ...         return [(0, 5 * int(unit_id[1:])) for unit_id in unit_ids]
        >>> layout: Layout = Row()
        >>> layout.centres_of(["a0", "a1"])
        [(0, 0), (0, 5)]
    """

    def image_of(self, unit_id: str) -> str:
        """Id of the image that a unit is part of.

        Args:
            unit_id: The unit.
        """

    def centres_of(self, unit_ids: Sequence[str]) -> Sequence[tuple[float, float]]:
        """Centres (y, x) of units' bounding boxes, in pixels of the image as annotators see it.

        Args:
            unit_ids: N ids.
        """


class Selection(Described, ABC):
    """Orders a pool for labelling: subclass it with an `order`.

    Example:
        >>> class BottomK(Selection):
        ...     def order(self, unit_ids, scores, seed, cycle):
        ...         return rank_units(unit_ids, [-score for score in scores], seed)
        >>> BottomK().order(["a", "b", "c"], [0.25, 0.75, 0.5], seed=0, cycle=0)
        [0, 2, 1]
    """

    @property
    def name(self) -> str:
        """The name in ledgers, tables and figures: other settings have another one."""
        return self.short_description

    @abstractmethod
    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        """Positions of all units, first choice first.

        Args:
            unit_ids: The names of N units.
            scores: Their N scores.
            seed: Of ties and of what is drawn.
            cycle: So that each cycle draws anew.

        Returns:
            N positions.
        """

    @property
    def by(self) -> "Selection":
        """The selection that orders: this one, or the one within it."""
        return self

    def check(self, known: Container[str]) -> None:
        """Refuse settings that do not go with a data set.

        Args:
            known: The names of all units, labelled ones as well.

        Raises:
            ValueError: If they do not.
        """

    def admit(self, unit_ids: Sequence[str], layout: Layout) -> tuple[list[int], int]:
        """What of an order may be taken in one query.

        Args:
            unit_ids: N units in order, first choice first.
            layout: Where they are.

        Returns:
            N positions, those that may be taken first, and how many these are; all of them, unless overridden.
        """
        return list(range(len(unit_ids))), len(unit_ids)


class TopK(Selection):
    """Highest score first.

    Example:
        >>> TopK().order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [1, 3, 2, 0]
    """

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        return rank_units(unit_ids, scores, seed)


class Stride(Selection):
    """Every d-th unit from the top, going round through those left when the end is reached (Chen 2020, section 3.1.2).

    With stride 4 the first choices have ranks 4, 8, 12, ...; stride 1 is top-k. Each round counts afresh from the
    top of what is left; when fewer than d units are left they come in order of score.

    Args:
        stride: The distance d between ranks that are taken, at least 1.

    Raises:
        ValueError: If the stride is below 1.

    Example:
        >>> Stride(2).order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [3, 0, 2, 1]
    """

    def __init__(self, stride: int) -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.stride = stride

    @property
    def name(self) -> str:
        return f"Stride({self.stride})"

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        left = rank_units(unit_ids, scores, seed)
        chosen: list[int] = []
        while left:
            taken = left[self.stride - 1 :: self.stride] or left
            chosen += taken
            gone = set(taken)
            left = [i for i in left if i not in gone]
        return chosen


class Alphabetical(Selection):
    """By unit id, whatever the scores: the "order" control of Chen 2020 (section 3.3.1).

    Example:
        >>> Alphabetical().order(["d", "b", "c", "a"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [3, 1, 2, 0]
    """

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        return sorted(range(len(unit_ids)), key=unit_ids.__getitem__)


class RandomSelection(Selection):
    """Uniformly at random, whatever the scores; drawn from (seed, cycle, unit id).

    Example:
        >>> RandomSelection().order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [0, 1, 3, 2]
    """

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        draws = [derive_seed(seed, cycle, "random selection", u) for u in unit_ids]
        return sorted(range(len(unit_ids)), key=draws.__getitem__)


class StochasticSelection(Selection, ABC):
    """Draws without replacement, the more willingly the higher the score.

    Args:
        exponent: 0 is uniform; a large one tends to top-k.

    Raises:
        ValueError: If the exponent is below 0.

    Example:
        >>> PowerSampling(0.5).name
        'PowerSampling(0.5)'
    """

    def __init__(self, exponent: float = 1.0) -> None:
        if exponent < 0:
            raise ValueError(f"exponent must be at least 0, got {exponent}")
        self.exponent = exponent

    @property
    def name(self) -> str:
        return f"{type(self).__name__}({exact(self.exponent)})"


class PowerSampling(StochasticSelection):
    """Without replacement, with probability proportional to score**exponent.

    Kirsch et al. 2023, "Stochastic batch acquisition" (PowerBALD): top-k of log score + Gumbel noise of scale
    1 / exponent. Scores below 0 count as 0 and come last.

    Args:
        exponent: 0 is uniform; a large one tends to top-k.

    Raises:
        ValueError: If the exponent is below 0.

    Example:
        >>> PowerSampling().order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [1, 0, 2, 3]
        >>> PowerSampling(exponent=1000).order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [1, 3, 2, 0]
    """

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        gumbel = _gumbel(unit_ids, seed, cycle, "power")
        positive = np.maximum(np.asarray(scores, dtype=np.float64), 0)
        keys = self.exponent * np.log(np.maximum(positive, 1e-300)) + gumbel
        if self.exponent:
            # a finite penalty instead of log 0 keeps zero scores last, and in a random order among themselves
            keys[positive == 0] -= 1e6 * (1 + self.exponent)
        return rank_units(unit_ids, list(keys), seed)


class SoftmaxSampling(StochasticSelection):
    """Without replacement, with probability proportional to exp(exponent x score) (Kirsch et al. 2023).

    Scores of any sign.

    Args:
        exponent: 0 is uniform; a large one tends to top-k, and what is large depends on the scores' scale.

    Raises:
        ValueError: If the exponent is below 0.

    Example:
        >>> SoftmaxSampling().order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [3, 2, 1, 0]
        >>> SoftmaxSampling(exponent=1000).order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [1, 3, 2, 0]
    """

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        keys = self.exponent * np.asarray(scores, dtype=np.float64) + _gumbel(unit_ids, seed, cycle, "softmax")
        return rank_units(unit_ids, list(keys), seed)


class SoftRankSampling(StochasticSelection):
    """Without replacement, with probability proportional to rank**-exponent, the highest score having rank 1.

    Kirsch et al. 2023: only the order of the scores counts, not their scale.

    Args:
        exponent: 0 is uniform; a large one tends to top-k.

    Raises:
        ValueError: If the exponent is below 0.

    Example:
        >>> SoftRankSampling().order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [1, 0, 2, 3]
        >>> SoftRankSampling(exponent=1000).order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [1, 3, 2, 0]
    """

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        ranks = np.empty(len(unit_ids))
        ranks[rank_units(unit_ids, scores, seed)] = np.arange(1, len(unit_ids) + 1)
        keys = -self.exponent * np.log(ranks) + _gumbel(unit_ids, seed, cycle, "soft rank")
        return rank_units(unit_ids, list(keys), seed)


class FromFile(Selection):
    r"""Units as a file lists them, whatever the scores; those that it does not name follow, highest score first.

    The file is read when the selection is made.

    Args:
        path: UTF-8 text with one unit id a line; units that are labelled already are passed over.

    Raises:
        ValueError: If the file is missing, is no text, names nothing, or a unit twice.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     _ = Path(folder, "order.txt").write_text("c\na\n")
        ...     selection = FromFile(f"{folder}/order.txt")
        >>> selection.order(["a", "b", "c", "d"], [0.1, 0.9, 0.5, 0.7], seed=0, cycle=0)
        [2, 0, 1, 3]
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"expected unit ids at {path}, one a line, got no such text ({error}); correct the path of FromFile"
            ) from error
        self._places: dict[str, int] = {}
        for unit_id in filter(None, map(str.strip, lines)):
            if unit_id in self._places:
                raise ValueError(f"{path} names the unit {unit_id!r} twice; keep one of the lines")
            self._places[unit_id] = len(self._places)
        if not self._places:
            raise ValueError(f"expected unit ids in {path}, one a line, got an empty file; list them")

    @property
    def name(self) -> str:
        return f"FromFile({Path(self.path).name})"

    def check(self, known: Container[str]) -> None:
        unknown = [unit_id for unit_id in self._places if unit_id not in known]
        if unknown:
            raise ValueError(
                f"expected ids of units of the train split in {self.path}, got {unknown[0]!r}"
                + (f" and {len(unknown) - 1} others" if len(unknown) > 1 else "")
                + ", which the data set does not have; correct them, or set the partition that they are of"
            )

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        ranked = rank_units(unit_ids, scores, seed)
        return sorted(ranked, key=lambda i: self._places.get(unit_ids[i], len(self._places)))


def _gumbel(unit_ids: Sequence[str], seed: int, cycle: int, what: str) -> np.ndarray:
    """Standard Gumbel noise: the top k of log weight + noise are k draws without replacement."""
    uniform = np.array([uniform_for(seed, cycle, what, u) for u in unit_ids])
    noise: np.ndarray = -np.log(-np.log(uniform.clip(1e-300, 1 - 1e-16)))
    return noise
