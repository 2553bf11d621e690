"""STAPLE and Dawid-Skene against loops over pixels, a case worked by hand, and what must hold of any votes."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from acquisition.annotation import VOID
from datamodules.consensus import Confusions, dawid_skene, staple
from datamodules.votes import majority

# two people, four pixels: both say 1, the first alone says 1, both say 0 twice
PAIR = np.array([[[1, 1, 0, 0]], [[1, 0, 0, 0]]], dtype=np.uint8)
MASKS = arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, VOID]))


def loop(
    masks: np.ndarray, classes: int, steps: int, confusion: list[list[list[float]]], prior: list[float], learn: bool
) -> tuple[list[list[list[float]]], list[float]]:
    """The same steps pixel by pixel, vote by vote."""
    pixels = [p for p in masks.reshape(len(masks), -1).T.tolist() if any(v != VOID for v in p)]
    for _ in range(steps):
        weights = []
        for votes in pixels:
            joint = [
                prior[t] * math.prod(confusion[n][t][v] for n, v in enumerate(votes) if v != VOID)
                for t in range(classes)
            ]
            weights.append([j / sum(joint) for j in joint])
        for n, t in itertools.product(range(len(masks)), range(classes)):
            voted = [(w[t], votes[n]) for w, votes in zip(weights, pixels, strict=True) if votes[n] != VOID]
            if total := sum(w for w, _ in voted):
                confusion[n][t] = [sum(w for w, v in voted if v == c) / total for c in range(classes)]
        if learn:
            prior = [sum(w[t] for w in weights) / len(pixels) for t in range(classes)]
    return confusion, prior


def noisy(seed: int, habits: list[tuple[float, float]], size: int = 40, share: float = 0.2) -> tuple[np.ndarray, ...]:
    """A truth and the masks of people whose pixels err independently, given (sensitivity, specificity) of each."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((size, size)) < share).astype(np.uint8)
    right = np.where(truth == 1, *np.array(habits).T[..., None, None])
    return truth, np.where(rng.random(right.shape) < right, truth, 1 - truth).astype(np.uint8)


def test_two_people_by_hand() -> None:
    # STAPLE: the prior of 1 is 3/8, and is the posterior of the pixel on which they differ, as both are trusted alike
    one = staple(PAIR, iterations=1)
    assert one.prior == pytest.approx([5 / 8, 3 / 8])
    assert one.sensitivity == pytest.approx([1, 8 / 11], abs=1e-4)
    assert one.specificity == pytest.approx([16 / 21, 1], abs=1e-4)
    # Dawid and Skene: their first guess is a fixed point here, which takes that pixel for 1 or 0 alike
    many = dawid_skene([PAIR])
    assert many.sensitivity == pytest.approx([1, 2 / 3])
    assert many.specificity == pytest.approx([4 / 5, 1])
    assert many.prior == pytest.approx([5 / 8, 3 / 8])
    assert many.posterior(PAIR)[1, 0] == pytest.approx([1, 1 / 2, 0, 0])
    assert many.labels(PAIR).tolist() == [[1, VOID, 0, 0]]
    assert many.log_likelihood[0] == pytest.approx(math.log(1 / 4) + math.log(1 / 4) + 2 * math.log(1 / 2))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_against_loops_over_pixels(steps: int) -> None:
    rng = np.random.default_rng(steps)
    masks = rng.choice([0, 1, 2, VOID], p=[0.5, 0.2, 0.2, 0.1], size=(4, 6, 7)).astype(np.uint8)
    votes = masks[masks != VOID]
    prior = [float((votes == c).mean()) for c in range(3)]
    sure = [[0.99999 if t == c else 5e-6 for c in range(3)] for t in range(3)]
    expected, _ = loop(masks, 3, steps, [[list(row) for row in sure] for _ in masks], prior, learn=False)
    found = staple(masks, 3, iterations=steps, tolerance=0)
    assert np.allclose(found.confusion, expected, atol=1e-12)
    # Dawid and Skene: begin with the share of votes as the posterior, over two images
    images = [masks[:, :3], masks[:, 3:]]
    heard = masks[:, (masks != VOID).any(axis=0)]
    guess = np.stack([(heard == c).sum(axis=0) for c in range(3)]) / (heard != VOID).sum(axis=0)
    start = [
        [[float(guess[t][m == c].sum() / guess[t][m != VOID].sum()) for c in range(3)] for t in range(3)] for m in heard
    ]
    # as frequent as the share of votes makes it: a pixel without a vote is no pixel
    expected, prior = loop(heard, 3, steps, start, guess.mean(axis=1).tolist(), learn=True)
    many = dawid_skene(images, 3, iterations=steps, tolerance=0)
    assert np.allclose(many.confusion, expected, atol=1e-12)
    assert np.allclose(many.prior, prior, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(MASKS, st.permutations(range(3)))
def test_what_holds_of_any_votes(masks: np.ndarray, order: list[int]) -> None:
    for found, other in (
        (staple(masks, 3), staple(masks[order], 3)),
        (dawid_skene([masks], 3), dawid_skene([masks[order]], 3)),
    ):
        # EM never loses what it has
        gains = np.diff(found.log_likelihood)
        assert (gains > -1e-9 * max(1, abs(found.log_likelihood[0]))).all()
        # whoever comes first
        assert np.allclose(other.confusion, found.confusion[order], atol=1e-6, equal_nan=True)
        assert np.allclose(found.posterior(masks), other.posterior(masks[order]), atol=1e-4)
        assert np.allclose(found.posterior(masks).sum(axis=0), 1)
        sums = found.confusion.sum(axis=2)
        assert np.allclose(sums[~np.isnan(sums)], 1)
        assert np.array_equal(found.labels(masks) == VOID, (masks == VOID).all(axis=0) | _tied(found, masks))


def _tied(found: Confusions, masks: np.ndarray) -> np.ndarray:
    second, first = np.sort(found.posterior(masks), axis=0)[-2:]
    return first - second < 1e-9


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (4, 5), elements=st.sampled_from([0, 1, 2, VOID])), st.integers(1, 5))
def test_where_all_agree_that_is_the_consensus(mask: np.ndarray, people: int) -> None:
    masks = [mask] * people
    for found in (staple(masks, 3), dawid_skene([masks, masks], 3)):
        assert np.array_equal(found.labels(masks), mask)
        known = [c for c in range(3) if (mask == c).any()]
        assert np.allclose(found.confusion[:, known, known], 1, atol=1e-6)
        assert np.isnan(found.confusion[:, [c for c in range(3) if c not in known]]).all()


def test_good_people_outvote_many_bad_ones() -> None:
    habits = [(0.95, 0.95), (0.95, 0.9), (0.6, 0.6), (0.6, 0.7), (0.55, 0.6)]
    images = [noisy(seed, habits) for seed in range(4)]
    found = dawid_skene([masks for _, masks in images])
    assert np.allclose(np.stack([found.sensitivity, found.specificity], axis=1), habits, atol=0.05)
    assert found.prior[1] == pytest.approx(0.2, abs=0.02)
    wrong = [np.mean(found.labels(masks) != truth) for truth, masks in images]
    wrong_majority = [np.mean(majority(masks) != truth) for truth, masks in images]
    assert np.mean(wrong) < 0.5 * np.mean(wrong_majority)
    # the same votes in one image or in four are the same votes
    whole = dawid_skene([np.concatenate([masks for _, masks in images], axis=1)])
    assert np.allclose(whole.confusion, found.confusion, atol=1e-9)


def test_staple_where_classes_are_as_frequent_as_votes_say() -> None:
    habits = [(0.95, 0.95), (0.9, 0.9), (0.6, 0.6), (0.6, 0.6), (0.6, 0.6)]
    truth, masks = noisy(0, habits, size=60, share=0.5)
    found = staple(masks)
    assert np.allclose(np.stack([found.sensitivity, found.specificity], axis=1), habits, atol=0.05)
    assert np.mean(found.labels(masks) != truth) < 0.5 * np.mean(majority(masks) != truth)


def test_who_has_not_drawn_is_not_judged_and_not_heard() -> None:
    truth, masks = noisy(0, [(0.9, 0.9), (0.8, 0.9), (0.9, 0.8)])
    absent = np.concatenate([masks, np.full_like(masks[:1], VOID)])
    for found, without in ((staple(absent), staple(masks)), (dawid_skene([absent]), dawid_skene([masks]))):
        assert np.allclose(found.confusion[:3], without.confusion, atol=1e-9)
        assert np.isnan(found.confusion[3]).all()
        # on another image their vote says nothing
        heard = np.concatenate([masks, 1 - truth[None]])
        assert np.allclose(found.posterior(heard), without.posterior(masks), atol=1e-9)
    nothing = np.full((2, 3, 3), VOID, dtype=np.uint8)
    for found in (staple(nothing), dawid_skene([nothing])):
        assert (found.labels(nothing) == VOID).all()
    assert np.array_equal(staple(masks[:1]).labels(masks[:1]), masks[0])


def test_many_people_and_classes_are_counted_without_overflow() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 19, (48, 48))
    masks = np.where(rng.random((30, 48, 48)) < 0.8, truth, rng.integers(0, 19, (30, 48, 48)))
    found = staple(masks.astype(np.uint8), 19)
    assert np.array_equal(found.labels(masks), truth)


def test_votes_that_cannot_be() -> None:
    mask = np.zeros((2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="masks of at least 1 annotators, got 0"):
        staple([])
    with pytest.raises(ValueError, match="masks of one size"):
        staple([mask, mask[:1]])
    with pytest.raises(ValueError, match="values from 0 to 1, or 255 for void, got 2"):
        dawid_skene([[mask, mask + 2]])
    with pytest.raises(ValueError, match="at least one image, got none"):
        dawid_skene([])
    with pytest.raises(ValueError, match=r"masks of 2 people, as of the first image, got 1; give void masks"):
        dawid_skene([[mask, mask], [mask]])
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        staple([mask], num_classes=1)
    with pytest.raises(ValueError, match="masks of the 2 people who were judged, got 3"):
        staple([mask, mask]).labels([mask] * 3)
    with pytest.raises(ValueError, match="sensitivity is of two classes, got 3; read the diagonal"):
        _ = staple([mask, mask], 3).sensitivity


def test_a_class_that_was_never_seen_can_be_what_all_say() -> None:
    found = dawid_skene([np.zeros((3, 4, 4), dtype=np.uint8)])
    assert (found.labels(np.ones((3, 2, 2), dtype=np.uint8)) == 1).all()
    assert (found.labels(np.zeros((3, 2, 2), dtype=np.uint8)) == 0).all()
