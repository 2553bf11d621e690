"""Intervals against scipy called plainly, formulas, and what is degenerate."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from reports.intervals import BOOTSTRAP_FROM, Resampling, mean_interval, resample_weights
from reports.weighted_statistics import correlation, covariances


def correlations(columns: np.ndarray, weights: np.ndarray) -> Sequence[np.ndarray]:
    matrices = covariances(weights, columns)
    return [correlation(matrices, 0, 1), correlation(matrices, 0, 2) - correlation(matrices, 0, 1)]


def test_weights_count_the_images_of_each_resample() -> None:
    assert resample_weights(np.array([[0, 0, 2], [1, 2, 0]]), 4).tolist() == [[2, 0, 1, 0], [1, 1, 1, 0]]


def test_intervals_over_images_are_scipys_bca() -> None:
    rng = np.random.default_rng(0)
    columns = np.exp(rng.normal(size=(3, 25)))
    columns[1] += columns[0]

    def plainly(*sample: np.ndarray, axis: int = -1) -> np.ndarray:
        first = stats.pearsonr(sample[0], sample[1], axis=axis)[0]
        return np.stack([first, stats.pearsonr(sample[0], sample[2], axis=axis)[0] - first])

    theirs = stats.bootstrap(
        tuple(columns), plainly, paired=True, n_resamples=500, method="BCa", vectorized=True,
        rng=np.random.default_rng(7),
    ).confidence_interval  # fmt: skip
    found = Resampling(500, seed=7).estimates(lambda w: correlations(columns, w), 25)
    assert [e.value for e in found] == pytest.approx(plainly(*columns))
    assert [(e.low, e.high) for e in found] == [pytest.approx(x) for x in zip(theirs.low, theirs.high, strict=True)]
    # in blocks or at once
    alike = Resampling(500, seed=7).estimates(lambda w: correlations(columns, w), 25)
    assert alike == found != Resampling(500, seed=8).estimates(lambda w: correlations(columns, w), 25)


def test_what_is_degenerate_falls_back_on_percentiles_or_has_none() -> None:
    def statistics(weights: np.ndarray) -> Sequence[np.ndarray]:
        first = weights[:, 0].astype(float)
        return [np.ones(len(weights)), np.full(len(weights), np.nan), np.where(first == 0, np.nan, first)]

    constant, undefined, sometimes = Resampling(200).estimates(statistics, 6)
    assert (constant.value, constant.low, constant.high) == (1, 1, 1)
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()
    # without the first image there is no statistic, and so no BCa
    assert (sometimes.value, sometimes.low) == (1, 1)
    assert 2 <= sometimes.high <= 4
    (alone,) = Resampling(200).estimates(lambda w: [w[:, 0].astype(float)], 1)
    assert alone.value == 1
    assert np.isnan([alone.low, alone.high]).all()
    with pytest.raises(ValueError, match="at least 1 bootstrap resample, got 0; set draws to 2000"):
        Resampling(0)


def test_few_seeds_have_students_interval() -> None:
    values = np.random.default_rng(1).normal(size=(BOOTSTRAP_FROM - 1, 2))
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    np.testing.assert_allclose(mean_interval(values), [theirs.low, theirs.high])
    # by hand: mean 0.5, deviation sqrt(1/2), t of one degree of freedom 12.71
    assert [float(x) for x in mean_interval([0.0, 1.0])] == pytest.approx([-5.853, 6.853], abs=1e-3)
    assert [float(x) for x in mean_interval([2.0, 2.0, 2.0])] == [2, 2]
    assert np.isnan(mean_interval(np.ones((1, 3)))).all()


def test_more_seeds_have_scipys_bca() -> None:
    values = np.random.default_rng(1).exponential(size=(BOOTSTRAP_FROM, 2))
    low, high = mean_interval(values, seed=3)
    theirs = stats.bootstrap((values.T,), np.mean, axis=-1, rng=np.random.default_rng(3)).confidence_interval
    np.testing.assert_allclose([low, high], [theirs.low, theirs.high])
    assert [float(x) for x in mean_interval(np.full(12, 2.0))] == [2, 2]
