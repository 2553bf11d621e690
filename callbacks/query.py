"""The query: score the pool, choose, label."""

import heapq
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from tqdm.auto import tqdm

from acquisition.aggregation import Aggregation
from acquisition.scorer import AcquisitionFunction, Scored, Scorer
from acquisition.selection import PowerSampling, Selection, TopK
from callbacks.pictures import draw_panel, to_display
from datamodules.files import replacing
from datamodules.ledger import Queried
from datamodules.pool import PoolDataModule
from datamodules.units import Unit

__all__ = ["QueryCallback"]


class QueryCallback(Callback):
    """At the end of a fit, or of `query`, scores the pool, chooses the next units and has them labelled.

    acquisition, aggregation, selection: the strategy. budget: units per cycle; a pool that holds fewer is labelled
    whole. budget_pixels: stop earlier, before the units chosen exceed so many pixels; None for no such limit.
    num_samples: T, MC samples per unit where the acquisition draws any. dropout_rate: one rate for every dropout
    layer while querying, or None for the training rates; activations are divided by 1 - rate either way, so their
    expectation stays that of training. pictures: how many of the top and of the bottom units to draw.

    Writes into the cycle's folder: scores.parquet (unit_id, score, rank, selected), queried.csv and maps/.
    """

    def __init__(
        self,
        acquisition: AcquisitionFunction,
        aggregation: Aggregation | None = None,
        selection: Selection | None = None,
        budget: int = 10,
        budget_pixels: int | None = None,
        num_samples: int = 10,
        dropout_rate: float | None = None,
        pictures: int = 3,
    ) -> None:
        if budget < 1:
            raise ValueError(f"the budget must be at least 1 unit per cycle, got {budget}")
        self.scorer = Scorer(acquisition, aggregation, num_samples, dropout_rate)
        self.selection = selection or TopK()
        if isinstance(self.selection, PowerSampling) and self.scorer.sign < 0:
            raise ValueError(
                "PowerSampling needs scores above 0, which Inverse does not give; choose another selection"
            )
        self.budget = budget
        self.budget_pixels = budget_pixels
        self.pictures = pictures
        self.after_fit = True
        """Whether the end of a fit queries; the last cycle's does not."""

    @property
    def strategy(self) -> str:
        """Acquisition, aggregation and selection, as the ledger records them."""
        return f"{self.scorer.name}-{self.selection.name}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Score one unit, so that a strategy that does not fit the network is refused before hours of training."""
        datamodule: PoolDataModule = trainer.datamodule  # type: ignore[attr-defined]
        if self.after_fit and self.scorer.needs_network and (pool := datamodule.pool):
            batch = next(iter(datamodule.pool_dataloader(pool[:1] * trainer.world_size)))
            self._score(trainer, pl_module, batch, datamodule.seed, cycle=0)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Query with the best weights of the fit that just ended."""
        if not self.after_fit:
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            state = torch.load(best, map_location=pl_module.device, weights_only=True)
            pl_module.load_state_dict(state["state_dict"])
        self.query(trainer, pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def query(self, trainer: pl.Trainer, module: pl.LightningModule, datamodule: PoolDataModule) -> None:
        """Score the pool with every process, then choose and label with the first.

        Files first and the ledger last: killed in between, the same query is made again and ends the same.
        """
        cycle = datamodule.ledger.cycle
        folder = datamodule.run_dir / "cycles" / f"{cycle:02d}"
        shards = folder / "shards"
        units = datamodule.pool
        if not units:
            rank_zero_info("The pool is empty: nothing to query.")
            return
        if trainer.is_global_zero and shards.exists():
            shutil.rmtree(shards)
        trainer.strategy.barrier("query starts")
        self._score_shard(trainer, module, datamodule, units, cycle, shards)
        trainer.strategy.barrier("shards are written")
        if trainer.is_global_zero:
            self._choose(datamodule, units, cycle, folder, shards)
        trainer.strategy.barrier("units are labelled")

    def _score_shard(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        units: Sequence[Unit],
        cycle: int,
        shards: Path,
    ) -> None:
        rank = trainer.global_rank
        gallery = _Gallery(self.pictures)
        ids: list[str] = []
        scores: list[float] = []
        for batch in self._batches(trainer, datamodule, units):
            scored = self._score(trainer, module, batch, datamodule.seed, cycle)
            gallery.offer(batch, scored)
            ids += batch["unit_id"]
            scores += scored.scores.tolist()
        with replacing(shards / f"scores-{rank}.parquet") as beside:
            pd.DataFrame({"unit_id": ids, "score": np.array(scores, dtype=np.float64)}).to_parquet(beside)
        gallery.save(shards, rank)

    def _score(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: dict[str, Any], seed: int, cycle: int
    ) -> Scored:
        images = batch.get("image", torch.empty(0)).to(module.device)
        if images.ndim == 4:
            images = images.to(memory_format=getattr(module, "memory_format", torch.contiguous_format))
        with trainer.precision_plugin.forward_context():
            return self.scorer(module.network, images, batch["unit_id"], seed, cycle)  # type: ignore[arg-type]

    def _batches(
        self, trainer: pl.Trainer, datamodule: PoolDataModule, units: Sequence[Unit]
    ) -> Iterator[dict[str, Any]]:
        """Batches of this process's share, under a bar that counts units; ids alone if that is all it takes."""
        if not self.scorer.needs_network:
            mine = units[trainer.global_rank :: trainer.world_size]
            yield {"unit_id": [u.unit_id for u in mine]}
            return
        loader = datamodule.pool_dataloader(units)
        total = len(loader.dataset)  # type: ignore[arg-type]
        # a log file gets a line now and then instead of a moving bar
        often = 0.1 if sys.stderr.isatty() else 10
        with tqdm(total=total, desc="query", unit="unit", mininterval=often, disable=not trainer.is_global_zero) as bar:
            for batch in loader:
                yield batch
                bar.update(len(batch["unit_id"]))

    def _choose(
        self, datamodule: PoolDataModule, units: Sequence[Unit], cycle: int, folder: Path, shards: Path
    ) -> None:
        table = pd.concat([pd.read_parquet(p) for p in sorted(shards.glob("scores-*.parquet"))], ignore_index=True)
        # the pool's own order, so that how many processes shared it leaves no trace
        table = table.set_index("unit_id").loc[[u.unit_id for u in units]].reset_index()
        order = self.selection.order(table["unit_id"].tolist(), table["score"].tolist(), datamodule.seed, cycle)
        table = table.iloc[order].reset_index(drop=True)
        table["rank"] = np.arange(1, len(table) + 1)
        by_id = {u.unit_id: u for u in units}
        taken = self._within_budget(datamodule, [by_id[i] for i in table["unit_id"]])
        table["selected"] = table["rank"] <= taken
        with replacing(folder / "scores.parquet") as beside:
            table.to_parquet(beside)
        selected = table[table["selected"]]
        with replacing(folder / "queried.csv") as beside:
            _platform_table(selected, by_id).to_csv(beside, index=False)
        self._draw(datamodule, table, folder / "maps", shards)
        chosen = [Queried(r.unit_id, float(r.score), int(r.rank)) for r in selected.itertuples()]
        waiting = datamodule.ask(chosen, self.strategy)
        shutil.rmtree(shards)
        note = f"; {len(waiting)} wait: {datamodule.oracle.instructions()}" if waiting else ""
        left = "" if len(table) > self.budget else f" (all that was left; the budget is {self.budget})"
        rank_zero_info(f"Cycle {cycle}: queried {taken} of {len(table)} units{left} by {self.strategy}{note}")

    def _within_budget(self, datamodule: PoolDataModule, ranked: Sequence[Unit]) -> int:
        taken = min(self.budget, len(ranked))
        if self.budget_pixels is None:
            return taken
        pixels = np.cumsum([int(np.prod(datamodule.size(u))) for u in ranked[:taken]])
        if pixels[0] > self.budget_pixels:
            raise ValueError(
                f"strategy.budget_pixels must pay for at least one unit, got {self.budget_pixels} where "
                f"{ranked[0].unit_id!r} has {pixels[0]} pixels; raise it"
            )
        return int((pixels <= self.budget_pixels).sum())

    def _draw(self, datamodule: PoolDataModule, table: pd.DataFrame, maps: Path, shards: Path) -> None:
        saved = {str(np.load(p)["unit_id"]): p for p in shards.glob("gallery-*.npz")}
        by_score = table.sort_values(["score", "rank"], ascending=[False, True])
        for place, rows in (("top", by_score.head(self.pictures)), ("bottom", by_score.tail(self.pictures)[::-1])):
            for number, row in enumerate(rows.itertuples(), start=1):
                if row.unit_id not in saved:
                    continue
                sample = np.load(saved[row.unit_id])
                mark = "queried" if row.selected else "not queried"
                draw_panel(
                    maps / f"{place}-{number}_{row.unit_id.replace('/', '_')}.png",
                    f"{row.unit_id}: score {row.score:.4g}, rank {row.rank} of {len(table)}, {mark}",
                    to_display(sample["image"]),
                    sample["prediction"],
                    sample["values"],
                    self.scorer.acquisition.name,
                    datamodule.class_names,
                    datamodule.read_truth(row.unit_id),
                )


def _platform_table(selected: pd.DataFrame, units: dict[str, Unit]) -> pd.DataFrame:
    """Name and priority first: what annotation platforms read; priority falls from 1 towards 0 with the rank."""
    paths = [units[i].image for i in selected["unit_id"]]
    return pd.DataFrame(
        {
            "name": [p.name if p else i for p, i in zip(paths, selected["unit_id"], strict=True)],
            "priority": 1 - (selected["rank"] - 1) / max(len(selected), 1),
            "unit_id": selected["unit_id"],
            "rank": selected["rank"],
            "score": selected["score"],
            "path": [str(p or "") for p in paths],
        }
    )


@dataclass
class _Gallery:
    """Keeps the samples with the highest and lowest scores seen so far, so that no image is read twice."""

    size: int
    top: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    bottom: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)

    def offer(self, batch: dict[str, Any], scored: Scored) -> None:
        if scored.values is None or scored.predictions is None or scored.values.ndim != 3 or not self.size:
            return
        for i, (unit_id, score) in enumerate(zip(batch["unit_id"], scored.scores.tolist(), strict=True)):
            for heap, key in ((self.top, score), (self.bottom, -score)):
                if len(heap) == self.size and key <= heap[0][0]:
                    continue
                sample = {
                    "image": batch["image"][i].float().numpy(),
                    "prediction": scored.predictions[i].cpu().numpy(),
                    "values": scored.values[i].float().cpu().numpy(),
                }
                push = heapq.heappush if len(heap) < self.size else heapq.heapreplace
                push(heap, (key, unit_id, sample))

    def save(self, folder: Path, rank: int) -> None:
        for number, (_, unit_id, sample) in enumerate([*self.top, *self.bottom]):
            np.savez(folder / f"gallery-{rank}-{number}.npz", unit_id=unit_id, **sample)
