"""A data set at another size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import RandomSubset
from datamodules.oracle import FolderOracle, HiddenTruth
from datamodules.partitions import Points
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.resized import Resized


@pytest.fixture
def root(tmp_path: Path, save_image: Callable[..., Path]) -> Path:
    image = np.zeros((40, 60, 3), dtype=np.uint8)
    image[:, 30:] = 200
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[:, 30:] = 1
    mask[36:] = VOID
    for split in ("train", "val"):
        save_image(tmp_path / split / "images" / "a.png", image)
        save_image(tmp_path / split / "masks" / "a.png", mask)
    (tmp_path / "classes.txt").write_text("dark\nlight\n")
    return tmp_path


def test_everything_has_the_size(root: Path) -> None:
    source = Resized(Folder(str(root)), 20, 30)
    assert source.images("val") == ["val/a"]
    assert source.class_names == ["dark", "light"]
    assert source.size("a") == source.read_annotation("a").shape == source.read_instances("a").shape == (20, 30)
    image, mask = source.read_image("a"), source.read_annotation("a")
    assert (image.shape, image.dtype, mask.dtype) == ((20, 30, 3), np.uint8, np.uint8)
    assert (image[:, :15] == 0).all()
    assert (image[:, 15:] == 200).all()
    assert np.array_equal(mask[:18], np.repeat([[0] * 15 + [1] * 15], 18, axis=0))
    assert (mask[18:] == VOID).all()
    assert set(np.unique(source.read_instances("a"))) == {-1, 0, 1}
    assert source.path("a") == root / "train" / "images" / "a.png"


def test_points_keep_their_labels(root: Path) -> None:
    source = Resized(Folder(str(root)), 20, 30)
    data = PoolDataModule(source, Points(5), HiddenTruth(2), RandomSubset(6), run_dir=str(root / "run"), batch_size=2)
    data.pool.start()
    assert (data.pool.ledger.labelled_pixels(), data.pool.ledger.labelled_clicks()) == (6, 6)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["mask"].shape[1:] == (20, 30)
    labelled = [y for y, _ in data.pool.units.centres_of(data.pool.labelled) if y < 18]
    assert (batch["mask"][0] != VOID).sum() == len(labelled)


def test_what_cannot_be_resized_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 x 1 pixels, got 0 x 30"):
        Resized(Folder(str(root)), 0, 30)
    with pytest.raises(DataError, match="Digits has one class per image"):
        Resized(Digits(), 8, 8)


def test_people_have_no_files_of_that_size(root: Path) -> None:
    with pytest.raises(DataError, match=r"FolderOracle needs images that people can draw on, got .* Resized"):
        PoolDataModule(Resized(Folder(str(root)), 20, 30), oracle=FolderOracle("masks"), run_dir=str(root / "run"))
