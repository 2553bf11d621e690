"""Scores to chosen units."""

import itertools
import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.limits import AtMostPerImage
from acquisition.selection import (
    Alphabetical,
    FromFile,
    PowerSampling,
    RandomSelection,
    Selection,
    SoftmaxSampling,
    SoftRankSampling,
    Stride,
    TopK,
    rank_units,
)

SELECTIONS = [TopK(), Stride(3), Alphabetical(), RandomSelection(), PowerSampling(1.0), PowerSampling(0.0)]
SELECTIONS += [SoftmaxSampling(2.0), SoftRankSampling(1.0)]
BY_SCORE = [TopK(), Stride(2), PowerSampling(), SoftmaxSampling(), SoftRankSampling()]
by_score = pytest.mark.parametrize("selection", BY_SCORE, ids=lambda s: s.name)
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


@pytest.mark.parametrize(
    ("selection", "weights"),
    [
        (PowerSampling(0.0), [1, 1, 1]),
        (PowerSampling(1.0), [1, 2, 4]),
        (PowerSampling(2.0), [1, 4, 16]),
        (SoftmaxSampling(0.0), [1, 1, 1]),
        (SoftmaxSampling(0.5), [math.exp(0.5), math.exp(1), math.exp(2)]),
        (SoftRankSampling(0.0), [1, 1, 1]),
        (SoftRankSampling(1.0), [1 / 3, 1 / 2, 1]),
        (SoftRankSampling(2.0), [1 / 9, 1 / 4, 1]),
    ],
    ids=lambda x: x.name if isinstance(x, Selection) else "",
)
def test_stochastic_batches_draw_without_replacement_in_proportion_to_a_weight(
    selection: Selection, weights: list[float]
) -> None:
    """Kirsch et al. 2023: score**exponent, exp(exponent x score), rank**-exponent."""
    draws = 3000
    pairs = Counter(tuple(selection.order(ids(3), [1.0, 2.0, 4.0], seed, 0)[:2]) for seed in range(draws))
    for first, second in itertools.permutations(range(3), 2):
        total = sum(weights)
        share = weights[first] / total * weights[second] / (total - weights[first])
        # five standard deviations of a share
        assert abs(pairs[first, second] / draws - share) < 5 * math.sqrt(share * (1 - share) / draws)


def test_a_large_exponent_is_top_k() -> None:
    scores = random.Random(0).sample(range(1, 200), 30)
    for selection in (PowerSampling(5000), SoftmaxSampling(5000), SoftRankSampling(5000)):
        assert selection.order(ids(30), scores, 0, 0) == TopK().order(ids(30), scores, 0, 0)


@pytest.mark.parametrize("stride", [1, 4, 16, 32, 128, 256])
def test_the_strides_of_the_thesis_on_a_pool_of_its_kind(stride: int) -> None:
    scores = [float(-i) for i in range(2000)]
    order = Stride(stride).order(ids(2000), scores, 0, 0)
    first_round = 2000 // stride
    assert order[:first_round] == list(range(stride - 1, 2000, stride))
    assert sorted(order) == list(range(2000))


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
    with pytest.raises(ValueError, match="exponent must be at least 0"):
        SoftmaxSampling(-1)
    with pytest.raises(ValueError, match="exponent must be at least 0"):
        SoftRankSampling(-1)


def test_names_tell_settings_apart() -> None:
    assert [s.name for s in SELECTIONS[:5]] == [
        "TopK",
        "Stride(3)",
        "Alphabetical",
        "RandomSelection",
        "PowerSampling(1)",
    ]


def test_a_file_gives_the_order(tmp_path: Path) -> None:
    path = tmp_path / "order.txt"
    path.write_bytes("\ufeffcity/03\r\n\n city/01 \ncity/00\n".encode())
    selection = FromFile(str(path))
    assert selection.name == "FromFile(order.txt)"
    units, scores = ["city/02", "city/01", "city/03", "city/04"], [0.1, 0.2, 0.0, 0.9]
    assert [units[i] for i in selection.order(units, scores, 0, 0)] == ["city/03", "city/01", "city/04", "city/02"]
    selection.check([*units, "city/00"])
    with pytest.raises(ValueError, match=r"units of the train split in .*order\.txt, got 'city/00', which"):
        selection.check(units)
    with pytest.raises(ValueError, match=r"got 'city/03' and 2 others, which the data set does not have"):
        AtMostPerImage(selection, 1).check([])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "got no such text .*No such file"),
        (b"\xff\xfe", "got no such text .*utf-8"),
        (b"\n \n", "got an empty file"),
        (b"a\nb\na\n", "names the unit 'a' twice"),
    ],
)
def test_a_file_that_gives_no_order_is_refused(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "order.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words):
        FromFile(str(path))
