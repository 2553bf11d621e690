"""MNIST, Fashion-MNIST, CIFAR-10, digits and class folders: fake files of the real layout, and the real ones."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from datamodules.cifar10 import CIFAR10
from datamodules.class_folders import ClassFolders
from datamodules.digits import Digits
from datamodules.mnist import MNIST, FashionMNIST
from datamodules.units import DataError
from PIL import Image

from datamodules.initial import PerClass, StratifiedSubset
from datamodules.oracle import LabelTable
from tests.conftest import ROOT, fake_cifar10

SHARED = ROOT.parent / "shared" / "data"


def write_idx(path: Path, values: np.ndarray, zipped: bool) -> None:
    header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    content = header + values.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(path.name + ".gz" * zipped).write_bytes(gzip.compress(content) if zipped else content)


@pytest.mark.parametrize("zipped", [True, False])
def test_mnist_files(zipped: bool, tmp_path: Path) -> None:
    folder = tmp_path if zipped else tmp_path / "MNIST" / "raw"
    images = np.arange(12 * 28 * 28).reshape(12, 28, 28) % 251
    for part, count in (("train", 12), ("t10k", 5)):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[:count], zipped)
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10, zipped)
    data = MNIST(str(tmp_path))
    found, labels = data.read("train")
    assert np.array_equal(found[:, 0], images)
    assert labels.tolist() == [*range(10), 0, 1]
    assert len(data.read("test")[1]) == 5


def test_mnist_files_that_are_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected train-images-idx3-ubyte or .*gz in"):
        MNIST(str(tmp_path)).read("train")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no")
    with pytest.raises(DataError, match="not a readable idx file"):
        MNIST(str(tmp_path)).read("train")


@pytest.mark.real
@pytest.mark.parametrize(("kind", "name"), [(MNIST, "mnist"), (FashionMNIST, "fashion_mnist")])
def test_real_mnist(kind: type[MNIST], name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no {name} here")
    data = kind(str(SHARED / name))
    images, labels, _ = data.tensors("train")
    assert images.shape == (60000, 1, 28, 28)
    assert data.tensors("val")[0].shape == (10000, 1, 28, 28)
    assert abs(float(images.mean())) < 2e-3
    assert abs(float(images.std()) - 1) < 2e-3
    if kind is FashionMNIST:
        assert labels.bincount().tolist() == [6000] * 10
        assert data.tensors("val")[1].bincount().tolist() == [1000] * 10
        assert (SHARED / name / "classes.txt").read_text().split() == list(data.class_names)
    else:
        assert labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_cifar10_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = fake_cifar10(tmp_path, per_batch=2)
    # the fake files cannot have the real checksums
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = CIFAR10(str(tmp_path))
    images, labels = data.read("train")
    assert torch.equal(images, torch.from_numpy(pixels[:10].reshape(10, 3, 32, 32)))
    assert labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert data.class_names[3] == "cat"
    assert len(data.class_names) == 10
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz"):
        CIFAR10(str(tmp_path / "nowhere")).read("train")


def test_digits() -> None:
    data = Digits()
    (images, labels, _), (val, _, _) = data.tensors("train"), data.tensors("val")
    assert (len(images), len(val), len(data.tensors("test")[0])) == (1400, 397, 0)
    everything = torch.cat([images, val])
    assert abs(float(everything.mean())) < 1e-3
    assert abs(float(everything.std()) - 1) < 1e-3
    assert labels.unique().tolist() == list(range(10))


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
    data = ClassFolders(
        str(root), oracle=LabelTable(str(table)), initial=StratifiedSubset(5), batch_size=5,
        run_dir=str(tmp_path / "run"), flip=0.0,
    )  # fmt: skip
    assert data.class_names == ["benign", "malignant"]
    data.start()
    assert sorted(u.label for u in data.labelled_units) == [0, 0, 0, 0, 1]
    assert len(data.pool) == 8
    (batch,) = data.train_dataloader()
    bright = data.to_display(batch["image"][int(batch["label"].argmax())].numpy())
    assert batch["label"].dtype == torch.int64
    assert bright.min() >= 150
    assert sorted(x for b in data.val_dataloader() for x in b["label"].tolist()) == [0, 0, 1]
    with pytest.raises(
        DataError, match=r"'unlabelled/im0' cannot be labelled: it has no label yet; write their classes"
    ):
        data.label(["unlabelled/im0"])
    table.write_text("unit_id,label\nim0.png,malignant\n")
    for read in (data.start, data.collect):
        with pytest.raises(DataError, match=r"answer for 'im0\.png' \(1 such ids\).*ids look like 'benign/im0'"):
            read()
    table.write_text("unit_id,label\nunlabelled/im0,malignant\nbenign/im0,benign\n")
    assert data.collect() == []
    data.label(["unlabelled/im0"])
    assert data.labelled_units[-1].label == 1
    assert data.ledger.labelled_pixels() == 6 * 6 * 8


def test_class_folders_whose_truth_does_not_know_every_class(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "unlabelled"):
        fill(tmp_path / name, 2, 50)
    data = ClassFolders(str(tmp_path), run_dir=str(tmp_path / "run"))
    with pytest.raises(
        DataError, match=r"HiddenTruth .*own labels, but 2 of 6 units have none \('unlabelled/im0' first\).*LabelTable"
    ):
        data.check_open()


def test_class_folders_with_a_share_held_out(tmp_path: Path) -> None:
    fill(tmp_path / "a", 30, 50)
    fill(tmp_path / "b", 30, 150)
    data = ClassFolders(str(tmp_path), val_fraction=0.3)
    train, val = ({u.unit_id for u in data.find_units(split)} for split in ("train", "val"))
    assert not train & val
    assert len(train | val) == 60
    assert 8 < len(val) < 30
    assert data.find_units("test") == []


def test_class_folders_that_cannot_be_right(tmp_path: Path) -> None:
    fill(tmp_path / "train" / "a", 2, 50)
    data = ClassFolders(str(tmp_path), initial=PerClass(1), run_dir=str(tmp_path / "run"))
    with pytest.raises(DataError, match=r"2 to 254 classes, got 1 \(a\)"):
        data.start()
    (tmp_path / "train" / "b").mkdir()
    with pytest.raises(DataError, match=r"the class folder .*b holds no image"):
        data.find_units("train")
    fill(tmp_path / "val" / "zebra", 1, 0)
    with pytest.raises(DataError, match="zebra is a class that the train split does not have"):
        data.find_units("val")
    with pytest.raises(DataError, match="expected a folder of class folders"):
        ClassFolders(str(tmp_path / "nowhere")).find_units("train")
