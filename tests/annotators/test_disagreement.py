"""Measured disagreement, against answers found another way."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score, jaccard_score

from acquisition.annotation import VOID
from annotators.disagreement import against_others, difficulty, pairwise, variance_map

binary = arrays(np.uint8, (4, 5, 6), elements=st.integers(0, 1))
threes = arrays(np.uint8, (5, 4, 4), elements=st.integers(0, 2))
with_void = arrays(np.uint8, (4, 3, 5), elements=st.sampled_from([0, 1, 2, VOID]))


@given(binary)
def test_variance_is_equation_2_1(masks: np.ndarray) -> None:
    assert np.allclose(variance_map(masks), np.var(masks, axis=0, ddof=1))
    assert difficulty(masks).total == pytest.approx(np.var(masks, axis=0, ddof=1).sum())


def test_the_example_of_the_seed() -> None:
    # "classified as road by 5 of the annotators and as not road by the remaining 5"
    masks = np.array([1] * 5 + [0] * 5, dtype=np.uint8)[:, None, None]
    assert variance_map(masks).item() == pytest.approx(10 * 0.25 / 9)


@given(threes)
def test_variance_of_classes_is_half_the_chance_that_two_differ(masks: np.ndarray) -> None:
    differ = np.mean([masks[i] != masks[j] for i, j in itertools.combinations(range(5), 2)], axis=0)
    assert np.allclose(variance_map(masks, 3), differ / 2)


@given(with_void)
def test_void_is_no_vote(masks: np.ndarray) -> None:
    variance = variance_map(masks, 3)
    for y, x in np.ndindex(masks.shape[1:]):
        votes = [v for v in masks[:, y, x] if v != VOID]
        if len(votes) < 2:
            assert np.isnan(variance[y, x])
            continue
        alone = np.array(votes, dtype=np.uint8)[:, None, None]
        assert variance[y, x] == pytest.approx(variance_map(alone, 3).item())
    assert np.isfinite(difficulty(masks, 3).total)


@given(binary)
def test_difficulty_per_object_is_one_minus_mean_overlap(masks: np.ndarray) -> None:
    found = difficulty(masks).per_object
    if not masks.any():
        assert np.isnan(found)
        return
    overlap = np.mean([(a & b).sum() for a, b in itertools.combinations(masks, 2)])
    assert found == pytest.approx(1 - overlap / masks.sum(axis=(1, 2)).mean())
    assert -1e-12 <= found <= 1 + 1e-12


def test_difficulty_per_boundary_by_hand() -> None:
    square = np.zeros((8, 8), dtype=np.uint8)
    square[2:6, 2:6] = 1
    wider = square.copy()
    wider[2:6, 6] = 1
    found = difficulty([square, square, wider])
    # four pixels of variance 1/3; a ring of 12; areas 16, 16, 20
    assert found.total == pytest.approx(4 / 3)
    assert found.per_boundary == pytest.approx(4 / 3 / 12)
    assert found.per_object == pytest.approx(4 / 3 / (52 / 3))
    assert difficulty([square, square]).per_object == 0


@given(with_void)
def test_pairwise_against_scikit_learn(masks: np.ndarray) -> None:
    for measure, reference in (("iou", jaccard_score), ("dice", f1_score)):
        found = pairwise(masks, measure, 3)
        assert np.array_equal(found, found.T, equal_nan=True)
        for i, j in np.ndindex(found.shape):
            both = (masks[i] != VOID) & (masks[j] != VOID)
            a, b = masks[i][both], masks[j][both]
            classes = [c for c in (1, 2) if c in a or c in b]
            if classes:
                assert found[i, j] == pytest.approx(reference(a, b, labels=classes, average="macro", zero_division=0))
            else:
                assert np.isnan(found[i, j])


def test_habits_show_against_the_others() -> None:
    rows, columns = np.mgrid[:32, :32]
    distance = np.hypot(rows - 16, columns - 16)
    masks = [(distance < r).astype(np.uint8) for r in (8, 8, 8, 6, 11)]
    fair, _, _, small, large = against_others(masks)
    assert (fair.precision, fair.recall, fair.area_ratio) == (1, 1, 0)
    assert small.precision == 1
    assert small.recall == pytest.approx(masks[3].sum() / masks[0].sum())
    assert small.area_ratio == pytest.approx(small.recall - 1)
    assert large.recall == 1
    assert large.area_ratio == pytest.approx(1 / large.precision - 1)
    # of two others, both must mark a pixel
    assert against_others([masks[0], masks[3], masks[4]])[0].recall == 1


def test_nothing_drawn_at_all() -> None:
    empty = np.zeros((3, 4, 4), dtype=np.uint8)
    with np.errstate(all="raise"):
        found = difficulty(empty)
        assert found.total == 0
        assert np.isnan([found.per_object, found.per_boundary]).all()
        assert np.isnan(pairwise(empty)).all()
        assert all(np.isnan([a.precision, a.recall, a.area_ratio]).all() for a in against_others(empty))


@pytest.mark.parametrize("function", [variance_map, difficulty, pairwise, against_others])
def test_masks_that_cannot_be_compared(function: object) -> None:
    with pytest.raises(ValueError, match="at least 2 annotators, got 1; variance needs two"):
        function([np.zeros((2, 2))])  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"one size, got \(2, 2\) .* and \(3, 2\) from number 2"):
        function([np.zeros((2, 2)), np.zeros((3, 2))])  # type: ignore[operator]
    with pytest.raises(ValueError, match="mask values from 0 to 1, or 255 for void, got 2"):
        function(np.full((2, 2, 2), 2))  # type: ignore[operator]


def test_an_unknown_measure() -> None:
    with pytest.raises(ValueError, match="'iou' or 'dice', got 'f1'"):
        pairwise(np.zeros((2, 2, 2)), "f1")
