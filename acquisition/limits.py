"""Which part of a pool is scored, and how much of one image a query takes."""

from collections import Counter
from collections.abc import Callable, Container, Sequence

from acquisition.seeding import derive_seed
from acquisition.selection import Selection

__all__ = ["AtMostPerImage", "draw_candidates"]


class AtMostPerImage(Selection):
    """The order of another selection, of which each query takes only so many units of one image.

    The next best units of other images come in their place; where no other image is left, fewer units are queried.

    Args:
        selection: Orders the units by their scores.
        count: Units of one image per query, at least 1.

    Raises:
        ValueError: If the count is below 1.

    Example:
        >>> from acquisition.selection import TopK
        >>> selection = AtMostPerImage(TopK(), count=1)
        >>> selection.order(["a#1", "a#2", "b#1"], [0.5, 0.9, 0.1], seed=0, cycle=0)
        [1, 0, 2]
        >>> selection.admit(["a#2", "a#1", "b#1"], lambda unit_id: unit_id[0])
        ([0, 2, 1], 2)
    """

    def __init__(self, selection: Selection, count: int) -> None:
        if count < 1:
            raise ValueError(f"AtMostPerImage takes at least 1 unit of an image, got {count}")
        self.selection = selection
        self.count = count

    @property
    def name(self) -> str:
        return f"AtMostPerImage({self.selection.name},{self.count})"

    @property
    def by(self) -> Selection:
        return self.selection.by

    def check(self, known: Container[str]) -> None:
        self.selection.check(known)

    def order(self, unit_ids: Sequence[str], scores: Sequence[float], seed: int, cycle: int) -> list[int]:
        return self.selection.order(unit_ids, scores, seed, cycle)

    def admit(self, unit_ids: Sequence[str], image_of: Callable[[str], str]) -> tuple[list[int], int]:
        order, most = self.selection.admit(unit_ids, image_of)
        taken: Counter[str] = Counter()
        admitted: list[int] = []
        for i in order[:most]:
            image_id = image_of(unit_ids[i])
            if taken[image_id] < self.count:
                taken[image_id] += 1
                admitted.append(i)
        chosen = set(admitted)
        return admitted + [i for i in order if i not in chosen], len(admitted)


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
