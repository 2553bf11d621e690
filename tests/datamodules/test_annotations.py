"""Who says what is in an image, and what of it trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acquisition.annotation import UNANSWERED, VOID
from datamodules.annotations import AnnotationSource, ClassTable, LabelledUnits, MaskFolder, class_index
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import FromFile
from datamodules.oracle import FolderOracle
from datamodules.partitions import Grid, Partition, WholeImages
from datamodules.pool import Pool
from datamodules.sources.folder import Folder
from datamodules.sources.source import Source
from records.ledger import Queried

CELL = (9, 10)  # of images of 24 x 32: 12 cells, those at the edges smaller


class One(Source):
    """One image, "a", whose mask is given."""

    class_names = ("dark", "middle", "bright")

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def images(self, split: str) -> list[str]:
        return ["a"]

    def read_image(self, image_id: str) -> np.ndarray:
        return np.zeros((*self.mask.shape, 3), dtype=np.uint8)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self.mask


class Left(Partition):
    """The left half is a unit; the right half is part of none."""

    def regions(self, source: Source, image_id: str) -> list[Any]:
        raise AssertionError("training needs the index map alone")

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        height, width = source.size(image_id)
        return np.where(np.arange(width) < width // 2, 0, -1).astype(np.int32)[None].repeat(height, axis=0)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 999), st.data())
def test_what_trains_against_a_loop(height: int, width: int, seed: int, data: st.DataObject) -> None:
    mask = np.random.default_rng(seed).choice([0, 1, 2, VOID], size=(height, width)).astype(np.uint8)
    source = One(mask)
    grid = Grid(data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    regions = grid.regions(source, "a")
    labelled = data.draw(st.lists(st.integers(0, len(regions) - 1), min_size=1, unique=True))
    got = LabelledUnits(source, source, grid, {"a": labelled}).read_annotation("a")
    expected = np.full((height, width), VOID, dtype=np.uint8)
    for k in labelled:
        y, x, h, w = regions[k].box
        for row in range(y, y + h):
            for column in range(x, x + w):
                expected[row, column] = mask[row, column]
    assert got.dtype == np.uint8
    assert np.array_equal(got, expected)


def test_a_whole_image_and_pixels_of_no_unit() -> None:
    mask = np.arange(24, dtype=np.uint8).reshape(4, 6) % 3
    source = One(mask)
    assert np.array_equal(LabelledUnits(source, source, WholeImages(), {"a": [0]}).read_annotation("a"), mask)
    left = LabelledUnits(source, source, Left(), {"a": [0]}).read_annotation("a")
    assert np.array_equal(left[:, :3], mask[:, :3])
    assert (left[:, 3:] == VOID).all()


def test_the_draw_of_an_epoch_is_passed_on() -> None:
    asked: list[object] = []

    class Turns(AnnotationSource):
        def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
            asked.append(draw)
            return np.array(2, dtype=np.uint8)

    source = One(np.zeros((2, 2), np.uint8))
    units = LabelledUnits(Turns(), source, WholeImages(), {"a": [0]})
    assert [int(units.read_annotation("a", draw)) for draw in (None, (3, 7))] == [2, 2]
    assert asked == [None, (3, 7)]


def test_a_labelled_unit_whose_drawing_has_gone(tmp_path: Path, save_image: Callable[..., Path]) -> None:
    mask = np.ones((24, 32), dtype=np.uint8)
    mask[0, 0] = UNANSWERED
    save_image(tmp_path / "a.png", mask)
    folder, source, grid = MaskFolder(tmp_path), One(mask), Grid(*CELL)
    with pytest.raises(
        DataError, match=rf"units of 'a' are labelled, but .*a\.png holds {UNANSWERED} there.*put .* back"
    ):
        LabelledUnits(folder, source, grid, {"a": [0, 1]}).read_annotation("a")
    # elsewhere it is nobody's business
    assert (LabelledUnits(folder, source, grid, {"a": [1]}).read_annotation("a") != UNANSWERED).all()
    save_image(tmp_path / "a.png", np.ones((5, 5), np.uint8))
    with pytest.raises(DataError, match=r"image's size 24 x 32, got 5 x 5 in .*a\.png"):
        LabelledUnits(folder, source, grid, {"a": [1]}).read_annotation("a")


Make = Callable[[Partition, str], Pool]


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    return tmp_path / "drawn"


@pytest.fixture
def make(folder_root: Path, tmp_path: Path, drawn: Path, save_image: Callable[..., Path]) -> Make:
    """A pool whose first labelled units are those of train0."""

    def build(partition: Partition, first: str) -> Pool:
        (tmp_path / "first.txt").write_text(first)
        save_image(drawn / "train0.png", np.ones((24, 32), np.uint8))
        pool = PoolDataModule(
            Folder(str(folder_root)), partition, FolderOracle(str(drawn)), FromFile(str(tmp_path / "first.txt")),
            run_dir=str(tmp_path / "run"),
        ).pool  # fmt: skip
        pool.start()
        return pool

    return build


def test_a_partly_drawn_mask_labels_the_cells_that_are_drawn(make: Make, drawn: Path, save_image: Any) -> None:
    pool = make(Grid(*CELL), "train0#crop=0,0,9,10")
    regions = pool.units.partition.regions(pool.source, "train3")
    chosen = [Queried(r.unit_id, 1.0, rank) for rank, r in enumerate(regions, 1)]
    assert len(chosen) == 12
    mask = np.full((24, 32), UNANSWERED, dtype=np.uint8)
    mask[:9, :20] = 2  # cells 0 and 1
    mask[18:, 30:] = VOID  # cell 11; void is an answer
    mask[9:18, :10] = 1  # cell 4, but for one pixel
    mask[17, 9] = UNANSWERED
    waiting = pool.ask(chosen, "s")
    assert waiting == [r.unit_id for r in regions]
    before = pool.ledger.labelled_pixels()
    save_image(drawn / "train3.png", mask)
    answered = [regions[k] for k in (0, 1, 11)]
    assert pool.collect() == [r.unit_id for r in regions if r not in answered]
    assert pool.labelled[1:] == [r.unit_id for r in answered]
    assert pool.ledger.labelled_pixels() - before == sum(r.pixels for r in answered) == 90 + 90 + 12
    assert pool.ledger.cycle == 0
    trains = pool.training_annotations().read_annotation("train3")
    assert (trains[:9, :20] == 2).all()
    assert (trains != VOID).sum() == 180
    mask[mask == UNANSWERED] = 0
    save_image(drawn / "train3.png", mask)
    assert pool.collect() == []
    assert pool.ledger.cycle == 1
    assert pool.ledger.labelled_pixels() - before == 24 * 32


def test_cells_that_are_drawn_already_are_answered_at_once(make: Make, drawn: Path, save_image: Any) -> None:
    pool = make(Grid(*CELL), "train0#crop=0,0,9,10")
    mask = np.full((24, 32), UNANSWERED, dtype=np.uint8)
    mask[:9, :10] = 0
    save_image(drawn / "train3.png", mask)
    ids = pool.units.partition.unit_ids(pool.source, "train3")[:2]
    assert pool.ask([Queried(u, 1.0, i + 1) for i, u in enumerate(ids)], "s") == [ids[1]]
    assert pool.labelled[-1] == ids[0]


def test_a_whole_image_is_answered_when_every_pixel_is(make: Make, drawn: Path, save_image: Any) -> None:
    pool = make(WholeImages(), "train0")
    mask = np.ones((24, 32), dtype=np.uint8)
    mask[5, 5] = UNANSWERED
    assert pool.ask([Queried("train3", 1.0, 1)], "s") == ["train3"]
    save_image(drawn / "train3.png", mask)
    assert pool.collect() == ["train3"]
    with pytest.raises(DataError, match=r"'train3' cannot be labelled: it has no mask yet"):
        pool.label(["train3"])
    mask[5, 5] = VOID
    save_image(drawn / "train3.png", mask)
    assert pool.collect() == []
    assert pool.labelled == ["train0", "train3"]


def test_a_table_and_who_knows_the_others(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    alone = ClassTable(path, ("cat", "dog"))
    assert alone.rows() == {}
    assert not alone.is_annotated("x")
    with pytest.raises(DataError, match=r"image 'x' has no label; write its class into .*labels\.csv"):
        alone.read_annotation("x")
    path.write_text("unit_id,label\nx,dog\ny,void\n")
    assert alone.is_annotated("x")
    assert [int(alone.read_annotation(i)) for i in ("x", "y")] == [1, VOID]
    others = ClassTable(path, ("cat", "dog"), One(np.array(0, dtype=np.uint8)))
    assert others.is_annotated("z")
    assert [int(others.read_annotation(i)) for i in ("x", "y", "z")] == [1, VOID, 0]


def test_classes_as_people_write_them() -> None:
    names = ("cat", "dog", "7")
    written = ["dog", "0", "7", "Void", "255"]
    assert [class_index(w, names, "x") for w in written] == [1, 0, 2, VOID, VOID]
    for wrong in ("zebra", "3", "-1", "1.0", str(UNANSWERED)):
        with pytest.raises(DataError, match=rf"label of 'x' to be one of cat, dog, 7 .* got '{wrong}'; correct it"):
            class_index(wrong, names, "x")
