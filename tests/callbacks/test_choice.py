"""Choosing among scored units, and who decides that a fit ends with a query."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from acquisition.batch import CoreSet
from acquisition.functions import Random
from acquisition.limits import Allowance, AtMostPerImage
from acquisition.selection import FromFile, TopK
from callbacks.choice import Chooser
from callbacks.query import QueryCallback
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.partitions import Region
from datamodules.pool import Pool
from datamodules.sources.digits import Digits
from lightning_modules.classification import ClassificationModule
from lightning_modules.networks import TwoLayerNet
from records.run_directory import CycleDirectory

UNITS = SimpleNamespace(
    pixels=lambda unit_ids: [10] * len(unit_ids),
    regions_of=lambda unit_ids: [Region(u, 10, (0, 0, 2, 5)) for u in unit_ids],
    image_of=str,
    location=dict.fromkeys("abcd", ("image", 0)),
)
POOL: Any = SimpleNamespace(seed=0, units=UNITS, source=SimpleNamespace(path=lambda image_id: None))


def scores(**tiers: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"unit_id": list("abcd"), "score": [0.1, 0.4, 0.3, 0.2], **tiers})


@pytest.mark.parametrize(
    ("allowance", "tiers", "ranked", "taken"),
    [
        (Allowance(2), {}, "bcda", 2),
        (Allowance(9), {}, "bcda", 4),
        (Allowance(3, 25), {}, "bcda", 2),
        (Allowance(2), {"tier": [0, 1, 1, 2]}, "abcd", 2),
    ],
)
def test_what_the_allowance_pays_for_is_selected(
    allowance: Allowance, tiers: dict[str, list[int]], ranked: str, taken: int
) -> None:
    table = Chooser(TopK(), allowance, "s").choose(POOL, scores(**tiers), 0)
    assert list(table.columns) == ["unit_id", "score", "rank", "selected"]
    assert table["unit_id"].tolist() == list(ranked)
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["selected"].tolist() == [rank < taken for rank in range(4)]


def test_what_cannot_be_chosen_is_said() -> None:
    with pytest.raises(ValueError, match=r"got 9 where 'b' has 10 pixels; raise it"):
        Chooser(TopK(), Allowance(2, 9), "s").choose(POOL, scores(), 0)
    with pytest.raises(ValueError, match="CoreSet looks at features, got none"):
        Chooser(CoreSet(), Allowance(2), "s").choose(POOL, scores(), 0)


def test_a_limit_per_image_may_leave_a_part_of_the_budget(tmp_path: Path) -> None:
    images = {"a": "one", "b": "two", "c": "two", "d": "two"}
    units = SimpleNamespace(**{**vars(UNITS), "image_of": images.__getitem__})
    pool: Any = SimpleNamespace(**{**vars(POOL), "units": units})
    for allowance, taken in ((Allowance(4), 2), (Allowance(1), 1), (Allowance(4, 15), 1)):
        table = Chooser(AtMostPerImage(TopK(), 1), allowance, "s").choose(pool, scores(), 0)
        assert table["unit_id"].tolist() == list("bacd")
        assert table["rank"].tolist() == [1, 2, 3, 4]
        assert table["selected"].sum() == taken
    order = tmp_path / "order.txt"
    order.write_text("d\nc\n")
    assert Chooser(FromFile(str(order)), Allowance(4), "s").choose(pool, scores(), 0)["unit_id"].tolist() == list(
        "dcba"
    )
    order.write_text("d\ne\n")
    chooser = Chooser(FromFile(str(order)), Allowance(4), "s")
    for refused in (lambda: chooser.choose(pool, scores(), 0), lambda: chooser.check(pool)):
        with pytest.raises(ValueError, match="got 'e', which the data set does not have"):
            refused()


def test_while_the_ledger_does_not_know_of_a_query_its_shards_stand(tmp_path: Path) -> None:
    directory = CycleDirectory(tmp_path)
    table = Chooser(TopK(), Allowance(2), "s").choose(POOL, scores(), 0)
    asked: list[Any] = []

    def ask(chosen: list[Any], strategy: str) -> list[str]:
        assert directory.queried.is_file()
        assert not directory.is_queried
        asked.extend(chosen)
        return ["c"]

    pool: Any = SimpleNamespace(**vars(POOL), ask=ask)
    waiting = Chooser(TopK(), Allowance(2), "s").ask(pool, directory, table)
    assert waiting == ["c"]
    assert [(q.unit_id, q.score, q.rank) for q in asked] == [("b", 0.4, 1), ("c", 0.3, 2)]
    assert directory.is_queried
    written = pd.read_csv(directory.queried)
    assert written["unit_id"].tolist() == ["b", "c"]
    np.testing.assert_allclose(written["priority"], [1.0, 0.5])
    assert written["image_id"].tolist() == ["b", "c"]
    assert written[["row", "column", "height", "width", "pixels"]].to_numpy().tolist() == [[0, 0, 2, 5, 10]] * 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["queried.csv"], "nothing to outline in whole images"


@dataclass
class Decided:
    may_query: bool
    answer: bool
    asked: int = 0

    def queries(self) -> bool:
        self.asked += 1
        return self.answer


def fitted(folder: Path, query: QueryCallback) -> Pool:
    source = Digits(num_train=20, num_val=10)
    data = PoolDataModule(
        source, run_dir=str(folder), initial=RandomSubset(8), batch_size=4, allow_missing_classes=True
    )
    module = ClassificationModule(TwoLayerNet(10, 4, (1, 8, 8)), optimizer=lambda p: torch.optim.SGD(p, lr=0.01))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1, callbacks=[query], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(module, data)
    return data.pool


def test_a_fit_by_a_plain_trainer_ends_with_a_query(tmp_path: Path) -> None:
    pool = fitted(tmp_path, QueryCallback(Random(), budget=2))
    assert pool.ledger.cycle == 1
    assert len(pool.ledger.labelled()) == 10


@pytest.mark.parametrize(
    ("end", "asked", "cycle"),
    [(Decided(False, True), 0, 0), (Decided(True, False), 1, 0), (Decided(True, True), 1, 1)],
)
def test_somebody_else_may_decide(tmp_path: Path, end: Decided, asked: int, cycle: int) -> None:
    query = QueryCallback(Random(), budget=2)
    pool = fitted(tmp_path, query.asking(end))
    assert (end.asked, pool.ledger.cycle) == (asked, cycle)
    assert query.asking(end) is not query


def test_the_query_runs_where_the_fit_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning moves the module to the CPU before a fit's end; the query must not stay there."""

    class Moved(pl.LightningModule):
        places = ["cpu"]

        def to(self, device: Any) -> "Moved":  # type: ignore[override]
            self.places.append(str(device))
            return self

    module, asked = Moved(), []
    monkeypatch.setattr(QueryCallback, "query", lambda self, *_: asked.append(module.places[-1]))
    strategy = SimpleNamespace(barrier=lambda name: None, root_device=torch.device("cuda", 1))
    trainer: Any = SimpleNamespace(strategy=strategy, checkpoint_callback=None, datamodule=None)
    QueryCallback(Random()).on_fit_end(trainer, module)
    assert asked == ["cuda:1"]
    assert module.places[-1] == "cpu"
