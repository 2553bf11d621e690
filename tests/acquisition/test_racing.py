"""Races against the ranking with all samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.racing import Race, decide


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
    result = decide(scores, [spread] * len(scores), slots, 8, 32, 0.95)
    everyone = np.concatenate([result.chosen, result.refused, result.undecided])
    assert sorted(everyone) == list(range(len(scores)))
    assert len(result.chosen) <= slots
    assert len(result.chosen) + len(result.undecided) >= min(slots, len(scores))
    inside = [scores[i] for i in result.chosen]
    outside = [scores[i] for i in result.refused]
    assert not inside or not outside or min(inside) >= max(outside)
    assert 0 <= result.risk <= len(scores)


def test_by_hand() -> None:
    # cut between 5 and 4 at 4.5; error 1 * sqrt(1 - 8/32) = 0.866; 99 % reaches 2.23
    result = decide([9, 5, 4, 1], [1.0] * 4, 2, 8, 32, 0.99)
    assert result.chosen.tolist() == [0]
    assert result.refused.tolist() == [3]
    assert result.undecided.tolist() == [1, 2]


def test_finds_the_best_with_fewer_samples_when_few_are_close() -> None:
    rng = np.random.default_rng(0)
    truth = np.sort(rng.gamma(2, 1, size=400))[::-1]
    samples = truth[:, None] + rng.normal(0, 0.5, size=(400, 64))
    full = set(np.argsort(-samples.mean(axis=1))[:40])
    open_units, chosen, spent, slots = np.arange(400), [], 0, 40
    for count in Race(8, 0.99).rounds(64):
        spent += count * len(open_units)
        seen = samples[open_units, :count]
        groups = seen.reshape(len(open_units), 4, -1).mean(axis=2)
        if count == 64:
            chosen += list(open_units[np.argsort(-seen.mean(axis=1))[:slots]])
            break
        result = decide(seen.mean(axis=1), groups.std(axis=1, ddof=1) / 2, slots, count, 64, 0.99)
        chosen += list(open_units[result.chosen])
        slots -= len(result.chosen)
        open_units = open_units[result.undecided]
    assert len(set(chosen)) == 40
    assert len(full & set(chosen)) >= 38
    assert spent < 0.5 * 400 * 64


def test_mistakes() -> None:
    with pytest.raises(ValueError, match="at least 8 first MC samples"):
        Race(first=4)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        Race(confidence=1.0)
