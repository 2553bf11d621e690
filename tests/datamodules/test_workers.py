"""Loaders whose processes start afresh (spawn and forkserver), so that data sets travel as pickles."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from datamodules.class_folders import ClassFolders
from datamodules.digits import Digits
from datamodules.folder import Folder
from datamodules.multi_annotator import MultiAnnotatorFolder
from datamodules.synthetic import SyntheticRoads
from torch.utils.data import DataLoader

from datamodules.datasets import collate_units
from datamodules.initial import RandomSubset
from datamodules.pool import PoolDataModule

Make = Callable[[type[PoolDataModule]], PoolDataModule]


@pytest.fixture
def make(tmp_path: Path, folder_root: Path, save_image: Callable[..., Path]) -> Make:
    """A data module in the middle of a fit: ledger open, trainer attached."""

    def build(kind: type[PoolDataModule]) -> PoolDataModule:
        classes, people = tmp_path / "classes", tmp_path / "people"
        if kind is ClassFolders:
            for name in ("train/a", "train/b", "val/a"):
                for i in range(4):
                    save_image(classes / name / f"{i}.png", np.full((8, 8, 3), 40 * i, np.uint8))
        if kind is MultiAnnotatorFolder:
            shutil.copytree(folder_root / "train" / "images", people / "images")
            for person in ("ann", "bob"):
                shutil.copytree(folder_root / "train" / "masks", people / "masks" / person)
            shutil.copy(folder_root / "classes.txt", people)
        arguments = {
            Folder: {"root": str(folder_root), "crop_size": [16, 16]},
            ClassFolders: {"root": str(classes)},
            MultiAnnotatorFolder: {
                "root": str(people),
                "foreground": None,
                "annotator": "random",
                "folds": 2,
                "fold": 1,
            },
            SyntheticRoads: {"num_train": 4, "num_val": 2, "size": [16, 24]},
            Digits: {"num_train": 40, "allow_missing_classes": True, "flip": 0.5},
        }[kind]
        initial = RandomSubset(6 if kind is ClassFolders else 3)
        data = kind(run_dir=str(tmp_path / "run"), initial=initial, batch_size=2, **arguments)
        data.start()
        data.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        return data

    return build


@pytest.mark.parametrize("kind", [Folder, ClassFolders, MultiAnnotatorFolder, SyntheticRoads, Digits])
def test_what_is_read_is_the_same_after_pickling(make: Make, kind: type[PoolDataModule]) -> None:
    data = make(kind)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        index = next(iter(loader.sampler))
        travelled, _ = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
        sample, same = loader.dataset[index], travelled[index]
        assert sample.keys() == same.keys()
        assert sample.pop("unit_id") == same.pop("unit_id")
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(same[k])) for k, v in sample.items())
    assert data.trainer is not None
    assert data.ledger.labelled(), "the connection is still open here"


def test_a_worker_that_is_spawned(make: Make) -> None:
    here = make(Folder).train_dataloader()
    spawned = DataLoader(
        here.dataset, 2, sampler=here.sampler, num_workers=1, multiprocessing_context="spawn", collate_fn=collate_units
    )
    for batch, same in zip(here, spawned, strict=True):
        assert batch["unit_id"] == same["unit_id"]
        assert torch.equal(batch["image"], same["image"])
        assert torch.equal(batch["mask"], same["mask"])
