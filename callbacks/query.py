"""The query: score the pool, choose, label."""

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info

from acquisition.aggregation import Aggregation
from acquisition.batch import BatchSelection
from acquisition.checks import Check, require
from acquisition.doctor import examine_network
from acquisition.functions import Random
from acquisition.kinds import AcquisitionFunction
from acquisition.limits import Allowance, draw_candidates
from acquisition.predictors import MCDropout, Predictor
from acquisition.racing import Race, decide
from acquisition.regions import Regions
from acquisition.scorer import Scorer
from acquisition.selection import Selection, TopK, rank_units
from callbacks.batches import batch_images, batch_truth
from callbacks.choice import Chooser, named_scores
from callbacks.cycle import EveryFitQueries, FitEnd
from callbacks.fingerprint import query_fingerprint
from callbacks.gallery import Gallery, saved_samples
from callbacks.phases import label_line, query_line
from callbacks.pictures import draw_ends
from callbacks.progress_bar import phase_bar
from callbacks.routing import Routing, features_for
from callbacks.scored import LargestValue, ShardFeatures, Unsaved
from callbacks.shown import ShownUnits
from callbacks.strategy_checks import check_numbers, check_strategy
from datamodules.datamodule import PoolDataModule
from datamodules.doctor import examine_pool
from records.files import write_json
from records.run_directory import CycleDirectory, RunDirectory
from records.shards import Shards

__all__ = ["QueryCallback"]

_RACE_GROUPS = 4


class QueryCallback(Callback):
    """At the end of a fit, or of `query`, scores the pool, chooses the next units and has them labelled.

    A selection by features (`acquisition.batch`) has them written beside the scores while the pool is scored, and read
    as memory maps: 4 bytes x N x D on disk, twice while the batch is chosen, and not in memory.

    Writes into the cycle's folder: scores.parquet (unit_id, score, rank, selected), queried.csv and what lies beside it
    (`callbacks.handout`), maps/ and gallery/.

    Args:
        acquisition: What is uncertain.
        aggregation: How pixels become a score; the mean unless given.
        selection: Which scores are queried; the highest unless given.
        predictor: How the network is asked: MCDropout, or an Ensemble of trained networks.
        budget: Units per cycle; a pool that holds fewer is labelled whole.
        budget_pixels: Stop earlier, before the units chosen exceed so many pixels; None for no such limit.
        budget_objects: The same in newly labelled objects, where the oracle draws whole objects.
        budget_clicks: The same in clicks, where the oracle counts them.
        pictures: How many of the top and of the bottom units to draw into maps/.
        gallery: How many of the queried units get pictures in layers for the page (`callbacks.shown`), and as many
            drawn at random and with the lowest scores; None for all that are queried, 0 for none.
        race: Few samples for every unit, and the predictor's num_samples only for those near the budget's cut; None for
            as many everywhere. Needs TopK, an acquisition that draws samples and MCDropout.
        candidates: Score only so many units of the pool, drawn anew in each cycle, and query among them; None for all.
            Units are drawn, not images: where these are parts of images, few images are without one.
        scores_csv: Write scores.csv as well, with the columns name and this one, such as entropy_value; None for no
            such file.
        routing: Say in queried.csv what each unit needs, and why; None for neither.

    Raises:
        ValueError: If these do not go together.
    """

    def __init__(
        self,
        acquisition: AcquisitionFunction,
        aggregation: Aggregation | None = None,
        selection: Selection | None = None,
        predictor: Predictor = MCDropout(num_samples=10),  # noqa: B008 - a setting; here, command lines can change it
        budget: int = 10,
        budget_pixels: int | None = None,
        budget_objects: int | None = None,
        budget_clicks: int | None = None,
        pictures: int = 3,
        gallery: int | None = None,
        race: Race | None = None,
        candidates: int | None = None,
        scores_csv: str | None = None,
        routing: Routing | None = None,
    ) -> None:
        self.allowance = Allowance(budget, budget_pixels, budget_objects, budget_clicks)
        self.allowance.check()
        self.selection = selection or TopK()
        features = self.selection.needs if isinstance(self.selection, BatchSelection) else frozenset()
        self.scorer = Scorer(acquisition, aggregation, predictor, features | features_for(routing, race))
        check_numbers(pictures=pictures, gallery=gallery)
        check_strategy(self.scorer, self.selection, self.allowance, race, candidates, scores_csv)
        self.pictures = pictures
        self.shown = ShownUnits(self.scorer, gallery)
        self.race = race
        self.candidates = candidates
        self.scores_csv = scores_csv
        self.routing = routing
        self._fit_end: FitEnd = EveryFitQueries()
        self._swallowed: set[str] = set()

    @property
    def strategy(self) -> str:
        """Acquisition, aggregation and selection, as the ledger records them."""
        return f"{self.scorer.name}-{self.selection.name}"

    @property
    def chooser(self) -> Chooser:
        """What chooses among the scored units."""
        return Chooser(self.selection, self.allowance, self.strategy)

    def asking(self, fit_end: FitEnd) -> Self:
        """Let somebody else decide which fits end with a query.

        Args:
            fit_end: Who decides.

        Returns:
            The same strategy, which asks `fit_end`.

        """
        other = copy.copy(self)
        other._fit_end = fit_end
        return other

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a query that could not be answered, or a strategy that does not fit, before hours of training."""
        if self._fit_end.may_query:
            trainer.datamodule.pool.check_open()  # type: ignore[attr-defined]
            self.chooser.check(trainer.datamodule.pool)  # type: ignore[attr-defined]
            require(self.examine(trainer, pl_module, trainer.datamodule))  # type: ignore[attr-defined]

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Query with the best weights of the fit that just ended."""
        if not self._fit_end.may_query:
            return
        # every process reads what the others have written by now, and decides alike
        trainer.strategy.barrier("the fit's files are written")
        if not self._fit_end.queries():
            return
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        if best:
            state = torch.load(best, map_location=pl_module.device, weights_only=True)
            pl_module.load_state_dict(state["state_dict"])
        # by now Lightning has moved the module to the CPU
        before = pl_module.device
        pl_module.to(trainer.strategy.root_device)
        try:
            self.query(trainer, pl_module, trainer.datamodule)  # type: ignore[attr-defined]
        finally:
            pl_module.to(before)

    def examine(self, trainer: pl.Trainer, module: pl.LightningModule, datamodule: PoolDataModule) -> list[Check]:
        """The doctor's checks of network and pool; none where the network or the pool is not asked."""
        pool = datamodule.pool
        asked = pool.unlabelled[:2]
        if not asked or not self.scorer.needs_network:
            return []
        # every process looks at the same images, whatever its share of the pool
        images = [i for i in pool.units.images_of(asked) for _ in range(trainer.world_size)]
        loader = datamodule.pool_dataloader(images)
        batch = next(iter(datamodule.pool_dataloader(images, truth=True) if self.scorer.is_oracle else loader))
        regions = pool.units.regions(batch["image_id"], batch["index"], asked)
        with trainer.precision_plugin.forward_context():
            network: torch.nn.Module = module.network  # type: ignore[assignment]
            given, truth = batch_images(module, batch), batch_truth(batch)
            checks = examine_network(self.scorer, network, given, regions, pool.seed, pool.ledger.cycle, truth)
        # a fit may come before the query
        self.scorer.forget()
        checks += examine_pool(pool, loader, asked)
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
        began, pool = time.monotonic(), datamodule.pool
        # before the files of a query that waits for people are written over
        pool.check_open()
        self.chooser.check_counts(pool)
        cycle = pool.ledger.cycle
        directory = RunDirectory(pool.run_dir).cycle(cycle)
        unit_ids = draw_candidates(pool.unlabelled, self.candidates, pool.seed, cycle)
        if not unit_ids:
            rank_zero_info("The pool is empty: nothing to query.")
            return
        require(self.examine(trainer, module, datamodule))
        needs_labelled = isinstance(self.selection, BatchSelection) and self.selection.needs_labelled
        seen = [*unit_ids, *(pool.labelled if needs_labelled else ())]
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
        table = self._score_pool(trainer, module, datamodule, unit_ids, directory, shards)
        if isinstance(self.selection, BatchSelection) and needs_labelled:
            # their scores are not looked at
            describe = Scorer(Random(), features=self.selection.needs)
            self._score_units(trainer, module, datamodule, pool.labelled, cycle, labelled, describe, 0, False)
            trainer.strategy.barrier("labelled units are described")
        # the first process removes what the others may still be reading
        trainer.strategy.barrier("scores are read")
        if self._swallowed:
            rank_zero_info(
                f"{len(self._swallowed)} units, {min(self._swallowed)!r} first, have no pixel left at data.image_size: "
                "scored at the nearest one, they train nothing; raise data.image_size, or take larger units"
            )
            self._swallowed.clear()
        if trainer.is_global_zero:
            features = ShardFeatures(self.scorer.num_samples, shards, labelled)
            rank_zero_info(query_line(cycle, len(table), self.candidates, self.strategy, time.monotonic() - began))
            ranked = self._choose(datamodule, table, directory, features)
        trainer.strategy.barrier("the choice is written")
        self.shown.draw(trainer, module, datamodule, directory, shards)
        if trainer.is_global_zero:
            self._ask(datamodule, ranked, directory, features)
        trainer.strategy.barrier("units are labelled")

    def _fingerprint(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        unit_ids: Sequence[str],
        cycle: int,
    ) -> str:
        """Of everything that the scores of these units depend on."""
        scorer = self.scorer
        return query_fingerprint(
            module.network,  # type: ignore[arg-type]
            scorer, datamodule.view(unit_ids, scorer.reads_truth), datamodule.seed, cycle, trainer.precision,
            getattr(module, "memory_format", None), self.race, self.race and self.allowance, self.candidates,
            files=scorer.checkpoints(cycle),
        )  # fmt: skip

    def _score_pool(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        unit_ids: Sequence[str],
        directory: CycleDirectory,
        shards: Shards,
    ) -> pd.DataFrame:
        """unit_id, score and tier (0 for sure in, 1 open, 2 and more surely out), the same table in every process.

        Without a race there is one round and one tier.
        """
        cycle, total = directory.number, self.scorer.num_samples
        rounds = [total] if self.race is None else self.race.rounds(total)
        budget, picks, spent, risk = self.allowance, 0, 0, 0.0
        open_units, parts = list(unit_ids), list[pd.DataFrame]()
        for samples in rounds:
            # nobody decides by spread in the last round
            spread = samples < total
            self._score_units(trainer, module, datamodule, open_units, cycle, shards, self.scorer, samples, spread)
            trainer.strategy.barrier(f"scored with {samples} samples")
            table = shards.table(samples, open_units)
            spent += samples * len(open_units)
            if self.race is None:
                parts.append(table.assign(tier=1))
                break
            # whoever was refused later came closer to the cut
            refused = 2 + total - samples
            sizes = self.chooser.sizes(datamodule.pool, open_units)
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
            full = total * len(unit_ids)
            report = {"samples": spent, "samples_without_race": full, "expected_wrong_picks": risk}
            write_json(directory.race, report)
            rank_zero_info(
                f"Race: {spent} MC samples instead of {full} ({spent / full:.0%}); expected wrong picks {risk:.2f} of "
                f"{picks}"
            )
        # the pool's own order, so that how many processes shared it leaves no trace
        return pd.concat(parts).set_index("unit_id").loc[list(unit_ids)].reset_index()

    def _score_units(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        datamodule: PoolDataModule,
        unit_ids: Sequence[str],
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
        left = [u for u in unit_ids if u not in done]
        unsaved = Unsaved(shards, samples, Gallery(self.pictures), LargestValue(shards.folder))
        for batch, regions in self._batches(trainer, datamodule, left, scorer, samples):
            with trainer.precision_plugin.forward_context():
                scored = scorer(
                    module.network,  # type: ignore[arg-type]
                    batch_images(module, batch), regions, datamodule.seed, cycle, samples,
                    _RACE_GROUPS if with_spread else 1, batch_truth(batch) if scorer.reads_truth else None,
                )  # fmt: skip
            unsaved.add(batch, regions, scored)
        unsaved.flush()

    def _batches(
        self, trainer: pl.Trainer, datamodule: PoolDataModule, unit_ids: Sequence[str], scorer: Scorer, samples: int
    ) -> Iterator[tuple[dict[str, Any], Regions]]:
        """Batches of this process's share of the images, each with the units there that are asked for, under a bar that
        counts those; where no image has to be read, this process's share of the units alone.
        """
        pool = datamodule.pool
        if not scorer.needs_network:
            yield {}, Regions.whole(unit_ids[trainer.global_rank :: trainer.world_size])
            return
        loader = datamodule.pool_dataloader(pool.units.images_of(unit_ids), truth=scorer.reads_truth)
        asked, mine = set(unit_ids), set(loader.dataset.image_ids)  # type: ignore[attr-defined]
        total = sum(pool.units.image_of(u) in mine for u in unit_ids)
        name = f"query T={samples}" if scorer.draws_samples and samples else "query"
        with phase_bar(trainer, total, f"Cycle {pool.ledger.cycle} {name}") as bar:
            for batch in loader:
                regions = pool.units.regions(batch["image_id"], batch["index"], asked)
                self._swallowed.update(regions.swallowed)
                yield batch, regions
                bar.update(len(regions.unit_ids))

    def _choose(
        self, datamodule: PoolDataModule, table: pd.DataFrame, directory: CycleDirectory, features: ShardFeatures
    ) -> pd.DataFrame:
        """The ranked pool, written down, with the pictures of its ends."""
        pool = datamodule.pool
        table = self.chooser.choose(pool, table, directory.number, features)
        directory.write_scores(table)
        if self.scores_csv is not None:
            directory.write_scores_csv(named_scores(pool, table, self.scores_csv))
        saved = dict(saved_samples(features.shards.folder))
        draw_ends(directory.maps, table, saved, self.pictures, self.scorer.acquisition.value_name, datamodule)
        return table

    def _ask(
        self, datamodule: PoolDataModule, table: pd.DataFrame, directory: CycleDirectory, features: ShardFeatures
    ) -> None:
        chooser, pool, cycle = self.chooser, datamodule.pool, directory.number
        routed = self.routing and self.routing.columns(pool, table, features)
        waiting, taken = chooser.ask(pool, directory, table, routed), int(table["selected"].sum())
        left = len(table) == taken and len(table) != self.candidates
        rank_zero_info(label_line(cycle, taken, len(waiting), self.allowance.units if left else None))
