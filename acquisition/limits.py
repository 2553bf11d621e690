"""Which part of a pool is scored, how much of one image a query takes, and what it may cost."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from acquisition.numbers import exact
from acquisition.seeding import derive_seed
from acquisition.selection import Layout, Selection

__all__ = ["Allowance", "AtMostPerImage", "FarApart", "Limited", "draw_candidates"]


@dataclass(frozen=True)
class Allowance:
    """What may still be queried.

    Args:
        units: At most so many units.
        pixels: Of those, as many as so many pixels pay for; None for any size.
        objects: The same in newly labelled objects,
        clicks: and in clicks, where the oracle counts them.

    Example:
        >>> allowance = Allowance(units=3, pixels=100)
        >>> allowance.pays([40, 40, 40, 10])
        2
        >>> allowance.without([40, 40])
        Allowance(units=1, pixels=20, objects=None, clicks=None)
    """

    units: int
    pixels: int | None = None
    objects: int | None = None
    clicks: int | None = None

    @property
    def counted(self) -> dict[str, int]:
        """The limits of what an oracle counts: "objects" or "clicks" to how many."""
        limits = {"objects": self.objects, "clicks": self.clicks}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def check(self) -> None:
        """Refuse settings that pay for nothing.

        Raises:
            ValueError: If they do.
        """
        if self.units < 1:
            raise ValueError(f"the budget must be at least 1 unit per cycle, got strategy.budget {self.units}")
        for name, limit in {"pixels": self.pixels, **self.counted}.items():
            if limit is not None and limit < 1:
                raise ValueError(
                    f"strategy.budget_{name} must be at least 1 {name[:-1]}, or null for no limit, got {limit}"
                )

    def pays(self, sizes: Sequence[int]) -> int:
        """How many units it pays for in their order, up to the first that it does not, objects and clicks apart.

        Args:
            sizes: Of the units, in pixels.
        """
        taken = sizes[: self.units]
        return len(taken) if self.pixels is None else int((np.cumsum(taken) <= self.pixels).sum())

    def without(self, sizes: Sequence[int]) -> "Allowance":
        """What is left when units are paid for.

        Args:
            sizes: Of these units, in pixels.
        """
        left = None if self.pixels is None else self.pixels - sum(sizes)
        return replace(self, units=self.units - len(sizes), pixels=left)


class Limited(Selection, ABC):
    """The order of another selection, of which a query leaves some units out: subclass it with a `takes`.

    The next best units come in their place; where none is left, fewer are queried.

    Args:
        selection: Orders the units by their scores.

    Example:
        >>> class NotOfA(Limited):
        ...     def takes(self, unit_ids, layout):
        ...         return [layout.image_of(unit_id) != "a" for unit_id in unit_ids]
        >>> from types import SimpleNamespace
        >>> from acquisition.selection import TopK
        >>> NotOfA(TopK()).admit(["a#1", "b#1"], SimpleNamespace(image_of=lambda unit_id: unit_id[0]))
        ([1, 0], 1)
    """

    def __init__(self, selection: Selection) -> None:
        self.selection = selection

    @abstractmethod
    def takes(self, unit_ids: Sequence[str], layout: Layout) -> list[bool]:
        """Which units are taken, if nothing but this limits the query.

        Args:
            unit_ids: N units in order, first choice first.
            layout: Where they are.

        Returns:
            N answers.
        """

    @property
    def by(self) -> Selection:
        return self.selection.by

    def check(self, known: Container[str]) -> None:
        self.selection.check(known)

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        return self.selection.order(unit_ids, scores, seed, cycle)

    def admit(self, unit_ids: Sequence[str], layout: Layout) -> tuple[list[int], int]:
        order, most = self.selection.admit(unit_ids, layout)
        takes = self.takes([unit_ids[i] for i in order[:most]], layout)
        admitted = [i for i, taken in zip(order, takes, strict=False) if taken]
        chosen = set(admitted)
        return admitted + [i for i in order if i not in chosen], len(admitted)


class AtMostPerImage(Limited):
    """The order of another selection, of which each query takes only so many units of one image.

    Args:
        selection: Orders the units by their scores.
        count: Units of one image per query, at least 1.

    Raises:
        ValueError: If the count is below 1.

    Example:
        >>> from types import SimpleNamespace
        >>> from acquisition.selection import TopK
        >>> selection = AtMostPerImage(TopK(), count=1)
        >>> selection.order(["a#1", "a#2", "b#1"], [0.5, 0.9, 0.1], seed=0, cycle=0)
        [1, 0, 2]
        >>> selection.admit(["a#2", "a#1", "b#1"], SimpleNamespace(image_of=lambda unit_id: unit_id[0]))
        ([0, 2, 1], 2)
    """

    def __init__(self, selection: Selection, count: int) -> None:
        if count < 1:
            raise ValueError(f"AtMostPerImage takes at least 1 unit of an image, got {count}")
        super().__init__(selection)
        self.count = count

    @property
    def name(self) -> str:
        return f"AtMostPerImage({self.selection.name},{self.count})"

    def takes(self, unit_ids: Sequence[str], layout: Layout) -> list[bool]:
        taken: Counter[str] = Counter()
        found = []
        for image_id in map(layout.image_of, unit_ids):
            taken[image_id] += 1
            found.append(taken[image_id] <= self.count)
        return found


class FarApart(Limited):
    """The order of another selection, of which each query takes no two units of an image that lie close together.

    Neighbours look alike to a network, so their labels tell it almost the same.

    Args:
        selection: Orders the units by their scores.
        distance: The least distance between the centres of two units' bounding boxes, in pixels of the image as
            annotators see it.

    Raises:
        ValueError: If the distance is not above 0.

    Example:
        >>> from types import SimpleNamespace
        >>> from acquisition.selection import TopK
        >>> layout = SimpleNamespace(image_of=lambda u: "a", centres_of=lambda units: [(0, 0), (0, 4), (3, 4)])
        >>> FarApart(TopK(), distance=5).admit(["a#1", "a#2", "a#3"], layout)
        ([0, 2, 1], 2)
    """

    def __init__(self, selection: Selection, distance: float) -> None:
        if not distance > 0:
            raise ValueError(f"FarApart needs a distance above 0 pixels, got {distance}")
        super().__init__(selection)
        self.distance = distance

    @property
    def name(self) -> str:
        return f"FarApart({self.selection.name},{exact(self.distance)})"

    def takes(self, unit_ids: Sequence[str], layout: Layout) -> list[bool]:
        # only cells of this width around a centre can hold one that is too close to it
        near: dict[tuple[str, int, int], list[tuple[float, float]]] = {}
        found = []
        for unit_id, (y, x) in zip(unit_ids, layout.centres_of(unit_ids), strict=True):
            image_id, row, column = layout.image_of(unit_id), int(y // self.distance), int(x // self.distance)
            around = ((image_id, row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1))
            free = all(
                hypot(y - other_y, x - other_x) >= self.distance
                for cell in around
                for other_y, other_x in near.get(cell, ())
            )
            if free:
                near.setdefault((image_id, row, column), []).append((y, x))
            found.append(free)
        return found


def draw_candidates(unit_ids: Sequence[str], count: int | None, seed: int, cycle: int) -> list[str]:
    """A random part of a pool, the same in every process and whatever the order of the pool.

    Args:
        unit_ids: The pool.
        count: How many; None for all.
        seed: Of the draw.
        cycle: So that each cycle draws anew.

    Returns:
        As many units, in the order of the pool.

    Example:
        >>> draw_candidates(["a", "b", "c", "d"], 2, seed=0, cycle=0)
        ['b', 'd']
    """
    if count is None or count >= len(unit_ids):
        return list(unit_ids)
    drawn = set(sorted(unit_ids, key=lambda u: (derive_seed(seed, cycle, "candidate", u), u))[:count])
    return [unit_id for unit_id in unit_ids if unit_id in drawn]
