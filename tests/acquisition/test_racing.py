"""Races against the ranking with all samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.limits import Allowance
from acquisition.racing import Race, decide, moderated


def test_rounds_double_up_to_the_full_number() -> None:
    assert Race(8).rounds(50) == [8, 16, 32, 50]
    assert Race(8).rounds(16) == [8, 16]
    assert Race(8).rounds(5) == [5]


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=40),
    st.integers(0, 45),
    st.floats(0, 3),
)
def test_every_unit_is_decided_once_and_never_too_many_are_in(scores: list[float], slots: int, spread: float) -> None:
    result = decide(scores, [spread] * len(scores), slots, 8, 32, 0.95, 4)
    everyone = np.concatenate([result.chosen, result.refused, result.undecided])
    assert sorted(everyone) == list(range(len(scores)))
    assert len(result.chosen) <= slots
    assert len(result.chosen) + len(result.undecided) >= min(slots, len(scores))
    inside = [scores[i] for i in result.chosen]
    outside = [scores[i] for i in result.refused]
    assert not inside or not outside or min(inside) >= max(outside)
    assert 0 <= result.risk <= len(scores)


def test_by_hand() -> None:
    # cut between 5 and 4 at 4.5; equal errors have no scatter of their own, so their common level counts as known:
    # sqrt(1 - 8/32) = 0.866 times exp(0.2209) = 1.247, the bias of the log of chi-square(3) / 3; 99 % reaches 2.78
    result = decide([9, 5, 4, 1], [1.0] * 4, 2, 8, 32, 0.99, 4)
    assert result.chosen.tolist() == [0]
    assert result.refused.tolist() == [3]
    assert result.undecided.tolist() == [1, 2]


def race(seed: int, scatter: float) -> tuple[float, int, float]:
    """Risk, wrong picks and share of samples spent in one race for 40 of 400 units whose scatter differs."""
    rng = np.random.default_rng(seed)
    truth, deviation = rng.gamma(2, 1, size=400), 0.5 * np.exp(scatter * rng.normal(size=400))
    samples = truth[:, None] + deviation[:, None] * rng.normal(size=(400, 64))
    full = set(np.argsort(-samples.mean(axis=1))[:40])
    open_units, chosen, spent, risk, slots = np.arange(400), [], 0, 0.0, 40
    for count in Race(8, 0.95).rounds(64):
        spent += count * len(open_units)
        seen = samples[open_units, :count]
        groups = seen.reshape(len(open_units), 4, -1).mean(axis=2)
        if count == 64:
            chosen += list(open_units[np.argsort(-seen.mean(axis=1))[:slots]])
            break
        result = decide(seen.mean(axis=1), groups.std(axis=1, ddof=1) / 2, slots, count, 64, 0.95, 4)
        chosen += list(open_units[result.chosen])
        slots, risk = slots - len(result.chosen), risk + result.risk
        open_units = open_units[result.undecided]
        if not len(open_units):
            break
    assert len(set(chosen)) == 40
    return risk, 40 - len(full & set(chosen)), spent / (400 * 64)


@pytest.mark.parametrize("scatter", [0.0, 0.5])
def test_the_risk_is_the_number_of_wrong_picks(scatter: float) -> None:
    risks, wrong, spent = np.mean([race(seed, scatter) for seed in range(150)], axis=0)
    assert spent < 0.25
    assert 0.05 < wrong < 0.5
    assert wrong / 2 < risks < 2 * wrong


def test_a_budget_pays_in_order_up_to_the_first_that_it_cannot() -> None:
    budget = Allowance(3, 10)
    assert budget.pays([4, 4, 2, 1]) == 3
    assert budget.pays([4, 7, 1]) == 1
    assert budget.without([4]) == Allowance(2, 6)
    assert Allowance(3).without([4]) == Allowance(2)
    assert Allowance(0, 10).pays([1]) == Allowance(2, 0).pays([1]) == 0


def test_nothing_is_chosen_where_the_best_cannot_be_paid_for() -> None:
    result = decide([9, 5, 1], [1.0] * 3, 0, 8, 32, 0.99, 4)
    assert result.chosen.tolist() == []
    # another sample may put the second, which may be smaller, in front
    assert 0 in result.undecided


def test_moderated_errors_find_the_prior() -> None:
    rng = np.random.default_rng(0)
    prior, level, freedom = 8, 2.0, 3
    variances = prior * level / rng.chisquare(prior, size=20000)
    errors = np.sqrt(variances * rng.chisquare(freedom, size=20000) / freedom)
    drawn, total = moderated(errors, freedom)
    assert total == pytest.approx(prior + freedom, rel=0.1)
    assert np.mean((drawn**2 - variances) ** 2) < 0.5 * np.mean((errors**2 - variances) ** 2)
    # all alike: as sure as can be
    same, endless = moderated(np.sqrt(level * rng.chisquare(freedom, size=20000) / freedom), freedom)
    assert endless > 100
    assert same.mean() == pytest.approx(level**0.5, rel=0.05)


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="at least 8 first MC samples"):
        Race(first=4)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        Race(confidence=1.0)
