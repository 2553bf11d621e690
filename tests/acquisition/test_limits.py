"""How much of one image a query takes, and which part of a pool is scored."""

import math
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.limits import AtMostPerImage, FarApart, draw_candidates
from acquisition.selection import PowerSampling, RandomSelection, Selection, TopK


def image_of(unit_id: str) -> str:
    return unit_id.partition("#")[0]


LAYOUT: Any = SimpleNamespace(image_of=image_of)


def ids(count: int) -> list[str]:
    return [f"image{i % 4}#sp={i}" for i in range(count)]


@given(scores=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30), count=st.integers(1, 9))
@pytest.mark.parametrize("within", [TopK(), RandomSelection(), PowerSampling()], ids=lambda s: s.name)
def test_no_image_gives_more_and_every_unit_has_a_rank(within: Selection, scores: list[float], count: int) -> None:
    units, selection = ids(len(scores)), AtMostPerImage(within, count)
    ordered = [units[i] for i in selection.order(units, scores, 0, 1)]
    assert ordered == [units[i] for i in within.order(units, scores, 0, 1)]
    places, most = selection.admit(ordered, LAYOUT)
    assert sorted(places) == list(range(len(units)))
    first, rest = places[:most], places[most:]
    assert first == sorted(first), "in the order of the selection"
    assert rest == sorted(rest)
    there = Counter(map(image_of, units))
    assert Counter(image_of(ordered[i]) for i in first) == {i: min(n, count) for i, n in there.items()}


def test_a_limit_keeps_its_name_and_within_it_the_smaller_one_holds() -> None:
    assert AtMostPerImage(TopK(), 3).name == "AtMostPerImage(TopK,3)"
    both = AtMostPerImage(AtMostPerImage(TopK(), 1), 5)
    assert isinstance(both.by, TopK)
    assert both.admit(["a#1", "a#2", "b#1"], LAYOUT) == ([0, 2, 1], 2)
    with pytest.raises(ValueError, match="at least 1 unit of an image, got 0"):
        AtMostPerImage(TopK(), 0)


@given(size=st.integers(0, 40), count=st.integers(1, 45), data=st.data())
def test_candidates_do_not_depend_on_the_order_of_the_pool(size: int, count: int, data: st.DataObject) -> None:
    units = ids(size)
    drawn = draw_candidates(units, count, 3, 1)
    assert len(drawn) == min(count, size)
    assert drawn == [u for u in units if u in set(drawn)]
    shuffled = data.draw(st.permutations(units))
    assert set(draw_candidates(shuffled, count, 3, 1)) == set(drawn)


def test_each_cycle_and_seed_draws_its_own_candidates() -> None:
    units = ids(40)
    drawn = {tuple(draw_candidates(units, 10, seed, cycle)) for seed in range(3) for cycle in range(3)}
    assert len(drawn) == 9
    assert draw_candidates(units, None, 0, 0) == units
    # an unlabelled unit stays a candidate when others leave the pool
    kept = draw_candidates(units, 10, 0, 0)
    assert set(kept[1:]) < set(draw_candidates([u for u in units if u != kept[0]], 10, 0, 0))


@given(
    centres=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=40),
    distance=st.floats(0.5, 20),
)
def test_what_is_taken_lies_far_apart_and_what_is_not_is_close_to_something_better(
    centres: list[tuple[int, int]], distance: float
) -> None:
    units = ids(len(centres))
    layout: Any = SimpleNamespace(
        image_of=image_of, centres_of=lambda unit_ids: [centres[units.index(u)] for u in unit_ids]
    )
    order, most = FarApart(TopK(), distance).admit(units, layout)
    assert sorted(order) == list(range(len(units)))
    taken: list[int] = []
    # by the definition, unit by unit
    for i, unit_id in enumerate(units):
        near = (math.dist(centres[i], centres[j]) for j in taken if image_of(units[j]) == image_of(unit_id))
        if all(d >= distance for d in near):
            taken.append(i)
    assert order[:most] == taken


def test_limits_of_two_kinds_hold_together() -> None:
    layout: Any = SimpleNamespace(
        image_of=image_of, centres_of=lambda unit_ids: [(0, int(u.partition("#")[2])) for u in unit_ids]
    )
    both = AtMostPerImage(FarApart(TopK(), 2), 2)
    assert both.name == "AtMostPerImage(FarApart(TopK,2),2)"
    assert isinstance(both.by, TopK)
    assert both.admit(["a#0", "a#1", "a#2", "a#9", "b#1"], layout) == ([0, 2, 4, 3, 1], 3)
    with pytest.raises(ValueError, match="distance above 0 pixels, got 0"):
        FarApart(TopK(), 0)
