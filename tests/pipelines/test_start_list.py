"""What should be drawn first."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from datamodules.datamodule import PoolDataModule
from datamodules.initial import FromFile, InitialSet, PerClass, RandomSubset
from datamodules.oracle import FolderOracle
from datamodules.pool import Pool
from datamodules.sources.folder import Folder
from pipelines.start_list import choose, default_count, default_val_count, write_list


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """16 images, each of one shade."""
    for i in range(16):
        path = tmp_path / "mine" / "images" / f"im{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (16 * i, 0, 0)).save(path)
    (tmp_path / "mine" / "classes.txt").write_text("a\nb\n")
    return tmp_path


def pool_of(root: Path, initial: InitialSet | None = None) -> Pool:
    oracle = FolderOracle(str(root / "drawn"))
    return PoolDataModule(
        Folder(str(root / "mine"), val_fraction=0.3), oracle=oracle, initial=initial, run_dir=str(root / "run")
    ).pool


def shades(ids: Sequence[str], whole: bool) -> np.ndarray:
    return np.array([[float(i[2:])] for i in ids])


def draw(root: Path, *names: str) -> None:
    (root / "drawn").mkdir(exist_ok=True)
    for name in names:
        Image.new("L", (8, 6)).save(root / "drawn" / f"{name}.png")


def test_the_farthest_from_what_is_drawn_comes_first(root: Path) -> None:
    pool = pool_of(root)
    train = sorted(pool.units.images("train"))
    draw(root, train[0])
    choice = choose(pool, 3, 1, "content", 100, shades)
    left = {int(u[2:]) for u in train}
    first = int(train[0][2:])
    assert choice.by_features
    assert choice.answered == train[:1]
    assert choice.train[0] == train[-1], "of shades in a row, the other end"
    second = int(choice.train[1][2:])
    last = int(train[-1][2:])
    assert min(second - first, last - second) == max(min(abs(s - first), abs(last - s)) for s in left)
    assert len(choice.val) == 1
    # as much as is asked for is drawn
    draw(root, *choice.train, *choice.val)
    again = choose(pool, 3, 1, "content", 100, shades)
    assert (again.train, again.val, again.by_features) == ([], [], False)


def test_a_list_that_people_have_begun_to_draw_stays(root: Path) -> None:
    pool = pool_of(root)
    choice = choose(pool, 4, 2, "content", 100, shades)
    write_list(pool, choice, "content")
    draw(root, choice.train[2], choice.val[1])

    def other(ids: Sequence[str], whole: bool) -> np.ndarray:
        return -np.square(shades(ids, whole))

    again = choose(pool, 5, 2, "content", 100, other)
    assert again.train[:3] == [choice.train[0], choice.train[1], choice.train[3]]
    assert len(again.train) == 4
    assert again.val == choice.val[:1]
    write_list(pool, again, "content")
    table = pd.read_csv(root / "run" / "start.csv")
    assert table["unit_id"].tolist() == again.train + again.val
    assert table["rank"].tolist() == [1, 2, 3, 4, 1]
    random = choose(pool, 5, 2, "random", 100, other)
    assert not random.by_features
    assert len(random.train) == 4


def test_of_a_large_data_set_some_are_looked_at(root: Path) -> None:
    looked_at = list[str]()

    def see(ids: Sequence[str], whole: bool) -> np.ndarray:
        looked_at.extend([] if whole else ids)
        return shades(ids, whole)

    choice = choose(pool_of(root), 2, 1, "content", 4, see)
    assert choice.candidates == len(looked_at) == 4
    assert set(choice.train) <= set(looked_at)


def test_an_initial_set_that_a_file_lists_is_the_list(root: Path) -> None:
    names = sorted(pool_of(root).units.images("train"))[:3]
    (root / "first.txt").write_text("\n".join(names))
    draw(root, names[1])
    choice = choose(pool_of(root, FromFile(str(root / "first.txt"))), 10, 1, "content", 100, shades)
    assert choice.train == [names[0], names[2]]


def test_how_many(root: Path) -> None:
    assert default_count(pool_of(root), 7) == 7
    assert default_count(pool_of(root, RandomSubset(3)), 7) == 3
    assert default_count(pool_of(root, PerClass(3)), 7) == 6
    assert [default_val_count(n) for n in (1, 20, 21, 400)] == [5, 5, 6, 100]
