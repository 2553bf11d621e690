"""Resamples as weights against resamples drawn image by image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.linear_model import LinearRegression

from reports.intervals import resample_weights
from reports.weighted_statistics import correlation, covariances, partial_correlation, share_of_hardest, weighted_ranks


@pytest.fixture
def columns() -> np.ndarray:
    """Six columns over 30 images: the first three related, the fourth with many ties, two sizes."""
    rng = np.random.default_rng(0)
    size = rng.gamma(2, 100, 30)
    target = size * rng.uniform(0.5, 1.5, 30)
    return np.stack([target, size + rng.normal(0, 60, 30), target**3, np.round(target / 100), size, np.sqrt(size)])


def drawn_weights(images: int, draws: int, seed: int) -> np.ndarray:
    """The images as they are, and then so many resamples of them."""
    drawn = np.random.default_rng(seed).integers(images, size=(draws, images))
    return resample_weights(np.concatenate([np.arange(images)[None], drawn]), images)


def resampled(weights: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    return [values[..., np.repeat(np.arange(len(w)), w)] for w in weights]


@given(st.lists(st.integers(0, 4), min_size=3, max_size=12), st.integers(0, 99))
def test_ranks_within_a_resample(values: list[int], seed: int) -> None:
    weights = drawn_weights(len(values), 5, seed)
    ranks = weighted_ranks(weights, np.array(values, float))
    for w, r, sample in zip(weights, ranks, resampled(weights, np.array(values, float)), strict=True):
        assert np.repeat(r, w) == pytest.approx(stats.rankdata(sample))


def test_every_draw_against_scipy(columns: np.ndarray) -> None:
    weights = drawn_weights(30, 60, seed=3)
    plain, ranked = covariances(weights, columns), covariances(weights, columns, ranks=True)
    for other in (1, 2, 3):
        pearson, spearman = correlation(plain, 0, other), correlation(ranked, 0, other)
        for k, sample in enumerate(resampled(weights, columns)):
            assert pearson[k] == pytest.approx(stats.pearsonr(sample[0], sample[other])[0])
            assert spearman[k] == pytest.approx(stats.spearmanr(sample[0], sample[other])[0])


def test_a_monotone_function_has_spearman_one(columns: np.ndarray) -> None:
    ranked = covariances(drawn_weights(30, 20, 0), columns, ranks=True)
    assert correlation(ranked, 0, 2) == pytest.approx(1)


def test_partial_correlation_is_that_of_the_residuals(columns: np.ndarray) -> None:
    weights = drawn_weights(30, 30, seed=4)
    partial = partial_correlation(covariances(weights, columns), 0, 1, [4, 5])
    for k, sample in enumerate(resampled(weights, columns)):
        sizes = sample[4:].T
        left = [c - LinearRegression().fit(sizes, c).predict(sizes) for c in sample[:2]]
        assert partial[k] == pytest.approx(stats.pearsonr(*left)[0], abs=1e-6)


def test_nothing_is_left_of_a_size_given_that_size(columns: np.ndarray) -> None:
    matrices = covariances(drawn_weights(30, 10, 0), columns)
    assert np.isnan(partial_correlation(matrices, 0, 4, [4, 5])).all()
    # a control that is constant, or there twice, changes nothing
    more = np.vstack([columns, np.full(30, 7.0), columns[4]])
    matrices = covariances(drawn_weights(30, 10, 0), more)
    assert partial_correlation(matrices, 0, 1, [4, 6, 7]) == pytest.approx(partial_correlation(matrices, 0, 1, [4]))


@pytest.mark.parametrize("ranks", [False, True])
@pytest.mark.parametrize("value", [1.0, 0.1, 1e9])
def test_a_constant_correlates_with_nothing(columns: np.ndarray, ranks: bool, value: float) -> None:
    matrices = covariances(drawn_weights(30, 10, 0), np.vstack([columns[:1], np.full((1, 30), value)]), ranks)
    assert np.isnan(correlation(matrices, 0, 1)).all()


def test_precision_by_hand() -> None:
    measured = np.array([9, 8, 7, 1, 2, 3, 4, 5, 6, 0.0])
    predicted = np.array([1, 9, 8, 0, 0, 0, 0, 0, 0, 0.0])
    weights = drawn_weights(10, 0, 0)
    # of the two hardest (9, 8) the predictor's first two (8, 7) contain one
    assert share_of_hardest(weights, measured, predicted, 0.2) == [0.5]
    assert share_of_hardest(weights, measured, predicted, 0.3) == [1.0]
    # never less than one image
    assert share_of_hardest(weights, measured, predicted, 0.01) == [0.0]


def test_precision_with_ties_is_its_expectation() -> None:
    measured, predicted = np.arange(10.0), np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1.0])
    weights = drawn_weights(10, 200, 0)
    assert share_of_hardest(weights, measured, np.ones(10), 0.2)[0] == pytest.approx(0.2)
    # two of five that tie are taken, both hardest are among the five
    assert share_of_hardest(weights, measured, predicted, 0.2)[0] == pytest.approx(2 / 5)
    rng = np.random.default_rng(0)
    w, sample = weights[7], resampled(weights, np.stack([measured, predicted]))[7]
    assert w.max() > 1
    brute = []
    for _ in range(4000):
        order = rng.permutation(10)
        top = [set(order[np.argsort(-row[order], kind="stable")[:3]]) for row in sample]
        brute.append(len(top[1]) / 3 if not np.ptp(sample[0]) else _shared(sample, order, rng))
    assert share_of_hardest(weights, measured, predicted, 0.3)[7] == pytest.approx(np.mean(brute), abs=0.03)


def _shared(sample: np.ndarray, order: np.ndarray, rng: np.random.Generator) -> float:
    # ties of the two rankings are broken independently
    other = rng.permutation(sample.shape[1])
    hardest = set(order[np.argsort(-sample[0][order], kind="stable")[:3]])
    taken = set(other[np.argsort(-sample[1][other], kind="stable")[:3]])
    return len(hardest & taken) / 3
