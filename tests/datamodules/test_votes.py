"""Masks as votes."""

from collections import Counter

import numpy as np
import pytest
from acquisition.annotation import VOID
from hypothesis import given
from hypothesis import strategies as st

from datamodules.votes import majority, stack_masks, vote_counts


def column(*votes: int) -> list[np.ndarray]:
    return [np.array([[v]], dtype=np.uint8) for v in votes]


@pytest.mark.parametrize(
    ("votes", "void_tie", "zero_tie"),
    [
        ((1, 1, 0), 1, 1),
        ((1, 0), VOID, 0),
        ((1, 0, VOID), VOID, 0),
        ((1, VOID, VOID), 1, 1),
        ((VOID, VOID), VOID, VOID),
        ((2, 2, 1, 1, 0), VOID, 0),
        ((2, 2, 1, 0), 2, 2),
    ],
)
def test_majority_by_hand(votes: tuple[int, ...], void_tie: int, zero_tie: int) -> None:
    assert majority(column(*votes), 3).item() == void_tie
    assert majority(column(*votes), 3, tie=0).item() == zero_tie


@given(st.lists(st.sampled_from([0, 1, 2, VOID]), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_majority_is_the_mode_in_any_order(votes: list[int], random: object) -> None:
    counted = Counter(v for v in votes if v != VOID).most_common()
    expected = VOID if not counted or (len(counted) > 1 and counted[0][1] == counted[1][1]) else counted[0][0]
    random.shuffle(votes)  # type: ignore[attr-defined]
    assert majority(column(*votes), 3).item() == expected
    assert vote_counts(column(*votes), 3).ravel().tolist() == [votes.count(c) for c in range(3)]


def test_masks_that_cannot_be_votes() -> None:
    with pytest.raises(ValueError, match=r"at least 2 annotators, got 1; variance needs two"):
        stack_masks(column(1), least=2)
    with pytest.raises(ValueError, match=r"at least 1 annotators, got 0"):
        majority([])
    with pytest.raises(ValueError, match=r"one size, got \(2, 2\) from the first annotator and \(2, 3\) from number 3"):
        majority([np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 3))])
    with pytest.raises(ValueError, match=r"values from 0 to 1, or 255 for void, got 7"):
        majority(column(0, 7))
