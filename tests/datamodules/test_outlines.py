"""Clicks: the corners of simplified outlines."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import disk

from acquisition.annotation import VOID
from datamodules.outlines import count_clicks, outlines, parts_of


def test_a_rectangle_takes_four_clicks_and_a_pixel_one() -> None:
    square = np.zeros((20, 20), dtype=bool)
    square[3:15, 5:9] = True
    assert count_clicks([square], 0) == count_clicks([square], 1) == 4
    assert count_clicks([np.ones((1, 1), dtype=bool)], 2) == 1
    assert count_clicks([square, np.ones((1, 1), dtype=bool)], 1) == 5
    ell = square.copy()
    ell[10:15, 5:18] = True
    assert count_clicks([ell], 1) == 6


def test_pixels_that_touch_in_a_corner_are_drawn_in_one_line() -> None:
    assert count_clicks([np.eye(20, dtype=bool)], 2) <= 4
    assert count_clicks([np.eye(2, dtype=bool)], 2) <= 2
    assert len(outlines(np.eye(3, dtype=bool))) == 3
    assert len(outlines(np.eye(3, dtype=bool), through_corners=True)) == 1


@pytest.mark.parametrize(("tolerance", "most"), [(1, 30), (2, 16)])
def test_a_disk_takes_fewer_clicks_with_more_tolerance(tolerance: float, most: int) -> None:
    round_ = np.zeros((64, 64), dtype=bool)
    round_[disk((32, 32), 28)] = True
    assert 6 <= count_clicks([round_], tolerance) <= most
    assert count_clicks([round_], tolerance) < len(outlines(round_)[0])


@given(st.integers(0, 2**31), st.floats(0, 4))
def test_what_is_drawn_takes_a_click_at_least(seed: int, tolerance: float) -> None:
    region = np.random.default_rng(seed).random((9, 11)) < 0.4
    if region.any():
        assert count_clicks([region], tolerance) >= 1
    corners = sum(len(line) for line in outlines(region))
    assert count_clicks([region], tolerance) <= max(corners, 1)


def test_parts_are_those_of_each_class() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, VOID, VOID], [2, 2, 0, 0], [2, 2, 0, 0]], dtype=np.uint8)
    parts = parts_of(mask, {VOID})
    # the two squares of class 0 touch in a corner
    assert sorted(int(part.sum()) for part in parts) == [2, 4, 8]
    assert parts_of(np.full((3, 3), VOID, dtype=np.uint8), {VOID}) == []
