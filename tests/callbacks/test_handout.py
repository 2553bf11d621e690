"""What people get who label parts of images."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.draw import polygon2mask
from skimage.measure import label

from acquisition.annotation import UNANSWERED
from acquisition.limits import Allowance
from acquisition.selection import TopK
from callbacks.choice import Chooser
from callbacks.handout import hand_out
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.oracle import FolderOracle, HiddenTruth, Oracle
from datamodules.outlines import outlines
from datamodules.partitions import Grid
from datamodules.pool import Pool
from datamodules.sources.folder import Folder
from records.run_directory import CycleDirectory, RunDirectory

CELLS = ["train3#crop=9,10,9,10", "train3#crop=18,30,6,2", "sub/train4#crop=0,0,9,10"]


@pytest.fixture
def make(folder_root: Path, tmp_path: Path) -> Callable[..., Pool]:
    """8 images in 12 cells each, one of them in a folder of its own; by people, the first two images are drawn."""
    for kind in ("images", "masks"):
        folder = folder_root / "train" / kind
        (folder / "sub").mkdir()
        (folder / "train4.png").rename(folder / "sub" / "train4.png")

    def build(oracle: Oracle) -> Pool:
        data = PoolDataModule(
            Folder(str(folder_root)), Grid(9, 10), oracle, initial=RandomSubset(3), run_dir=str(tmp_path / "run")
        )
        data.pool.start()
        return data.pool

    return build


@pytest.fixture
def by_people(make: Callable[..., Pool], folder_root: Path, tmp_path: Path) -> Pool:
    drawn = tmp_path / "drawn"
    drawn.mkdir()
    for name in ("train0", "train1"):
        (drawn / f"{name}.png").write_bytes((folder_root / "train" / "masks" / f"{name}.png").read_bytes())
    return make(FolderOracle(str(drawn)))


def box(unit_id: str) -> tuple[slice, slice]:
    y, x, height, width = (int(n) for n in unit_id.partition("#crop=")[2].split(","))
    return slice(y, y + height), slice(x, x + width)


def rasterised(points: Sequence[float], shape: tuple[int, int]) -> np.ndarray:
    corners = np.array(points).reshape(-1, 2)[:, ::-1]
    inside: np.ndarray = polygon2mask(shape, corners - 0.5)  # it takes the pixels' centres for whole numbers
    return inside


def test_parts_are_numbered_in_the_order_of_rank_and_outlined(by_people: Pool, tmp_path: Path) -> None:
    directory = CycleDirectory(tmp_path / "cycle")
    hand_out(by_people, directory, CELLS)
    found = sorted(p.relative_to(directory.path).as_posix() for p in directory.path.rglob("*") if p.is_file())
    assert found == [
        "regions.json", "regions/sub/train4.png", "regions/train3.png", "to_draw/sub/train4.png", "to_draw/train3.png",
    ]  # fmt: skip
    expected = np.zeros((24, 32), np.uint8)
    expected[box(CELLS[0])], expected[box(CELLS[1])] = 1, 2
    written = np.asarray(Image.open(directory.region_map("train3")))
    assert written.dtype == np.uint8
    np.testing.assert_array_equal(written, expected)
    polygons = json.loads(directory.polygons.read_text())
    assert list(polygons) == ["train3", "sub/train4"]
    assert polygons["train3"]["metadata"] == {"name": "train3.png", "width": 32, "height": 24}
    assert [set(i) for i in polygons["train3"]["instances"]] == [{"type", "points"}] * 2
    assert polygons["sub/train4"]["instances"][0]["points"] == [0, 9, 0, 0, 10, 0, 10, 9]
    for number, instance in enumerate(polygons["train3"]["instances"], start=1):
        np.testing.assert_array_equal(rasterised(instance["points"], (24, 32)), expected == number)


def test_what_is_drawn_stays_in_the_mask_to_draw(by_people: Pool, tmp_path: Path) -> None:
    first = box("train3#crop=0,0,9,10")
    mask = np.full((24, 32), UNANSWERED, np.uint8)
    mask[first] = by_people.source.read_annotation("train3")[first]
    Image.fromarray(mask).save(tmp_path / "drawn" / "train3.png")
    directory = CycleDirectory(tmp_path / "cycle")
    hand_out(by_people, directory, [*CELLS, "train1#crop=0,0,9,10"])
    np.testing.assert_array_equal(np.asarray(Image.open(directory.template("train3"))), mask)
    assert (np.asarray(Image.open(directory.template("sub/train4"))) == UNANSWERED).all()
    assert directory.region_map("train1").is_file()
    assert not directory.template("train1").exists(), "drawn already"


def test_the_drawn_template_is_the_answer(by_people: Pool, tmp_path: Path) -> None:
    directory = RunDirectory(by_people.run_dir).cycle(0)
    scores = pd.DataFrame({"unit_id": by_people.unlabelled, "score": 0.0})
    scores.loc[scores["unit_id"].isin(CELLS), "score"] = 1.0
    chooser = Chooser(TopK(), Allowance(3), "s")
    waiting = chooser.ask(by_people, directory, chooser.choose(by_people, scores, 0))
    assert set(waiting) == set(CELLS)
    queried = pd.read_csv(directory.queried).set_index("unit_id")
    assert queried.loc[CELLS[1], ["image_id", "row", "column", "height", "width", "pixels"]].tolist() == [
        "train3", 18, 30, 6, 2, 12,
    ]  # fmt: skip
    for image_id in ("train3", "sub/train4"):
        mask = np.asarray(Image.open(directory.template(image_id))).copy()
        asked = np.asarray(Image.open(directory.region_map(image_id))) > 0
        mask[asked] = by_people.source.read_annotation(image_id)[asked]
        path = tmp_path / "drawn" / f"{image_id}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(mask).save(path)
    assert by_people.collect() == []
    assert set(by_people.ledger.labelled()) >= set(CELLS)


def test_a_simulation_has_nothing_to_draw_and_a_query_of_before_leaves_nothing(
    make: Callable[..., Pool], tmp_path: Path
) -> None:
    pool, directory = make(HiddenTruth()), CycleDirectory(tmp_path / "cycle")
    hand_out(pool, directory, CELLS)
    assert not directory.to_draw.exists()
    hand_out(pool, directory, CELLS[2:])
    assert not directory.region_map("train3").exists()
    assert list(json.loads(directory.polygons.read_text())) == ["sub/train4"]
    hand_out(pool, directory, [])
    assert not directory.polygons.exists()
    assert not directory.regions.exists()


def test_many_units_of_an_image_take_16_bits(folder_root: Path, tmp_path: Path) -> None:
    data = PoolDataModule(Folder(str(folder_root)), Grid(1, 2), run_dir=str(tmp_path / "run"), initial=RandomSubset(3))
    directory = CycleDirectory(tmp_path / "cycle")
    hand_out(data.pool, directory, data.pool.units.of_image["train2"][:300])
    written = np.asarray(Image.open(directory.region_map("train2")))
    assert (written.dtype, written.max()) == (np.uint16, 300)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9))
def test_an_outline_holds_the_pixels_of_its_region(seed: int, height: int, width: int) -> None:
    region = np.random.default_rng(seed).random((height, width)) < 0.6
    # without holes, which are not cut out
    outside = label(~np.pad(region, 1), connectivity=2)
    region = np.pad(region, 1) | ((outside != outside[0, 0]) & (outside > 0))
    found = np.zeros(region.shape, bool)
    for points in outlines(region):
        found |= rasterised(points.ravel().tolist(), region.shape)
    np.testing.assert_array_equal(found, region)
