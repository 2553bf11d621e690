"""CIFAR-10 and CIFAR-100: fakes in torchvision's layout."""

from pathlib import Path

import pytest
import torch

from datamodules.files import DataError
from datamodules.sources.cifar10 import CIFAR10, CIFAR100
from tests.conftest import fake_cifar10, fake_cifar100


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


def test_cifar100_in_torchvisions_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = fake_cifar100(tmp_path, count=6)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = CIFAR100(str(tmp_path))
    images, labels = data.read("train")
    assert torch.equal(images, torch.from_numpy(pixels[:6].reshape(6, 3, 32, 32)))
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert len(set(data.class_names)) == 100
    assert list(data.class_names) == sorted(data.class_names)
    with pytest.raises(DataError, match=r"CIFAR100 as .*/cifar-100-python, got: .*unpack cifar-100-python.tar.gz"):
        CIFAR100(str(tmp_path / "nowhere")).read("train")
