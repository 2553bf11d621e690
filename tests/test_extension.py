"""What an extension costs: an acquisition function, a data set and a loss of one's own, from definition to ledger."""

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from skimage.draw import disk
from torch import Tensor, nn

import cli
from acquisition.kinds import MonteCarloAcquisition
from acquisition.seeding import derive_seed
from acquisition.statistics import Statistic, StreamingStatistics
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.partitions import Partition, Region
from datamodules.sources.source import Source
from records.ledger import Ledger
from tests.conftest import TINY


class TopDeviation(MonteCarloAcquisition):
    """Standard deviation over the samples of the class that varies most."""

    needs = frozenset({Statistic.MEAN, Statistic.MEAN_SQUARES})

    def values(self, statistics: StreamingStatistics) -> Tensor:
        variance = statistics[Statistic.MEAN_SQUARES] - statistics[Statistic.MEAN].square()
        return variance.clamp_min(0).sqrt().amax(dim=1)


class Discs(Source):
    """A bright disc on a dark, noisy background."""

    def __init__(self, count: int = 12, side: int = 32) -> None:
        self.count = count
        self.side = side

    @property
    def class_names(self) -> Sequence[str]:
        return ["background", "disc"]

    def images(self, split: str) -> Sequence[str]:
        return [f"{split}_{i:03d}" for i in range(self.count if split == "train" else 4)]

    def read_image(self, image_id: str) -> np.ndarray:
        noise = np.random.default_rng(derive_seed(1, image_id)).integers(0, 60, (self.side, self.side))
        return np.repeat((noise + 150 * self.read_annotation(image_id))[..., None], 3, axis=2).astype(np.uint8)

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        rng = np.random.default_rng(derive_seed(0, image_id))
        mask = np.zeros((self.side, self.side), dtype=np.uint8)
        mask[disk(rng.uniform(8, self.side - 8, size=2), rng.uniform(4, 8))] = 1
        return mask


class Checkerboard(Partition):
    """The fields of a checkerboard: all white ones are one unit, all black ones another."""

    def __init__(self, side: int = 4) -> None:
        self.side = side

    def regions(self, source: Source, image_id: str) -> list[Region]:
        height, width = source.size(image_id)
        counts = np.bincount(self.index_map(source, image_id).ravel(), minlength=2)
        return [
            Region(f"{image_id}#{name}", int(count), (0, 0, height, width))
            for name, count in zip(("white", "black"), counts, strict=True)
        ]

    def index_map(self, source: Source, image_id: str) -> np.ndarray:
        rows, columns = np.indices(source.size(image_id)) // self.side
        return ((rows + columns) % 2).astype(np.int32)


class Focal(nn.Module):
    """Lin et al. 2017, "Focal loss for dense object detection": sure pixels count less."""

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        losses = nn.functional.cross_entropy(logits, targets, ignore_index=255, reduction="none")
        return ((1 - torch.exp(-losses)) ** self.gamma * losses).mean()


@pytest.mark.parametrize(("kind", "lines"), [(TopDeviation, 8), (Discs, 40), (Checkerboard, 40), (Focal, 15)])
def test_an_extension_is_short(kind: type, lines: int) -> None:
    assert len(inspect.getsource(kind).splitlines()) <= lines


def test_a_partition_of_ones_own_is_labelled_and_trained(tmp_path: Path) -> None:
    data = PoolDataModule(
        Discs(), Checkerboard(), initial=RandomSubset(5), batch_size=4, flip=0.0, run_dir=str(tmp_path / "run")
    )
    data.prepare_data()
    pool = data.pool
    assert len(pool.unlabelled) == 24 - 5
    assert pool.ledger.labelled_pixels() == 5 * 32 * 32 // 2
    labelled = set(pool.labelled)
    fields = (np.add.outer(np.arange(32) // 4, np.arange(32) // 4)) % 2
    for batch in data.train_dataloader():
        for image_id, mask in zip(batch["image_id"], batch["mask"].numpy(), strict=True):
            for number, name in enumerate(("white", "black")):
                there = mask[fields == number]
                truth = data.source.read_annotation(image_id)[fields == number]
                assert np.array_equal(there, truth if f"{image_id}#{name}" in labelled else np.full_like(truth, 255))


def test_a_config_names_them_and_a_run_uses_them(tmp_path: Path) -> None:
    settings: dict[str, Any] = copy.deepcopy(TINY) | {"cycles": 2}
    settings["strategy"]["acquisition"] = {"class_path": f"{__name__}.TopDeviation"}
    settings["model"]["init_args"]["network"]["init_args"]["num_classes"] = 2
    settings["model"]["init_args"]["loss"] = {"class_path": f"{__name__}.Focal", "init_args": {"gamma": 1.5}}
    settings["data"] = {
        "source": {"class_path": f"{__name__}.Discs", "init_args": {"count": 12}},
        "partition": {"class_path": f"{__name__}.Checkerboard"},
        "initial": settings["data"]["initial"],
        "batch_size": 4,
    }
    config, run_dir = tmp_path / "own.yaml", tmp_path / "run"
    config.write_text(yaml.safe_dump(settings))
    cli.main(["fit", "--config", str(config), "--run_dir", str(run_dir)])

    assert pd.read_csv(run_dir / "learning_curve.csv")["labelled_units"].tolist() == [5, 9]
    assert pd.read_parquet(run_dir / "cycles" / "00" / "scores.parquet")["score"].between(0, 0.5).all()
    queried = [event for event in Ledger(run_dir / "ledger.sqlite").events() if event.kind == "queried"]
    assert {event.strategy for event in queried} == {"TopDeviation-Mean-TopK"}
    assert len(queried) == 4
