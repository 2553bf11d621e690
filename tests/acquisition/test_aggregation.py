"""Pixels to unit."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acquisition.aggregation import CountAbove, Mean, Sum
from acquisition.functional import entropy

VALUES = torch.tensor([[[0.0, 0.5], [0.6, 0.9]], [[0.5, 0.5], [0.5, 0.5]]])


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [(Mean(), [0.5, 0.5]), (Sum(), [2.0, 2.0]), (CountAbove(0.5), [0.5, 0.0]), (CountAbove(0.8), [0.25, 0.0])],
)
def test_by_hand(aggregation: Mean, expected: list[float]) -> None:
    scores = aggregation(VALUES)
    assert scores.dtype == torch.float64
    assert scores.tolist() == pytest.approx(expected, abs=1e-7)


def test_one_value_per_unit_is_that_value() -> None:
    values = torch.tensor([0.1, 0.9, 0.7], dtype=torch.float64)
    assert torch.equal(Mean()(values), values)
    assert torch.equal(Sum()(values), values)
    assert CountAbove(0.7)(values).tolist() == [0, 1, 0]


def test_a_sum_over_a_million_pixels_keeps_the_last_one() -> None:
    values = torch.full((2, 1024, 1024), 0.1)
    values[1, -1, -1] = torch.nextafter(values[0, 0, 0], torch.tensor(1.0))
    assert Sum()(values)[1] > Sum()(values)[0]
    assert Mean()(values)[1] > Mean()(values)[0]


@given(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=30), st.floats(0, 3))
def test_against_plain_python(pixels: list[float], threshold: float) -> None:
    values = torch.tensor([pixels], dtype=torch.float64)
    assert Mean()(values).item() == pytest.approx(math.fsum(pixels) / len(pixels))
    assert Sum()(values).item() == pytest.approx(math.fsum(pixels))
    assert CountAbove(threshold)(values).item() == sum(p > threshold for p in pixels) / len(pixels)


def test_two_equally_likely_classes_are_not_above_log_2() -> None:
    even = entropy(torch.tensor([[0.5, 0.5, 0.0]]))
    rounded = torch.nextafter(even, torch.tensor(1.0))
    for values in (even, even.double(), rounded, rounded.double()):
        assert CountAbove("log2")(values).sum() == 0
    assert CountAbove(0.6931)(even) == 1
    # two classes and a trace of a third
    assert CountAbove("log2")(entropy(torch.tensor([[0.49999, 0.49999, 0.00002]]))) == 1


def test_a_threshold_is_a_number_or_the_word() -> None:
    for wrong in ("log3", math.nan):
        with pytest.raises(ValueError, match="must be a number or the word log2, got"):
            CountAbove(wrong)  # type: ignore[arg-type]


def test_the_threshold_stands_in_the_name() -> None:
    names = {CountAbove(t).name for t in ("log2", math.log(2), 0.6931, 0.693)}
    assert {"CountAbove(log2)", "CountAbove(0.6931)", "CountAbove(0.693)"} < names
    assert len(names) == 4
    assert (Mean().name, Sum().name) == ("Mean", "Sum")
