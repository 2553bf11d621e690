"""Pixel statistics from sums against the pixels themselves."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from reports.intervals import Resampling
from reports.pixel_agreement import PixelSums, boundary_nearness


@pytest.fixture
def pixels() -> list[tuple[np.ndarray, np.ndarray]]:
    """Map and variance of five images of different size; in the last nobody disagrees."""
    rng = np.random.default_rng(0)
    images = []
    for k in range(5):
        variance = rng.choice([0, 0.2, 0.3], p=[0.8, 0.1, 0.1], size=(20, 30 + k)) * (k < 4)
        values = np.clip(rng.gamma(0.3, 0.05, variance.shape) + 0.1 * variance, 0, 0.25)
        images.append((values.astype(np.float32), variance.astype(np.float32)))
    return images


def summed(images: list[tuple[np.ndarray, np.ndarray]]) -> PixelSums:
    sums = PixelSums(("total", "constant"))
    for values, variance in images:
        sums.add({"total": values, "constant": np.ones_like(values)}, variance)
    return sums


def test_pooled_and_per_image_against_the_libraries(pixels: list[tuple[np.ndarray, np.ndarray]]) -> None:
    table = summed(pixels).table(Resampling(300)).set_index("map")
    x, v = (np.concatenate([p[k].ravel() for p in pixels]) for k in (0, 1))
    row = table.loc["total"]
    assert row["pearson_pooled"] == pytest.approx(stats.pearsonr(x, v)[0], abs=1e-6)
    assert row["auroc_pooled"] == pytest.approx(roc_auc_score(v > 0, x), abs=1e-3)
    each = [roc_auc_score(p[1].ravel() > 0, p[0].ravel()) for p in pixels[:4]]
    assert row["auroc_mean"] == pytest.approx(np.mean(each), abs=1e-3)
    assert row["pearson_mean"] == pytest.approx(
        np.mean([stats.pearsonr(a.ravel(), b.ravel())[0] for a, b in pixels[:4]])
    )
    assert row["images_with_auroc"] == 4

    # the interval: images drawn with their pixels
    def auroc(drawn: np.ndarray) -> float:
        a, b = (np.concatenate([pixels[i][k].ravel() for i in drawn]) for k in (0, 1))
        return float(roc_auc_score(b > 0, a)) if (b > 0).any() else 0.5

    theirs = stats.bootstrap(
        (np.arange(5),), auroc, n_resamples=300, method="BCa", vectorized=False, rng=np.random.default_rng(0)
    ).confidence_interval
    assert (row["auroc_pooled_low"], row["auroc_pooled_high"]) == pytest.approx((theirs.low, theirs.high), abs=5e-3)


def test_a_constant_map_knows_nothing(pixels: list[tuple[np.ndarray, np.ndarray]]) -> None:
    row = summed(pixels).table(Resampling(20)).set_index("map").loc["constant"]
    assert (row["auroc_pooled"], row["auroc_mean"]) == (0.5, 0.5)
    assert np.isnan(row[["pearson_pooled", "pearson_mean", "pearson_pooled_low"]].astype(float)).all()


def test_tiny_and_large_values_keep_their_order() -> None:
    values = np.array([[0, 1e-5, 1e-3, 0.2, 1.0, 6.0]], np.float32)
    variance = np.array([[0, 0, 0, 0.3, 0.3, 0.3]], np.float32)
    table = summed([(values, variance), (values, variance)]).table(Resampling(5))
    assert table.loc[0, "auroc_pooled"] == 1


def test_calibration_by_hand() -> None:
    # bins of 0.025: two pixels predict 0.01 and measure 0 and 0.1, two predict 0.1 and measure 0.3
    values = np.array([[0.01, 0.01, 0.1, 0.1]], np.float64)
    variance = np.array([[0.0, 0.1, 0.3, 0.3]], np.float64)
    table = summed([(values, variance)] * 3).calibration(Resampling(5), ["total"])
    assert table["from"].tolist() == pytest.approx([0, 0.1])
    assert table["pixels"].tolist() == [6, 6]
    assert table["mean_predicted"].tolist() == pytest.approx([0.01, 0.1])
    assert table["mean_measured"].tolist() == pytest.approx([0.05, 0.3])
    assert table["ece"].tolist() == pytest.approx([0.5 * 0.04 + 0.5 * 0.2] * 2)
    assert table["ece_low"].tolist() == pytest.approx([0.12, 0.12])


def test_a_perfect_prediction_is_calibrated(pixels: list[tuple[np.ndarray, np.ndarray]]) -> None:
    table = summed([(v, v) for _, v in pixels]).calibration(Resampling(5), ["total"])
    assert table["ece"].to_numpy() == pytest.approx(0, abs=1e-9)


def test_pixels_that_fewer_than_two_people_judged_are_left_out() -> None:
    values, variance = np.array([[0.0, 0.2, 0.25, 0.1]], np.float32), np.array([[0, 0.3, np.nan, 0.1]], np.float32)
    nobody = np.full((1, 4), np.nan, np.float32)
    sums, known = (summed([p, p]) for p in ((values, variance), (values[:, [0, 1, 3]], variance[:, [0, 1, 3]])))
    sums.add({"total": values, "constant": np.ones_like(values)}, nobody)
    got, expected = (s.table(Resampling(5)).set_index("map") for s in (sums, known))
    for measure in ("pearson_pooled", "pearson_mean", "auroc_pooled", "auroc_mean", "images_with_auroc"):
        assert got.loc["total", measure] == pytest.approx(expected.loc["total", measure])
    assert sums.calibration(Resampling(5), ["total"])["pixels"].sum() == 6


def test_nearness_to_any_other_class() -> None:
    chosen = np.array([[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    probabilities = np.eye(3)[chosen].transpose(2, 0, 1)
    assert boundary_nearness(probabilities)[0] == pytest.approx(1 / np.array([3, 2, 1, 1, 2, 1, 1, 2, 3]))


def test_nearness_falls_with_the_distance_to_the_outline() -> None:
    mean = np.zeros((5, 9), np.float32)
    mean[:, 5:] = 0.9
    assert boundary_nearness(mean)[2] == pytest.approx([1 / 5, 1 / 4, 1 / 3, 1 / 2, 1, 1, 1 / 2, 1 / 3, 1 / 4])
    assert (boundary_nearness(np.zeros((4, 4))) == 0).all()
    assert (boundary_nearness(np.ones((4, 4))) == 0).all()
