"""How an image falls into units."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.partitions import Grid, Points, RandomCrops, Region, WholeImages
from datamodules.sources.source import Source


class Sizes(Source):
    """Images of given sizes, which nobody may open."""

    class_names = ("one", "other")

    def __init__(self, sizes: dict[str, tuple[int, int]]) -> None:
        self.sizes = sizes

    def images(self, split: str) -> Sequence[str]:
        return list(self.sizes)

    def read_image(self, image_id: str) -> np.ndarray:
        raise AssertionError(f"somebody opened {image_id}")

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        raise AssertionError(f"somebody opened the mask of {image_id}")

    def size(self, image_id: str) -> tuple[int, int]:
        return self.sizes[image_id]


@st.composite
def grids(draw: st.DrawFn) -> tuple[Grid, tuple[int, int]]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    return Grid(draw(st.integers(1, height)), draw(st.integers(1, width))), (height, width)


@given(grids())
def test_cells_tile_the_image(case: tuple[Grid, tuple[int, int]]) -> None:
    grid, size = case
    source = Sizes({"a": size})
    covered = np.zeros(size, dtype=int)
    expected = np.full(size, -1)
    regions = grid.regions(source, "a")
    for number, region in enumerate(regions):
        y, x, height, width = region.box
        assert region.pixels == height * width
        assert region.unit_id == f"a#crop={y},{x},{height},{width}"
        assert 1 <= height <= grid.height
        assert 1 <= width <= grid.width
        # only those at the lower and right edge are smaller
        assert height == grid.height or y + height == size[0]
        assert width == grid.width or x + width == size[1]
        covered[y : y + height, x : x + width] += 1
        expected[y : y + height, x : x + width] = number
    # every pixel is in one cell, and in no second one
    assert (covered == 1).all()
    index = grid.index_map(source, "a")
    assert index.dtype == np.int32
    assert np.array_equal(index, expected)
    assert np.bincount(index.ravel()).tolist() == [region.pixels for region in regions]
    assert [r.box for r in regions] == sorted(r.box for r in regions)


@given(st.lists(grids(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_ids_are_unique_in_any_order(cases: list[tuple[Grid, tuple[int, int]]], random: object) -> None:
    height = min(grid.height for grid, _ in cases)
    width = min(grid.width for grid, _ in cases)
    sizes = {f"city/{i}": size for i, (_, size) in enumerate(cases)}
    grid, source = Grid(height, width), Sizes(sizes)
    found = {image_id: grid.unit_ids(source, image_id) for image_id in sizes}
    everything = [unit_id for units in found.values() for unit_id in units]
    assert len(set(everything)) == len(everything)
    order = list(sizes)
    random.shuffle(order)  # type: ignore[attr-defined]
    again, other = Grid(height, width), Sizes({image_id: sizes[image_id] for image_id in order})
    for image_id in order:
        assert again.unit_ids(other, image_id) == found[image_id]
        assert [r.unit_id for r in again.regions(other, image_id)] == found[image_id]


@pytest.mark.parametrize(("height", "width"), [(25, 8), (8, 33), (25, 33)])
def test_cells_larger_than_the_image_are_refused(height: int, width: int) -> None:
    source = Sizes({"large": (100, 100), "small": (24, 32)})
    grid = Grid(height, width)
    assert grid.unit_ids(source, "large")
    words = rf"no larger than the images, got {height} x {width} where 'small' has 24 x 32; choose smaller cells"
    for ask in (grid.regions, grid.index_map, grid.unit_ids):
        with pytest.raises(DataError, match=words):
            ask(source, "small")


@pytest.mark.parametrize("kind", [Grid, RandomCrops])
@pytest.mark.parametrize(("height", "width"), [(0, 4), (4, 0), (-1, 4)])
def test_cells_without_a_pixel_are_refused(kind: type[Grid | RandomCrops], height: int, width: int) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__} has at least 1 x 1 pixels, got {height} x {width}"):
        kind(height, width)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(0, 99), st.integers(0, 20))
def test_crops_never_overlap(height: int, width: int, per_image: int, seed: int, room: int) -> None:
    size = (4 * height + room, 4 * width + room)
    source, crops = Sizes({"a": size, "b": size}), RandomCrops(height, width, per_image, seed)
    regions, index = crops.regions(source, "a"), crops.index_map(source, "a")
    expected = np.full(size, -1)
    for k, region in enumerate(regions):
        y, x, h, w = region.box
        assert (region.unit_id, region.pixels, h, w) == (f"a#crop={y},{x},{h},{w}", h * w, height, width)
        assert (expected[y : y + h, x : x + w] == -1).all(), "it lies on another"
        expected[y : y + h, x : x + w] = k
    assert (len(regions), index.dtype) == (per_image, np.int32)
    assert np.array_equal(index, expected)
    # another object, asked for the images in another order
    again = RandomCrops(height, width, per_image, seed)
    others = again.unit_ids(source, "b")
    assert again.regions(source, "a") == regions
    assert others == crops.unit_ids(source, "b")


def test_crops_lie_anywhere_alike() -> None:
    source = Sizes({f"{i}": (7, 5) for i in range(2000)})
    found = [RandomCrops(4, 3).regions(source, name)[0].box[:2] for name in source.sizes]
    counts = [found.count((y, x)) for y in range(4) for x in range(3)]
    assert sum(counts) == 2000
    assert min(counts) > 2000 / 12 - 5 * np.sqrt(2000 / 12)
    assert max(counts) < 2000 / 12 + 5 * np.sqrt(2000 / 12)
    assert [RandomCrops(4, 3, seed=1).regions(source, name)[0].box[:2] for name in source.sizes] != found


def test_crops_that_do_not_fit_are_refused() -> None:
    source = Sizes({"large": (100, 100), "small": (24, 32)})
    crops = RandomCrops(20, 20, per_image=3)
    assert len(crops.unit_ids(source, "large")) == 3
    words = "room for 3 crops .* that do not overlap, got 'small' of 24 x 32 where only 1 of 20 x 20 were placed"
    for ask in (crops.regions, crops.index_map, crops.unit_ids):
        with pytest.raises(DataError, match=words):
            ask(source, "small")
    with pytest.raises(DataError, match=r"crops of data\.partition RandomCrops no larger than the images, got 30 x 9"):
        RandomCrops(30, 9).unit_ids(source, "small")
    with pytest.raises(ValueError, match="per_image must be at least 1 crop, got 0"):
        RandomCrops(3, 3, per_image=0)


def test_a_whole_image_is_one_unit() -> None:
    source = Sizes({"city/a": (24, 32)})
    whole = WholeImages()
    assert whole.regions(source, "city/a") == [Region("city/a", 24 * 32, (0, 0, 24, 32))]
    assert whole.unit_ids(source, "city/a") == ["city/a"]
    index = whole.index_map(source, "city/a")
    assert (index.dtype, index.tolist()) == (np.int32, [[0]])
    # its id needs no size, so no file is opened
    assert whole.unit_ids(Sizes({}), "anything") == ["anything"]


def test_a_partition_says_what_it_is() -> None:
    assert Grid(4, 5).description() == Grid(4, 5).description() != Grid(5, 4).description()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 5))
def test_a_point_lies_in_every_cell(height: int, width: int, spacing: int, seed: int) -> None:
    source, points = Sizes({"a": (height, width), "b": (height, width)}), Points(spacing, seed)
    regions = points.regions(source, "a")
    cells = [(region.box[0] // spacing, region.box[1] // spacing) for region in regions]
    assert cells == [(y, x) for y in range(-(-height // spacing)) for x in range(-(-width // spacing))]
    index = points.index_map(source, "a")
    assert (index >= 0).sum() == len(regions)
    for number, region in enumerate(regions):
        y, x, *size = region.box
        assert (region.unit_id, region.pixels, size) == (f"a#point={y},{x}", 1, [1, 1])
        assert index[y, x] == number
    assert points.unit_ids(source, "a") == [region.unit_id for region in regions]


def test_points_are_drawn_from_seed_and_image() -> None:
    source = Sizes({"a": (50, 50), "b": (50, 50)})

    def boxes(seed: int, image_id: str) -> list[tuple[int, int, int, int]]:
        return [region.box for region in Points(5, seed).regions(source, image_id)]

    assert boxes(0, "a") == boxes(0, "a")
    assert boxes(0, "a") != boxes(0, "b")
    assert boxes(0, "a") != boxes(1, "a")
    with pytest.raises(ValueError, match="Points has at least 1 x 1 pixels, got 0 x 0"):
        Points(0)


def test_a_resize_would_lose_points(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"image_size would lose units of .* Points, got \[4, 4\]: leave it"):
        PoolDataModule(Sizes({"a": (8, 8)}), Points(2), run_dir=str(tmp_path), image_size=[4, 4])
    with pytest.raises(DataError, match=r"data.scale would lose units of .* Points, or .*, got \[0.5, 2.0\]"):
        PoolDataModule(Sizes({"a": (8, 8)}), Points(2), run_dir=str(tmp_path), crop_size=[4, 4])
    PoolDataModule(Sizes({"a": (8, 8)}), Points(2), run_dir=str(tmp_path), crop_size=[4, 4], scale=[1, 1])
