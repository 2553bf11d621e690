"""The query: score the pool, choose, label."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from acquisition.batch import BatchSelection
from acquisition.doctor import Check, examine_network, require
from acquisition.features import Feature
from acquisition.functions import AcquisitionFunction, Random
from acquisition.racing import Budget, Race, decide
from acquisition.regions import Regions
from acquisition.scorer import Scored, Scorer
from acquisition.selection import PowerSampling, Selection, TopK, rank_units
from callbacks.fingerprint import query_fingerprint
from callbacks.gallery import Gallery, saved_samples
from callbacks.pictures import draw_ends
from datamodules.doctor import examine_pool
from datamodules.pool import PoolDataModule
from datamodules.texts import shielded
from datamodules.units import Unit
from records.files import write_json
from records.ledger import Queried
from records.run_directory import CycleDirectory, RunDirectory
from records.shards import Shards

__all__ = ["QueryCallback"]

_FLUSH_SECONDS = 30
_FLUSH_BYTES = 1 << 28
_RACE_GROUPS = 4


class QueryCallback(Callback):
    """At the end of a fit, or of `query`, scores the pool, chooses the next units and has them labelled.

    acquisition, aggregation, selection: the strategy. budget: units per cycle; a pool that holds fewer is labelled
    whole. budget_pixels: stop earlier, before the units chosen exceed so many pixels; None for no such limit.
    num_samples: T, MC samples per unit where the acquisition draws any. dropout_rate: one rate for every dropout
    layer while querying, or None for the training rates; activations are divided by 1 - rate either way, so their
    expectation stays that of training. pictures: how many of the top and of the bottom units to draw.
    per_unit_masks: every unit its own dropout masks instead of shared ones. at_output_stride: take MC values before the
    last upsampling, approximate and cheaper. race: few samples for every unit and num_samples only for those near the
    budget's cut, or None for num_samples everywhere; needs TopK and an acquisition that draws samples. ensemble:
    checkpoints, as paths or patterns (runs/seed*/cycles/{cycle:02d}/best.ckpt), of networks that are asked instead of
    num_samples MC samples of the one that learns.

    A selection by features (`acquisition.batch`) has them written beside the scores while the pool is scored, and read
    as memory maps: 4 bytes x N x D on disk, twice while the batch is chosen, and not in memory.

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
        per_unit_masks: bool = False,
        at_output_stride: bool = False,
        race: Race | None = None,
        ensemble: list[str] | None = None,
    ) -> None:
        if budget < 1:
            raise ValueError(f"the budget must be at least 1 unit per cycle, got strategy.budget {budget}")
        if budget_pixels is not None and budget_pixels < 1:
            raise ValueError(
                f"strategy.budget_pixels must be at least 1 pixel, or null for no limit, got {budget_pixels}"
            )
        if pictures < 0:
            raise ValueError(f"strategy.pictures must be 0 or more, got {pictures}")
        self.selection = selection or TopK()
        features = self.selection.needs if isinstance(self.selection, BatchSelection) else frozenset()
        self.scorer = Scorer(
            acquisition,
            aggregation,
            num_samples,
            dropout_rate,
            per_unit_masks,
            at_output_stride,
            ensemble or (),
            features,
        )
        if isinstance(self.selection, PowerSampling) and self.scorer.sign < 0:
            raise ValueError("PowerSampling needs scores above 0, but Inverse gives none; choose another selection")
        if race is not None and (ensemble or not (self.scorer.draws_samples and isinstance(self.selection, TopK))):
            raise ValueError(
                f"a race needs an acquisition that draws MC samples and TopK, got {self.strategy}; set race to null"
            )
        self.budget = budget
        self.budget_pixels = budget_pixels
        self.pictures = pictures
        self.race = race
        self.after_fit = True
        """Whether the end of a fit queries; the last cycle's does not."""
        self.enough: Callable[[], bool] = lambda: False
        """Asked when a fit has ended: whether its labels are enough, so that nothing is queried."""

    @property
    def strategy(self) -> str:
        """Acquisition, aggregation and selection, as the ledger records them."""
        return f"{self.scorer.name}-{self.selection.name}"

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a query that could not be answered, or a strategy that does not fit, before hours of training."""
        if self.after_fit:
            trainer.datamodule.check_open()  # type: ignore[attr-defined]
            self._check_budget(trainer.datamodule)  # type: ignore[attr-defined]
            require(self.examine(trainer, pl_module, trainer.datamodule))  # type: ignore[attr-defined]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Query with the best weights of the fit that just ended."""
        if not self.after_fit:
            return
        # every process reads what the others have written by now, and decides alike
        trainer.strategy.barrier("the fit's files are written")
        if self.enough():
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            state = torch.load(best, map_location=pl_module.device, weights_only=True)
            pl_module.load_state_dict(state["state_dict"])
        self.query(trainer, pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def examine(self, trainer: pl.Trainer, module: pl.LightningModule, datamodule: PoolDataModule) -> list[Check]:
        """The doctor's checks of network and pool; none where the network or the pool is not asked."""
        units = datamodule.pool[:2]
        if not units or not self.scorer.needs_network:
            return []
        # every process looks at the same units, whatever its share of the pool
        units = [u for u in units for _ in range(trainer.world_size)]
        loader = datamodule.pool_dataloader(units)
        batch = next(iter(datamodule.truth_dataloader(units) if self.scorer.is_oracle else loader))
        with trainer.precision_plugin.forward_context():
            network: torch.nn.Module = module.network  # type: ignore[assignment]
            cycle = datamodule.ledger.cycle
            checks = examine_network(
                self.scorer,
                network,
                _images(module, batch),
                Regions.whole(batch["unit_id"]),
                datamodule.seed,
                cycle,
                _truth(batch),
            )
        checks += examine_pool(datamodule, loader)
        if self.scorer.is_oracle:
            # the loader that leaves labels out is not the one that this strategy is given
            checks = [c for c in checks if c.name != "labels of the pool"]
            checks.append(Check("truth of the pool", f"looked at: {self.strategy} is an oracle strategy", True))
        return checks

    def query(self, trainer: pl.Trainer, module: pl.LightningModule, datamodule: PoolDataModule) -> None:
        """Score the pool with every process, then choose and label with the first.

        Files first and the ledger last: killed in between, the same query goes on with what was scored, and ends the
        same.
        """
        # before the files of a query that waits for people are written over
        datamodule.check_open()
        cycle = datamodule.ledger.cycle
        directory = RunDirectory(datamodule.run_dir).cycle(cycle)
        units = datamodule.pool
        if not units:
            rank_zero_info("The pool is empty: nothing to query.")
            return
        require(self.examine(trainer, module, datamodule))
        needs_labelled = isinstance(self.selection, BatchSelection) and self.selection.needs_labelled
        seen = [*units, *(datamodule.labelled_units if needs_labelled else ())]
        fingerprint = self._fingerprint(trainer, module, datamodule, seen, cycle)
        shards = Shards(directory.shards, fingerprint)
        if trainer.is_global_zero:
            # of a query that was cut: the ledger does not know it
            directory.queried.unlink(missing_ok=True)
            shards.open()
        labelled = Shards(shards.folder / "labelled", fingerprint)
        if trainer.is_global_zero and needs_labelled:
            labelled.open()
        trainer.strategy.barrier("query starts")
        table = self._score_pool(trainer, module, datamodule, units, directory, shards)
        if isinstance(self.selection, BatchSelection) and needs_labelled:
            # their scores are not looked at
            describe = Scorer(Random(), features=self.selection.needs)
            self._score_units(
                trainer, module, datamodule, datamodule.labelled_units, cycle, labelled, describe, 0, False
            )
            trainer.strategy.barrier("labelled units are described")
        # the first process removes what the others may still be reading
        trainer.strategy.barrier("scores are read")
        if trainer.is_global_zero:
            self._choose(datamodule, units, table, directory, shards, labelled)
        trainer.strategy.barrier("units are labelled")

    def _fingerprint(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        units: Sequence[Unit],
        cycle: int,
    ) -> str:
        """Of everything that the scores of these units depend on."""
        scorer = self.scorer
        return query_fingerprint(
            module.network,  # type: ignore[arg-type]
            scorer, datamodule.view(units, scorer.reads_truth), datamodule.seed, cycle, trainer.precision,
            getattr(module, "memory_format", None), self.race, self.budget, self.budget_pixels,
            files=scorer.checkpoints(cycle),
        )  # fmt: skip

    def _score_pool(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        units: Sequence[Unit],
        directory: CycleDirectory,
        shards: Shards,
    ) -> pd.DataFrame:
        """unit_id, score and tier (0 for sure in, 1 open, 2 and more surely out), the same table in every process.

        Without a race there is one round and one tier.
        """
        cycle, total = directory.number, self.scorer.num_samples
        rounds = [total] if self.race is None else self.race.rounds(total)
        budget, picks, spent, risk = Budget(self.budget, self.budget_pixels), 0, 0, 0.0
        open_units, parts = list(units), list[pd.DataFrame]()
        for samples in rounds:
            # nobody decides by spread in the last round
            spread = samples < total
            self._score_units(trainer, module, datamodule, open_units, cycle, shards, self.scorer, samples, spread)
            trainer.strategy.barrier(f"scored with {samples} samples")
            table = shards.table(samples, [u.unit_id for u in open_units])
            spent += samples * len(open_units)
            if self.race is None:
                parts.append(table.assign(tier=1))
                break
            # whoever was refused later came closer to the cut
            refused = 2 + total - samples
            sizes = self._sizes(datamodule, open_units)
            if not budget.pays(sorted(sizes)):
                parts.append(table.assign(tier=refused))
                break
            order = rank_units(table["unit_id"].tolist(), table["score"].tolist(), datamodule.seed)
            paid = budget.pays([sizes[i] for i in order])
            if samples == total:
                picks += paid
                parts.append(table.assign(tier=1))
                break
            result = decide(table["score"], table["spread"], paid, samples, total, self.race.confidence, _RACE_GROUPS)
            parts.append(table.iloc[result.chosen].assign(tier=0))
            parts.append(table.iloc[result.refused].assign(tier=refused))
            budget = budget.without([sizes[i] for i in result.chosen])
            picks, risk = picks + len(result.chosen), risk + result.risk
            open_units = [open_units[i] for i in result.undecided]
            if not open_units:
                break
        if self.race is not None and trainer.is_global_zero:
            full = total * len(units)
            report = {"samples": spent, "samples_without_race": full, "expected_wrong_picks": risk}
            write_json(directory.race, report)
            rank_zero_info(
                f"Race: {spent} MC samples instead of {full} ({spent / full:.0%}); expected wrong picks {risk:.2f} of "
                f"{picks}"
            )
        # the pool's own order, so that how many processes shared it leaves no trace
        return pd.concat(parts).set_index("unit_id").loc[[u.unit_id for u in units]].reset_index()

    def _score_units(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        units: Sequence[Unit],
        cycle: int,
        shards: Shards,
        scorer: Scorer,
        samples: int,
        with_spread: bool,
    ) -> None:
        """This process's share of what nobody has scored yet, written down every half minute."""
        done = set(shards.table(samples)["unit_id"])
        # nobody may add a table before everybody has seen what is missing
        trainer.strategy.barrier(f"shares with {samples} samples")
        left = [u for u in units if u.unit_id not in done]
        unsaved = _Unsaved(shards, samples, Gallery(self.pictures))
        for batch in self._batches(trainer, datamodule, left, scorer, samples):
            with trainer.precision_plugin.forward_context():
                scored = scorer(
                    module.network,  # type: ignore[arg-type]
                    _images(module, batch), Regions.whole(batch["unit_id"]), datamodule.seed, cycle, samples,
                    _RACE_GROUPS if with_spread else 1, _truth(batch) if scorer.reads_truth else None,
                )  # fmt: skip
            unsaved.add(batch, scored)
        unsaved.flush()

    def _batches(
        self, trainer: pl.Trainer, datamodule: PoolDataModule, units: Sequence[Unit], scorer: Scorer, samples: int
    ) -> Iterator[dict[str, Any]]:
        """Batches of this process's share, under a bar that counts units; ids alone if that is all it takes."""
        if not scorer.needs_network:
            mine = units[trainer.global_rank :: trainer.world_size]
            yield {"unit_id": [u.unit_id for u in mine]}
            return
        loader = datamodule.truth_dataloader(units) if scorer.reads_truth else datamodule.pool_dataloader(units)
        total = len(loader.dataset)  # type: ignore[arg-type]
        name = f"query T={samples}" if scorer.draws_samples and not scorer.ensemble else "query"
        # a log file gets a line now and then instead of a moving bar
        often = 0.1 if sys.stderr.isatty() else 10
        with tqdm(total=total, desc=name, unit="unit", mininterval=often, disable=not trainer.is_global_zero) as bar:
            for batch in loader:
                yield batch
                bar.update(len(batch["unit_id"]))

    def _choose(
        self,
        datamodule: PoolDataModule,
        units: Sequence[Unit],
        table: pd.DataFrame,
        directory: CycleDirectory,
        shards: Shards,
        labelled: Shards,
    ) -> None:
        cycle = directory.number
        order = self._order(datamodule, table, cycle, shards, labelled)
        table = table.iloc[order].sort_values("tier", kind="stable", ignore_index=True).drop(columns="tier")
        table["rank"] = np.arange(1, len(table) + 1)
        by_id = {u.unit_id: u for u in units}
        taken = self._within_budget(datamodule, [by_id[i] for i in table["unit_id"]])
        table["selected"] = table["rank"] <= taken
        directory.write_scores(table)
        selected = table[table["selected"]]
        directory.write_queried(_platform_table(selected, by_id))
        self._draw(datamodule, table, directory.maps, shards)
        chosen = [Queried(r.unit_id, float(r.score), int(r.rank)) for r in selected.itertuples()]
        waiting = datamodule.ask(chosen, self.strategy)
        shards.remove()
        note = f"; {len(waiting)} wait: {datamodule.oracle.instructions()}" if waiting else ""
        left = "" if len(table) > taken else f" (all that was left; the budget is {self.budget})"
        rank_zero_info(f"Cycle {cycle}: queried {taken} of {len(table)} units{left} by {self.strategy}{note}")

    def _order(
        self, datamodule: PoolDataModule, table: pd.DataFrame, cycle: int, shards: Shards, labelled: Shards
    ) -> list[int]:
        unit_ids, scores = table["unit_id"].tolist(), table["score"].tolist()
        if not isinstance(self.selection, BatchSelection):
            return self.selection.order(unit_ids, scores, datamodule.seed, cycle)

        def features(feature: Feature, names: Sequence[str]) -> np.ndarray:
            return shards.features(self.scorer.num_samples, feature, names)

        centres: dict[Feature, np.ndarray] = {}
        if self.selection.needs_labelled:
            names = datamodule.ledger.labelled()
            for feature in self.selection.needs:
                if names:
                    centres[feature] = labelled.features(0, feature, names)
                else:  # no centres, as wide as a unit's features
                    centres[feature] = np.array(features(feature, unit_ids[:1])[:0])
        return self.selection.order_by_features(
            unit_ids, scores, datamodule.seed, cycle, self.budget, features, centres
        )

    def _within_budget(self, datamodule: PoolDataModule, ranked: Sequence[Unit]) -> int:
        sizes = self._sizes(datamodule, ranked[: self.budget])
        taken = Budget(self.budget, self.budget_pixels).pays(sizes)
        if not taken:
            raise ValueError(
                f"strategy.budget_pixels must pay for at least one unit, got {self.budget_pixels} where "
                f"{ranked[0].unit_id!r} has {sizes[0]} pixels; raise it"
            )
        return taken

    def _check_budget(self, datamodule: PoolDataModule) -> None:
        """Refuse a budget that does not pay for every unit of the pool: after the fit it could not be raised."""
        largest = max(self._sizes(datamodule, datamodule.pool), default=0)
        if self.budget_pixels is not None and largest > self.budget_pixels:
            raise ValueError(
                f"strategy.budget_pixels must pay for at least one unit, whichever it is: expected {largest} or more, "
                f"got {self.budget_pixels}"
            )

    def _sizes(self, datamodule: PoolDataModule, units: Sequence[Unit]) -> list[int]:
        """Pixels of each unit; ones where nobody counts them, for that takes a look at every file."""
        return [1 if self.budget_pixels is None else int(np.prod(datamodule.size(u))) for u in units]

    def _draw(self, datamodule: PoolDataModule, table: pd.DataFrame, maps: Path, shards: Shards) -> None:
        saved = dict(saved_samples(shards.folder))
        draw_ends(maps, table, saved, self.pictures, self.scorer.acquisition.name, datamodule)


def _platform_table(selected: pd.DataFrame, units: dict[str, Unit]) -> pd.DataFrame:
    """Name and priority first: what annotation platforms read; priority falls from 1 towards 0 with the rank.

    Text that a spreadsheet would run as a formula has an apostrophe before it (see `datamodules.texts.shielded`).
    """
    paths = [units[i].image for i in selected["unit_id"]]
    return pd.DataFrame(
        {
            "name": [shielded(p.name if p else i) for p, i in zip(paths, selected["unit_id"], strict=True)],
            "priority": 1 - (selected["rank"] - 1) / max(len(selected), 1),
            "unit_id": selected["unit_id"].map(shielded),
            "rank": selected["rank"],
            "score": selected["score"],
            "path": [shielded(str(p or "")) for p in paths],
        }
    )


def _images(module: pl.LightningModule, batch: dict[str, Any]) -> torch.Tensor:
    """A batch's images where the module is and as it likes them; none where no image was read."""
    images: torch.Tensor = batch.get("image", torch.empty(0)).to(module.device)
    if images.ndim != 4:
        return images
    return images.to(memory_format=getattr(module, "memory_format", torch.contiguous_format))


def _truth(batch: dict[str, Any]) -> torch.Tensor | None:
    """A batch's masks or classes, where the loader read them."""
    return batch.get("mask", batch.get("label"))


class _Unsaved:
    """What has been scored and not written down yet; writes every half minute, or when features grow large."""

    def __init__(self, shards: Shards, samples: int, gallery: Gallery) -> None:
        self.shards, self.samples, self.gallery = shards, samples, gallery
        self._rows: list[tuple[str, float, float]] = []
        self._features: list[dict[str, np.ndarray]] = []
        self._written = time.monotonic()

    def add(self, batch: dict[str, Any], scored: Scored) -> None:
        self.gallery.offer(batch, scored)
        spreads = scored.spreads if scored.spreads is not None else torch.zeros(len(scored.scores))
        self._rows += zip(batch["unit_id"], scored.scores.tolist(), spreads.tolist(), strict=True)
        if scored.features:
            self._features.append({str(f): x.float().cpu().numpy() for f, x in scored.features.items()})
        size = sum(x.nbytes for part in self._features for x in part.values())
        if time.monotonic() - self._written > _FLUSH_SECONDS or size > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows down and forget them."""
        if self._rows:
            self.gallery.save(self.shards.folder)
            names = self._features[0] if self._features else ()
            features = {n: np.concatenate([part[n] for part in self._features]) for n in names}
            unit_ids, scores, spreads = (list(column) for column in zip(*self._rows, strict=True))
            self.shards.add(self.samples, unit_ids, scores, spreads, features)
            self._rows.clear()
            self._features.clear()
        self._written = time.monotonic()
