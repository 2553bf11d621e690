"""What a query's scores depend on."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from acquisition.aggregation import CountAbove, Sum
from acquisition.features import Feature
from acquisition.functions import BALD, ODIN, Entropy, Expert, Inverse
from acquisition.identity import describe
from acquisition.racing import Race
from acquisition.scorer import Scorer
from callbacks.fingerprint import query_fingerprint
from callbacks.query import QueryCallback
from datamodules.datamodule import PoolDataModule
from datamodules.partitions import Grid
from datamodules.sources.folder import Folder
from datamodules.sources.synthetic import SyntheticRoads


def test_a_fingerprint_changes_with_weights_and_settings() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = query_fingerprint(network, "BALD", 10)
    assert before == query_fingerprint(network, "BALD", 10) != query_fingerprint(network, "BALD", 20)
    with torch.no_grad():
        network[1].running_mean[0] = 1
    assert query_fingerprint(network, "BALD", 10) != before


def test_a_fingerprint_changes_with_what_leaves_the_weights_alone() -> None:
    class Bent(Entropy):
        def __init__(self, power: float = 1.0) -> None:
            self._kept = power

    def of(scorer: Scorer, rate: float = 0.5) -> str:
        return query_fingerprint(nn.Sequential(nn.Dropout(rate), nn.ReLU()), scorer)

    different = [
        of(Scorer(Entropy())), of(Scorer(Entropy()), rate=0.4), of(Scorer(ODIN(1e-7))), of(Scorer(ODIN(2e-7))),
        of(Scorer(Bent())), of(Scorer(Bent(1.5))), of(Scorer(Inverse(Bent(1.5)))), of(Scorer(Entropy(), Sum())),
        of(Scorer(Entropy(), CountAbove("log2"))), of(Scorer(Entropy(), CountAbove(0.693147))),
        of(Scorer(Expert("a", Entropy(), partial(nn.Linear, 2, 2)))),
        of(Scorer(Expert("a", Entropy(), partial(nn.Linear, 2, 3)))),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert of(Scorer(Bent(1.5))) == of(Scorer(Bent(power=1.5)))
    assert (Bent().name, Bent(1.5).name) == ("Bent", "Bent(power=1.5)")
    assert ODIN(0.1234567).name != ODIN(0.1234568).name


def test_descriptions_know_no_addresses() -> None:
    def made() -> str:
        width = 2
        expert = Expert("a", Inverse(BALD()), lambda: nn.Linear(width, 2))
        network = partial(nn.Linear, 2, bias=False)
        return describe([Scorer(expert, CountAbove("log2"), features=set(Feature)), network, nn.Dropout(0.5), Race()])

    assert made() == made()
    assert "0x" not in made()
    assert describe({"a": 1, "b": {"x", "y"}}) == describe({"b": {"y", "x"}, "a": 1}) != describe({"a": 1, "b": {"x"}})


@dataclass(slots=True)
class Slotted:
    number: int


def test_things_that_differ_are_told_apart_and_unknown_arguments_refused() -> None:
    assert describe(Slotted(1)) != describe(Slotted(2))
    assert describe(Slotted(1)) == describe(Slotted(1))
    with pytest.raises(TypeError, match="Entropy takes no arguments"):
        Entropy(temperature=3)  # type: ignore[call-arg]


def test_what_the_pool_looks_like(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in "ab":
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"{name}.png")

    def view(**settings: object) -> str:
        data = PoolDataModule(Folder(str(tmp_path), val_fraction=0), **{"run_dir": str(tmp_path / "run"), **settings})
        return data.view(data.pool.unlabelled, truth=False)

    plain = view()
    assert plain == view(run_dir=str(tmp_path / "moved"), batch_size=3, eval_batch_size=2, num_workers=1, seed=5)
    assert len({plain, view(image_size=[2, 2]), view(image_size=[3, 3]), view(partition=Grid(2, 2))}) == 4
    os.utime(tmp_path / "images" / "a.png", ns=(1, 1))
    assert view() != plain


def test_a_query_with_other_data_or_precision_begins_anew(tmp_path: Path) -> None:
    def of(
        precision: str = "32-true", layout: object = torch.contiguous_format, scenes: Any = None, **settings: Any
    ) -> str:
        data = PoolDataModule(SyntheticRoads(num_train=3, **(scenes or {})), run_dir=str(tmp_path), **settings)
        trainer: Any = SimpleNamespace(precision=precision)
        module: Any = SimpleNamespace(network=nn.Dropout(0.5), memory_format=layout)
        return QueryCallback(BALD(), race=Race())._fingerprint(trainer, module, data, data.pool.unlabelled, 0)

    different = {
        of(), of(image_size=[8, 8]), of(scenes={"size": [8, 8]}), of(scenes={"scene_seed": 1}), of(seed=1),
        of("bf16-mixed"), of(layout=torch.channels_last),
    }  # fmt: skip
    assert len(different) == 7
    assert of() == of(batch_size=2, num_workers=1)


def test_a_query_among_other_candidates_begins_anew(tmp_path: Path) -> None:
    data = PoolDataModule(SyntheticRoads(num_train=30), run_dir=str(tmp_path))
    trainer: Any = SimpleNamespace(precision="32-true")
    module: Any = SimpleNamespace(network=nn.Dropout(0.5))
    units = data.pool.unlabelled[:20]
    made = {QueryCallback(BALD(), candidates=n)._fingerprint(trainer, module, data, units, 0) for n in (None, 20, 21)}
    assert len(made) == 3
