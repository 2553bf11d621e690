"""Tests, intervals and points on curves against scipy, statsmodels, brute force and cases worked by hand."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from reports.statistics import (
    break_even_point,
    friedman,
    holm,
    labels_to_reach,
    mean_ranks,
    pairwise_penalties,
    sign_flip_test,
    smallest_sign_flip_p,
    wilcoxon_test,
)

some_differences = st.lists(st.floats(-5, 5).map(lambda x: round(x, 3)), min_size=1, max_size=8)


@given(some_differences)
def test_sign_flips_agree_with_brute_force(differences: list[float]) -> None:
    seen = abs(np.mean(differences))
    means = [abs(np.mean(np.array(signs) * differences)) for signs in product([1, -1], repeat=len(differences))]
    assert sign_flip_test(differences) == pytest.approx(np.mean([m >= seen - 1e-12 for m in means]))


@given(st.integers(1, 10))
def test_the_smallest_p_is_reached_and_never_undercut(pairs: int) -> None:
    assert sign_flip_test(np.arange(1, pairs + 1)) == pytest.approx(smallest_sign_flip_p(pairs))
    assert wilcoxon_test(np.arange(1, pairs + 1)).p == pytest.approx(smallest_sign_flip_p(pairs))


def test_smallest_p_by_hand() -> None:
    assert [smallest_sign_flip_p(n) for n in (1, 4, 6)] == [1, 1 / 8, 1 / 32]


def test_many_pairs_are_drawn_not_counted() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1, size=30)
    assert sign_flip_test(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_wilcoxon() -> None:
    differences = [0.3, -0.1, 0.8, 0.5, 0.6, 0.2]
    # the one negative difference has rank 1: W = 1, and 2 of 64 patterns have W of 0 or 1 on each side
    assert wilcoxon_test(differences) == (1, pytest.approx(4 / 64))
    assert wilcoxon_test([0.0, 0.0, 0.0]).p == 1
    assert np.isnan(wilcoxon_test([]).p)
    assert np.isnan(sign_flip_test([]))


def test_holm() -> None:
    # smallest times 3, next times 2, and never below the one before
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.04, float("nan"), 0.01])[::2] == pytest.approx(list(multipletests([0.04, 0.01], method="holm")[1]))
    assert np.isnan(holm([0.04, float("nan")])[1])


def test_penalties_agree_with_scipy() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=(3, 5, 8)) + np.array([0, 0.8, 1.6])[:, None, None]
    expected = np.zeros((3, 3))
    for i, j, r in product(range(3), range(3), range(8)):
        if i != j:
            test = stats.ttest_rel(scores[i, :, r], scores[j, :, r])
            expected[i, j] += (test.pvalue < 0.05 and test.statistic > 0) / 8
    assert 0 < expected.sum() < 6
    np.testing.assert_allclose(pairwise_penalties(scores), expected)


def test_penalties_by_hand() -> None:
    # round 0: every seed better by the same amount; round 1: no seed differs; rounds 2 and 3: not by chance alone
    ours = np.array([[0.5, 0.5, 0.9, 0.1], [0.6, 0.6, 0.8, 0.7]])
    theirs = np.array([[0.25, 0.5, 0.1, 0.9], [0.35, 0.6, 0.9, 0.1]])
    np.testing.assert_array_equal(pairwise_penalties(np.stack([ours, theirs])), [[0, 0.25], [0, 0]])
    with pytest.raises(ValueError, match="at least 2 seeds and 1 round, got 1 and 4"):
        pairwise_penalties(np.zeros((2, 1, 4)))


def test_labels_to_reach_by_hand() -> None:
    curve = [10, 20, 40], [0.2, 0.4, 0.3]
    assert labels_to_reach(*curve, 0.3) == pytest.approx(15)
    assert labels_to_reach(*curve, 0.4) == pytest.approx(20)
    assert labels_to_reach(*curve, 0.1) == 10
    assert np.isnan(labels_to_reach(*curve, 0.41))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(0, 1))
def test_a_reached_level_lies_on_the_curve(scores: list[float], level: float) -> None:
    units = np.arange(len(scores)) * 5 + 10
    at = labels_to_reach(units, scores, level)
    if np.isnan(at):
        assert max(scores) < level
    else:
        assert np.interp(at, units, scores) == pytest.approx(max(level, scores[0]), abs=1e-6)
        assert all(s < level for u, s in zip(units, scores, strict=True) if u < at - 1e-6)


def test_break_even_by_hand() -> None:
    baseline = [0.5, 0.5, 0.5, 0.5]
    # from -0.1 to +0.3 between 20 and 30: a quarter of the way
    assert break_even_point([10, 20, 30, 40], [0.5, 0.4, 0.8, 0.6], baseline) == pytest.approx(22.5)
    assert break_even_point([10, 20, 30, 40], [0.4, 0.6, 0.4, 0.6], baseline) == pytest.approx(35), "the last crossing"
    assert break_even_point([10, 20, 30, 40], [0.5, 0.6, 0.5, 0.6], baseline) == 10, "equal is not below"
    assert np.isnan(break_even_point([10, 20, 30, 40], [0.6, 0.6, 0.6, 0.5], baseline))


def test_ranks_and_friedman() -> None:
    scores = pd.DataFrame({"a": [3.0, 3.0, 2.0], "b": [2.0, 3.0, 1.0], "c": [1.0, 1.0, 3.0]})
    assert mean_ranks(scores).to_dict() == pytest.approx({"a": (1 + 1.5 + 2) / 3, "b": (2 + 1.5 + 3) / 3, "c": 7 / 3})
    found = friedman(scores)
    assert found is not None
    assert found == pytest.approx(stats.friedmanchisquare(*scores.to_numpy().T))
    assert friedman(scores.head(2)) is None
    assert friedman(scores[["a", "b"]]) is None
