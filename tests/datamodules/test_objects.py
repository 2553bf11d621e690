"""Whole objects in place of a unit's pixels: what trains, and what is paid, once."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import FromFile
from datamodules.oracle import HiddenTruth, Oracle, WholeObjects
from datamodules.partitions import Grid
from datamodules.pool import Pool
from datamodules.sources.folder import Folder
from records.ledger import Labelled, Queried

# two objects of class 1, apart from each other; one of class 2 that lies in all four cells; void below
MASK = np.zeros((8, 8), dtype=np.uint8)
MASK[0:2, 0:2] = 1
MASK[0:2, 6:8] = 1
MASK[3:5, 3:5] = 2
MASK[7] = VOID


@pytest.fixture
def pool(tmp_path: Path, save_image: Callable[..., Path]) -> Pool:
    for split in ("train", "val"):
        save_image(tmp_path / split / "images" / "a.png", np.zeros((8, 8, 3), dtype=np.uint8))
        save_image(tmp_path / split / "masks" / "a.png", MASK)
    (tmp_path / "classes.txt").write_text("ground\none\ntwo\n")
    (tmp_path / "initial.txt").write_text("a#crop=4,0,4,4\n")
    data = PoolDataModule(
        Folder(str(tmp_path)),
        Grid(4, 4),
        WholeObjects(),
        FromFile(str(tmp_path / "initial.txt")),
        run_dir=str(tmp_path / "run"),
    )
    data.pool.start()
    return data.pool


def test_objects_are_connected_parts_of_a_class(pool: Pool) -> None:
    instances = pool.source.read_instances("a")
    assert instances.shape == (8, 8)
    assert (instances[7] == -1).all()
    assert len(np.unique(instances)) == 1 + 4
    assert len(np.unique(instances[MASK == 1])) == 2


def test_what_trains_is_every_object_that_a_labelled_unit_overlaps(pool: Pool) -> None:
    trains = pool.training_annotations().read_annotation("a")
    # the lower left cell touches the ground and the object in the middle, and neither object of class 1
    assert np.array_equal(trains, np.where(MASK == 1, VOID, MASK))
    pickle.dumps(pool.training_annotations())


def test_nothing_is_paid_twice(pool: Pool) -> None:
    ledger = pool.ledger
    ground, middle = int((MASK == 0).sum()), 4
    assert (ledger.labelled_pixels(), ledger.labelled_objects()) == (ground + middle, 2)
    pool.ask([Queried(f"a#crop={box},4,4", 1.0, rank) for rank, box in enumerate(["0,0", "4,4"], 1)], "s")
    first, second = [e for e in ledger.events() if e.kind == "labelled"]
    assert (first.pixels, first.objects) == (4, 1)
    assert (second.pixels, second.objects) == (0, 0)
    pool.ask([Queried("a#crop=0,4,4,4", 1.0, 1)], "s")
    assert (ledger.labelled_pixels(), ledger.labelled_objects()) == (int((MASK != VOID).sum()), 4)
    assert np.array_equal(pool.training_annotations().read_annotation("a"), MASK)


def test_clicks_are_those_of_new_objects(pool: Pool, tmp_path: Path) -> None:
    def costs(oracle: Oracle) -> list[Labelled]:
        data = PoolDataModule(Folder(str(tmp_path)), Grid(4, 4), oracle, run_dir=str(tmp_path / "clicks"))
        return data.pool.costs(["a#crop=4,0,4,4", "a#crop=0,0,4,4"])

    lower, upper = costs(WholeObjects(click_tolerance=0.5))
    # the ground around everything has many corners, the square in the middle four
    assert (upper.objects, upper.clicks, upper.pixels) == (1, 4, 4)
    assert (lower.objects, lower.pixels) == (2, int((MASK == 0).sum()) + 4)
    assert lower.clicks is not None
    assert lower.clicks > 8
    # a unit's own pixels: ground and one pixel of the object in the middle; ground, and both of its objects' parts
    lower, upper = costs(HiddenTruth(click_tolerance=0.5))
    assert (lower.objects, lower.clicks, lower.pixels) == (None, 6 + 1, 16)
    assert (upper.objects, upper.pixels) == (None, 16)
    assert costs(HiddenTruth())[0].clicks is None
    with pytest.raises(ValueError, match="click_tolerance must be 0 or more pixels, got -1"):
        HiddenTruth(-1)


def test_units_are_counted_without_objects_elsewhere(pool: Pool, tmp_path: Path) -> None:
    plain = PoolDataModule(Folder(str(tmp_path)), Grid(4, 4), run_dir=str(tmp_path / "plain")).pool
    plain.start()
    assert plain.ledger.labelled_objects() is None


def test_instances_of_another_size_are_refused(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Folder, "read_instances", lambda *_: np.zeros((4, 4), dtype=np.int32))
    with pytest.raises(DataError, match=r"instances of 'a' to be of its size \(8, 8\), got \(4, 4\)"):
        pool.training_annotations().read_annotation("a")
