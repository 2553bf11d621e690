"""Batch selections as the query calls them."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.batch import BADGE, BatchBALD, BatchSelection, CoreSet
from acquisition.features import Feature
from acquisition.selection import TopK

UNITS = [f"city/{i:02d}" for i in range(14)]
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(14, 4, 3))
TABLE = {
    Feature.EMBEDDING: RNG.normal(size=(14, 5)).astype(np.float32),
    Feature.PROBS: RNG.dirichlet(np.ones(3), size=14).astype(np.float32),
    Feature.LOG_PROBS: LOGITS - np.log(np.exp(LOGITS).sum(axis=2, keepdims=True)),
}
LABELLED = {Feature.EMBEDDING: np.zeros((2, 5), dtype=np.float32)}
SCORES = RNG.random(14).round(1).tolist()
each = pytest.mark.parametrize("make", [CoreSet, BADGE, BatchBALD], ids=lambda c: c.__name__)


def fetch(feature: Feature, names: Sequence[str]) -> np.ndarray:
    return TABLE[feature][[UNITS.index(n) for n in names]]


def order(selection: BatchSelection, places: Sequence[int] = range(14), seed: int = 0, count: int = 4) -> list[str]:
    units, scores = [UNITS[i] for i in places], [SCORES[i] for i in places]
    return [units[i] for i in selection.order_by_features(units, scores, seed, 1, count, fetch, LABELLED)]


@each
@given(places=st.permutations(range(14)))
def test_every_unit_once_whatever_the_order_of_the_pool(make: type[BatchSelection], places: list[int]) -> None:
    names = order(make(), places)
    assert sorted(names) == UNITS
    assert names == order(make())


@each
def test_what_is_not_chosen_follows_by_score(make: type[BatchSelection]) -> None:
    names = order(make())
    top = [UNITS[i] for i in TopK().order(UNITS, SCORES, 0, 1)]
    assert names[4:] == [n for n in top if n not in names[:4]]
    assert names[:4] != top[:4]


@each
def test_candidates_are_the_best_by_score_and_no_other_feature_is_read(make: type[BatchSelection]) -> None:
    asked: list[str] = []

    def watched(feature: Feature, names: Sequence[str]) -> np.ndarray:
        asked.extend(names)
        return fetch(feature, names)

    top = [UNITS[i] for i in TopK().order(UNITS, SCORES, 0, 1)[:6]]
    chosen = make(candidates=6).order_by_features(UNITS, SCORES, 0, 1, 4, watched, LABELLED)
    assert {UNITS[i] for i in chosen[:4]} < set(top)
    assert set(asked) == set(top)
    with pytest.raises(ValueError, match="cannot choose 7 units among 6 candidates; raise "):
        make(candidates=6).order_by_features(UNITS, SCORES, 0, 1, 7, watched, LABELLED)


@each
def test_a_pool_smaller_than_the_budget_is_taken_whole(make: type[BatchSelection]) -> None:
    assert sorted(order(make(), range(3), count=10)) == UNITS[:3]
    assert sorted(order(make(candidates=8), range(3), count=10)) == UNITS[:3]


def test_badge_draws_anew_for_every_seed() -> None:
    assert len({tuple(order(BADGE(), seed=s)[:4]) for s in range(6)}) > 3


def test_arguments_and_calls_that_mean_nothing() -> None:
    with pytest.raises(ValueError, match="candidates must be at least 1 unit"):
        CoreSet(candidates=0)
    with pytest.raises(ValueError, match="num_configurations must be at least 1"):
        BatchBALD(num_configurations=0)
    with pytest.raises(ValueError, match="CoreSet chooses by features of the units, got scores alone"):
        CoreSet().order(UNITS, SCORES, 0, 0)
    assert CoreSet(50).name == "CoreSet(top 50)"
    assert BADGE().name == "BADGE"
