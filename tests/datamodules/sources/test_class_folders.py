"""A folder of images for every class, labelled by the folders or by a table."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.initial import PerClass, StratifiedSubset
from datamodules.oracle import LabelTable
from datamodules.sources.class_folders import ClassFolders


def fill(folder: Path, count: int, shade: int) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(np.full((6, 8, 3), shade + i, dtype=np.uint8)).save(folder / f"im{i}.png")


def test_class_folders_by_split(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, benign, malignant in (("train", 8, 2), ("val", 2, 1)):
        fill(root / split / "benign", benign, 50)
        fill(root / split / "malignant", malignant, 150)
    fill(root / "unlabelled", 3, 200)
    table = tmp_path / "labels.csv"
    source = ClassFolders(str(root))
    data = PoolDataModule(
        source, oracle=LabelTable(str(table)), initial=StratifiedSubset(5), batch_size=5,
        run_dir=str(tmp_path / "run"), flip=0.0,
    )  # fmt: skip
    pool = data.pool
    assert source.class_names == ["benign", "malignant"]
    pool.start()
    assert sorted(map(pool.read_class, pool.labelled)) == [0, 0, 0, 0, 1]
    assert len(pool.unlabelled) == 8
    (batch,) = data.train_dataloader()
    bright = data.to_display(batch["image"][int(batch["label"].argmax())].numpy())
    assert batch["label"].dtype == torch.int64
    assert bright.min() >= 150
    assert sorted(x for b in data.val_dataloader() for x in b["label"].tolist()) == [0, 0, 1]
    with pytest.raises(
        DataError, match=r"'unlabelled/im0' cannot be labelled: it has no label yet; write their classes"
    ):
        pool.label(["unlabelled/im0"])
    table.write_text("unit_id,label\nim0.png,malignant\n")
    for read in (pool.start, pool.collect):
        with pytest.raises(DataError, match=r"answer for 'im0\.png' \(1 such ids\).*ids look like 'benign/im0'"):
            read()
    table.write_text("unit_id,label\nunlabelled/im0,malignant\nbenign/im0,benign\n")
    assert pool.collect() == []
    pool.label(["unlabelled/im0"])
    assert pool.read_class(pool.labelled[-1]) == 1
    assert pool.ledger.labelled_pixels() == 6 * 6 * 8


def test_class_folders_whose_truth_does_not_know_every_class(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "val/a", "unlabelled"):
        fill(tmp_path / name, 2, 50)
    data = PoolDataModule(ClassFolders(str(tmp_path)), run_dir=str(tmp_path / "run"))
    with pytest.raises(
        DataError, match=r"HiddenTruth .*own labels, but 2 of 6 images have none \('unlabelled/im0' first\).*LabelTable"
    ):
        data.pool.check_open()


def test_class_folders_with_a_share_held_out(tmp_path: Path) -> None:
    fill(tmp_path / "a", 30, 50)
    fill(tmp_path / "b", 30, 150)
    data = ClassFolders(str(tmp_path), val_fraction=0.3)
    train, val = (set(data.images(split)) for split in ("train", "val"))
    assert not train & val
    assert len(train | val) == 60
    assert 8 < len(val) < 30
    assert data.images("test") == []


def test_class_folders_that_cannot_be_right(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 2, 50)
    data = ClassFolders(str(tmp_path))
    with pytest.raises(DataError, match=r"2 to 254 classes, got 1 \(a\)"):
        PoolDataModule(data, initial=PerClass(1), run_dir=str(tmp_path / "run")).prepare_data()
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*b holds no image"):
        ClassFolders(str(tmp_path)).images("train")
    (tmp_path / "train" / "b").rmdir()
    fill(tmp_path / "val" / "zebra", 1, 0)
    with pytest.raises(DataError, match="zebra is a class that the train split does not have"):
        data.images("val")
    with pytest.raises(DataError, match="expected a folder of class folders"):
        ClassFolders(str(tmp_path / "nowhere")).images("train")


def test_classes_that_are_listed_need_no_folder_and_unlabelled_images_are_held_out(tmp_path: Path) -> None:
    fill(tmp_path / "unlabelled", 30, 50)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    source = ClassFolders(str(tmp_path))
    assert source.class_names == ["cat", "dog"]
    assert source.images("val") == []
    held_out, train = set(source.undrawn()), set(source.images("train"))
    assert 1 < len(held_out) < 15
    assert not held_out & train
    assert len(held_out | train) == 30
    table = tmp_path / "labels.csv"
    labelled = [min(train), min(held_out)]
    table.write_text("unit_id,label\n" + "".join(f"{i},dog\n" for i in labelled))
    data = PoolDataModule(
        source, oracle=LabelTable(str(table)), run_dir=str(tmp_path / "run"), allow_missing_classes=True
    )
    data.pool.start()
    assert data.pool.labelled == labelled[:1]
    assert [(b["image_id"], b["label"].tolist()) for b in data.val_dataloader()] == [(labelled[1:], [1])]
    # as soon as class folders bring validation images, all unlabelled ones are in the pool
    fill(tmp_path / "train" / "cat", 1, 50)
    fill(tmp_path / "val" / "cat", 1, 50)
    assert ClassFolders(str(tmp_path)).undrawn() == []
    fill(tmp_path / "train" / "horse", 1, 50)
    with pytest.raises(DataError, match=r"horse is a class that the train split does not have \(cat, dog\)"):
        ClassFolders(str(tmp_path)).images("train")


def test_people_who_label_too_little_are_told_how_to_go_on(tmp_path: Path) -> None:
    fill(tmp_path / "unlabelled", 30, 50)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    source, table = ClassFolders(str(tmp_path)), tmp_path / "labels.csv"
    names = [*source.images("train")[:3], source.undrawn()[0]]
    table.write_text("unit_id,label\n" + "".join(f"{i},dog\n" for i in names))
    data = PoolDataModule(source, oracle=LabelTable(str(table)), run_dir=str(tmp_path / "run"))
    with pytest.raises(DataError, match=r"has no image of cat, .*the verb start lists more to label, with --count 6$"):
        data.pool.start()
