"""Positives of one data set and negatives of another."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.corruptions import PositiveUnlabelled
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.oracle import HiddenTruth
from datamodules.sources.digits import Digits
from datamodules.sources.mnist import MNIST, FashionMNIST
from datamodules.sources.positive_negative import PositiveNegative
from tests.conftest import fake_mnist


@pytest.fixture
def source(tmp_path: Path) -> PositiveNegative:
    fake_mnist(tmp_path)
    return PositiveNegative(MNIST(str(tmp_path)), FashionMNIST(str(tmp_path)))


def test_classes_and_images(source: PositiveNegative, tmp_path: Path) -> None:
    images, labels, ids = source.tensors("train")
    digits, classes, _ = MNIST(str(tmp_path)).tensors("train")
    count = len(digits)
    assert len(images) == len(ids) == len(set(ids)) == 2 * count
    assert torch.equal(labels, torch.cat([classes + 1, torch.zeros(count, dtype=torch.int64)]))
    assert torch.allclose(images[:count], digits), "normalised as positives are"
    assert source.class_names == ["negative", *map(str, range(10))]
    assert source.num_classes == 11
    assert source.images("val")
    assert source.to_display(images[0].numpy()).shape == (28, 28, 3)


def test_half_of_the_positives_are_unlabelled(source: PositiveNegative, tmp_path: Path) -> None:
    oracle = HiddenTruth(corruption=PositiveUnlabelled(0.5))
    pool = PoolDataModule(source, oracle=oracle, run_dir=str(tmp_path / "run"), allow_missing_classes=True).pool
    pool.start()
    truth = np.array([int(source.read_annotation(i)) for i in pool.labelled])
    given = np.array([pool.read_class(i) for i in pool.labelled])
    assert (given[truth == 0] == 0).all()
    assert set(given[given != truth].tolist()) == {0}
    assert 0.3 < (given[truth > 0] > 0).mean() < 0.7


def test_negatives_of_another_size_are_refused(tmp_path: Path) -> None:
    fake_mnist(tmp_path)
    source = PositiveNegative(MNIST(str(tmp_path)), Digits())
    with pytest.raises(DataError, match=r"negatives of 1 x 28 x 28 as the positives .*, got 1 x 8 x 8 \(Digits\)"):
        source.images("train")
