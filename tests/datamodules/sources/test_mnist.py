"""MNIST and Fashion-MNIST: fake files of the real layout, and the real ones where they are."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from datamodules.files import DataError
from datamodules.sources.mnist import MNIST, FashionMNIST
from tests.conftest import ROOT

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
