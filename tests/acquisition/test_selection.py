"""Scores to chosen units."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.selection import Alphabetical, PowerSampling, RandomSelection, Selection, Stride, TopK, rank_units

SELECTIONS = [TopK(), Stride(3), Alphabetical(), RandomSelection(), PowerSampling(1.0), PowerSampling(0.0)]
by_score = pytest.mark.parametrize("selection", [TopK(), Stride(2), PowerSampling()], ids=lambda s: s.name)
each = pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: s.name)
# few distinct scores, so that ties are the rule
pools = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=25)


def ids(count: int) -> list[str]:
    return [f"city/{i:02d}" for i in range(count)]


@each
@given(scores=pools, seed=st.integers(0, 3), data=st.data())
def test_a_permutation_that_does_not_depend_on_the_order_of_the_pool(
    selection: Selection, scores: list[float], seed: int, data: st.DataObject
) -> None:
    units = ids(len(scores))
    order = selection.order(units, scores, seed, 1)
    assert sorted(order) == list(range(len(scores)))
    shuffled = data.draw(st.permutations(range(len(scores))))
    again = selection.order([units[i] for i in shuffled], [scores[i] for i in shuffled], seed, 1)
    assert [units[i] for i in order] == [units[shuffled[j]] for j in again]


@given(pools)
def test_top_k_never_goes_up_again(scores: list[float]) -> None:
    ranked = [scores[i] for i in TopK().order(ids(len(scores)), scores, 0, 0)]
    assert ranked == sorted(scores, reverse=True)


def test_ties_are_neither_alphabetical_nor_the_same_for_every_seed() -> None:
    units = ids(20)
    orders = {seed: rank_units(units, [1.0] * 20, seed) for seed in range(4)}
    assert len({tuple(o) for o in orders.values()}) == 4
    assert all(o != list(range(20)) for o in orders.values())
    # pinned: a resumed experiment goes on with the same units after an upgrade
    assert rank_units(units[:6], [1.0] * 6, 0) == [5, 4, 1, 3, 2, 0]


def test_a_tie_does_not_move_when_another_unit_leaves() -> None:
    units = ids(12)
    names = [units[i] for i in rank_units(units, [1.0] * 12, 5)]
    fewer = units[:4] + units[5:]
    assert [fewer[i] for i in rank_units(fewer, [1.0] * 11, 5)] == [n for n in names if n != units[4]]


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (1, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        (4, [4, 8, 5, 10, 6, 7, 9, 1, 2, 3]),
        (10, [10, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (11, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_stride_by_hand(stride: int, expected: list[int]) -> None:
    # rounds of stride 4: 4 8 | of 1 2 3 5 6 7 9 10: 5 10 | of 1 2 3 6 7 9: 6 | of 1 2 3 7 9: 7 | of 1 2 3 9: 9 | 1 2 3
    scores = [float(10 - i) for i in range(10)]
    assert [i + 1 for i in Stride(stride).order(ids(10), scores, 0, 0)] == expected


@given(pools, st.integers(1, 30))
def test_stride_is_top_k_thinned(scores: list[float], stride: int) -> None:
    top = TopK().order(ids(len(scores)), scores, 0, 0)
    first_round = top[stride - 1 :: stride]
    assert Stride(stride).order(ids(len(scores)), scores, 0, 0)[: len(first_round)] == first_round


def test_alphabetical_is_by_name_whatever_the_scores() -> None:
    units = ["b/2", "a/9", "b/10", "a/1"]
    assert [units[i] for i in Alphabetical().order(units, [9.0, 1.0, float("nan"), 3.0], 0, 0)] == sorted(units)


def test_random_selection_differs_between_seeds_and_cycles_only() -> None:
    units, scores = ids(15), [float(i) for i in range(15)]
    orders = [RandomSelection().order(units, scores, seed, cycle) for seed, cycle in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(o) for o in orders}) == 3
    assert RandomSelection().order(units, [0.0] * 15, 0, 0) == orders[0]


def test_power_sampling_draws_in_proportion_to_score_to_the_exponent() -> None:
    scores = [1.0, 2.0, 4.0]
    for exponent, shares in ((0.0, [1 / 3] * 3), (1.0, [1 / 7, 2 / 7, 4 / 7]), (2.0, [1 / 21, 4 / 21, 16 / 21])):
        sampling = PowerSampling(exponent)
        first = Counter(sampling.order(ids(3), scores, seed, 0)[0] for seed in range(3000))
        got = np.array([first[i] / 3000 for i in range(3)])
        # five standard deviations of a share of 3000 draws are 0.046 at most
        assert np.abs(got - shares).max() < 0.046


def test_power_sampling_with_a_large_exponent_is_top_k() -> None:
    scores = random.Random(0).sample(range(1, 200), 30)
    assert PowerSampling(5000).order(ids(30), scores, 0, 0) == TopK().order(ids(30), scores, 0, 0)


@pytest.mark.parametrize("exponent", [0.001, 0.5, 1.0, 8.0])
def test_power_sampling_takes_what_has_no_score_last(exponent: float) -> None:
    scores = [0.0, 1e-3, -1.0, 2.0, 0.0, 0.7]
    for seed in range(50):
        order = PowerSampling(exponent).order(ids(6), scores, seed, 0)
        assert set(order[:3]) == {1, 3, 5}, f"seed {seed}"


@by_score
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(selection: Selection, bad: float) -> None:
    with pytest.raises(ValueError, match=r"scores must be finite numbers, got (nan|inf) for unit 'city/01'"):
        selection.order(ids(3), [1.0, bad, 2.0], 0, 0)


def test_arguments_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="stride must be at least 1, got 0"):
        Stride(0)
    with pytest.raises(ValueError, match=r"exponent must be at least 0, got -0\.5"):
        PowerSampling(-0.5)


def test_names_tell_settings_apart() -> None:
    assert [s.name for s in SELECTIONS[:5]] == [
        "TopK",
        "Stride(3)",
        "Alphabetical",
        "RandomSelection",
        "PowerSampling(1)",
    ]
