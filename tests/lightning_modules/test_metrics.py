"""Scores from one confusion matrix, against a loop over pixels."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acquisition.annotation import VOID
from lightning_modules.metrics import SegmentationMetrics, segmentation_metrics


def plain_scores(truth: list[int], predicted: list[int], classes: int) -> dict[str, float]:
    pairs = [(t, p) for t, p in zip(truth, predicted, strict=True) if t != VOID]
    ious, recalls, weighted = [], [], 0.0
    for c in range(classes):
        both = sum(t == p == c for t, p in pairs)
        either = sum(c in (t, p) for t, p in pairs)
        occurs = sum(t == c for t, _ in pairs)
        if either:
            ious.append(both / either)
            weighted += both / either * occurs / len(pairs)
        if occurs:
            recalls.append(both / occurs)
    return {
        "miou": sum(ious) / len(ious) if ious else 0,
        "pixel_accuracy": sum(t == p for t, p in pairs) / len(pairs) if pairs else 0,
        "mean_accuracy": sum(recalls) / len(recalls) if recalls else 0,
        "fw_iou": weighted,
    }


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, 4, VOID]), st.integers(0, 4)), min_size=1, max_size=40))
def test_against_a_loop(pixels: list[tuple[int, int]]) -> None:
    truth, predicted = (list(column) for column in zip(*pixels, strict=True))
    scores = SegmentationMetrics(5)
    half = len(pixels) // 2
    # in two batches: the matrix is summed over the split before anything is divided
    for part in (slice(0, half), slice(half, None)):
        if truth[part]:
            scores.update(torch.tensor(predicted[part])[None, None], torch.tensor(truth[part])[None, None])
    got = scores.compute()
    for name, value in plain_scores(truth, predicted, 5).items():
        assert got[name].item() == pytest.approx(value, abs=1e-12), name


def test_by_hand() -> None:
    # truth in rows: class 0 has 3 pixels right and 1 taken for 1; class 1 has 4 right; class 2 is nowhere
    got = segmentation_metrics(torch.tensor([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
    assert got["iou"][:2].tolist() == [3 / 4, 4 / 5]
    assert math.isnan(got["iou"][2])
    assert got["miou"].item() == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert got["pixel_accuracy"].item() == 7 / 8
    assert got["mean_accuracy"].item() == pytest.approx((3 / 4 + 1) / 2)
    assert got["fw_iou"].item() == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_a_class_that_is_only_predicted_counts_as_0() -> None:
    got = segmentation_metrics(torch.tensor([[2, 2], [0, 0]]))
    assert got["iou"].tolist() == [0.5, 0]
    assert got["miou"].item() == 0.25
    assert got["mean_accuracy"].item() == 0.5


def test_the_split_without_a_labelled_pixel_scores_0() -> None:
    scores = SegmentationMetrics(3)
    scores.update(torch.ones(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), VOID))
    got = scores.compute()
    assert {name: float(v) for name, v in got.items() if name != "iou"} == {
        "miou": 0, "pixel_accuracy": 0, "mean_accuracy": 0, "fw_iou": 0,
    }  # fmt: skip
    assert got["iou"].isnan().all()


def test_the_mean_is_over_the_split_and_not_over_batches() -> None:
    scores = SegmentationMetrics(2)
    scores.update(torch.tensor([[[0, 0, 0, 0]]]), torch.tensor([[[0, 0, 0, 0]]]))
    scores.update(torch.tensor([[[1, 0]]]), torch.tensor([[[1, 1]]]))
    # class 0: 4 of 5; class 1: 1 of 2
    assert scores.compute()["miou"].item() == pytest.approx((4 / 5 + 1 / 2) / 2)
    scores.reset()
    assert scores.compute()["miou"].item() == 0


def test_more_pixels_than_float32_can_count() -> None:
    big = 2**25
    got = segmentation_metrics(torch.tensor([[big + 1, 0], [1, big]]))
    assert got["pixel_accuracy"].item() == (2 * big + 1) / (2 * big + 2)
