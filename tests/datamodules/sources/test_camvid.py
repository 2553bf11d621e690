"""CamVid: a fake in its layout everywhere, the real one where it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.sources.camvid import CamVid

CLASSES = 11


@pytest.fixture
def fake(tmp_path: Path, fake_pair: Callable[..., Any], save_image: Callable[..., Path]) -> Path:
    root = tmp_path / "camvid"
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for i in range(count):
            image, mask = fake_pair(i, CLASSES, height=40, width=48)
            mask[:3] = CLASSES
            save_image(root / split / "images" / f"Seq05VD_{split}{i}.jpg", image)
            save_image(root / split / "masks" / f"Seq05VD_{split}{i}.png", mask)
    return root


def test_fake_camvid(fake: Path, tmp_path: Path) -> None:
    source = CamVid(str(fake))
    assert source.num_classes == CLASSES
    assert [len(source.images(s)) for s in ("train", "val", "test")] == [6, 2, 2]
    mask = source.read_annotation("Seq05VD_train0")
    assert (mask[:3] == VOID).all()
    assert set(np.unique(mask)) <= {*range(CLASSES), VOID}
    data = PoolDataModule(source, run_dir=str(tmp_path / "run"), initial=RandomSubset(4), batch_size=2)
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 40, 48)
    assert set(batch["mask"].unique().tolist()) <= {*range(CLASSES), VOID}
    # the signal is there: a darker image is a smaller class
    known = batch["mask"] != VOID
    grey = batch["image"].mean(dim=1)[known]
    assert np.corrcoef(grey.numpy(), batch["mask"][known].numpy())[0, 1] > 0.95
    assert [u for b in data.test_dataloader() for u in b["image_id"]] == ["Seq05VD_test0", "Seq05VD_test1"]


@pytest.mark.real
def test_real_camvid(camvid: Path, tmp_path: Path) -> None:
    source = CamVid(str(camvid))
    images = {split: source.images(split) for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in images.items()} == {"train": 367, "val": 101, "test": 233}
    assert len({i for found in images.values() for i in found}) == 701
    listed = (camvid / "classes.txt").read_text().split()[:CLASSES]
    assert listed == list(source.class_names)
    # shares of pixels as its README has them, from every tenth image: sky, building and road are most
    counts = sum(np.bincount(source.read_annotation(i).ravel(), minlength=256) for i in images["train"][::10])
    shares = 100 * counts / counts.sum()
    assert shares[[0, 1, 3]] == pytest.approx([16.85, 23.26, 31.66], abs=4)
    assert shares[VOID] == pytest.approx(3.95, abs=2)
    assert counts[CLASSES:VOID].sum() == 0
    data = PoolDataModule(
        source, run_dir=str(tmp_path), initial=RandomSubset(10), image_size=(90, 120), crop_size=(64, 64)
    )
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 64, 64)
    assert data.pool.ledger.labelled_pixels() == 10 * 180 * 240
    assert next(iter(data.pool_dataloader(data.pool.unlabelled[:8])))["image"].shape == (8, 3, 90, 120)
