"""Loaders whose processes start afresh (spawn and forkserver), so that data sets travel as pickles."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from datamodules.datamodule import PoolDataModule
from datamodules.datasets import collate_images
from datamodules.initial import RandomSubset
from datamodules.partitions import Grid
from datamodules.sources.class_folders import ClassFolders
from datamodules.sources.digits import Digits
from datamodules.sources.folder import Folder
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from datamodules.sources.source import Source
from datamodules.sources.synthetic import SyntheticRoads
from records.ledger import Ledger

Make = Callable[[type[Source]], PoolDataModule]


@pytest.fixture
def make(tmp_path: Path, folder_root: Path, save_image: Callable[..., Path]) -> Make:
    """A data module in the middle of a fit: ledger open, trainer attached."""

    def build(kind: type[Source]) -> PoolDataModule:
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
            Folder: {"root": str(folder_root)},
            ClassFolders: {"root": str(classes)},
            MultiAnnotatorFolder: {
                "root": str(people),
                "foreground": None,
                "annotator": "random",
                "folds": 2,
                "fold": 1,
            },
            SyntheticRoads: {"num_train": 4, "num_val": 2, "size": [16, 24]},
            Digits: {"num_train": 40},
        }[kind]
        initial = RandomSubset(6 if kind is ClassFolders else 3)
        settings = {
            Folder: {"crop_size": [16, 16], "partition": Grid(7, 9)},
            Digits: {"allow_missing_classes": True, "flip": 0.5},
        }.get(kind, {})
        source = kind(**arguments)
        data = PoolDataModule(source, run_dir=str(tmp_path / "run"), initial=initial, batch_size=2, **settings)
        data.prepare_data()
        data.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        return data

    return build


@pytest.mark.parametrize("kind", [Folder, ClassFolders, MultiAnnotatorFolder, SyntheticRoads, Digits])
def test_what_is_read_is_the_same_after_pickling(make: Make, kind: type[Source]) -> None:
    data = make(kind)
    for loader in (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()):
        index = next(iter(loader.sampler))
        travelled, _ = pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))
        sample, same = loader.dataset[index], travelled[index]
        assert sample.keys() == same.keys()
        assert sample.pop("image_id") == same.pop("image_id")
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(same[k])) for k, v in sample.items())
    assert data.trainer is not None
    assert data.pool.ledger.labelled(), "the connection is still open here"


def test_a_worker_that_is_spawned(make: Make) -> None:
    here = make(Folder).train_dataloader()
    spawned = DataLoader(
        here.dataset, 2, sampler=here.sampler, num_workers=1, multiprocessing_context="spawn", collate_fn=collate_images
    )
    for batch, same in zip(here, spawned, strict=True):
        assert batch["image_id"] == same["image_id"]
        assert torch.equal(batch["image"], same["image"])
        assert torch.equal(batch["mask"], same["mask"])


@pytest.mark.parametrize("kind", [Folder, ClassFolders, Digits])
def test_neither_module_nor_ledger_travels(make: Make, kind: type[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(kind)
    loaders = (data.train_dataloader(), data.val_dataloader(), data.predict_dataloader())

    def refuse(self: object, protocol: int) -> None:
        raise AssertionError(f"{type(self).__name__} travels to a loader's process")

    for stays in (PoolDataModule, Ledger):
        monkeypatch.setattr(stays, "__reduce_ex__", refuse)
    for loader in loaders:
        pickle.dumps((loader.dataset, loader.collate_fn))
    with pytest.raises(AssertionError, match="Ledger travels"):
        pickle.dumps(data.pool.ledger)
