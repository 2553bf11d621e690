"""A Trainer with the verbs that need a model, beside Lightning's own."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader, IterableDataset

from acquisition.checks import Check, require
from callbacks.pixels import PixelWriter
from callbacks.query import QueryCallback
from datamodules.datamodule import PoolDataModule
from pipelines.difficulty import predict_images, write_images_table
from pipelines.ensemble import Members, member_jobs, several_annotators
from pipelines.jobs import Outcome, run_jobs
from pipelines.start import Start, begin
from pipelines.start_list import Spread
from pipelines.suspect_ranking import check_samples, rank_suspects
from pipelines.suspects import Suspicion, fold_jobs
from records.run_directory import RunDirectory

__all__ = ["QueryTrainer"]


class QueryTrainer(pl.Trainer):
    """Lightning's Trainer with the verbs `start`, `query`, `pixels`, `ensemble`, `difficulty` and `suspects`."""

    def query(
        self,
        model: pl.LightningModule,
        datamodule: PoolDataModule,
        ckpt_path: str | None = None,
        doctor: bool = False,
    ) -> None:
        """Score the pool with a trained network and write the ranked list, without training.

        Args:
            model: The module whose network scores.
            datamodule: Whose pool is scored; units that the oracle answers at once are labelled.
            ckpt_path: Weights to score with.
            doctor: Print a table of checks of network and pool instead of scoring.

        """
        callback = next((c for c in self.callbacks if isinstance(c, QueryCallback)), None)  # type: ignore[attr-defined]
        if callback is None:
            raise ValueError("query needs a QueryCallback among the trainer's callbacks, got none; add one")
        self._at_predict_start(_QueryAtPredictStart(callback, datamodule, doctor), model, ckpt_path)

    def start(
        self,
        model: pl.LightningModule,
        datamodule: PoolDataModule,
        count: int | None = None,
        val_count: int | None = None,
        spread: Spread = "content",
        candidates: int = 5000,
        weights: str = "weights as they are",
    ) -> Start:
        """Say what a data set holds, and write the list of what to draw before the first fit.

        Args:
            model: The module whose encoder says what images show.
            datamodule: The data set, and who labels. Nothing is labelled by this.
            count: How many units there should be to train on, those that are drawn already included; as many as
                data.initial wants unless given, or else strategy.budget.
            val_count: How many images there should be to validate on, those that are drawn already included; one for
                every four to train on unless given, and at least 5.
            spread: "content" takes the unit farthest from all that are drawn or listed, by the encoder's features
                (k-center); "random" takes any. What an earlier list names stays on it.
            candidates: The most images for training that are looked at, drawn at random.
            weights: What is said of the network's weights.

        """
        asked = next((c for c in self.callbacks if isinstance(c, QueryCallback)), None)  # type: ignore[attr-defined]
        budget = 10 if asked is None else asked.allowance.units
        device = self.strategy.root_device
        return begin(model, datamodule, device, budget, count, val_count, spread, candidates, weights)

    def pixels(
        self,
        model: pl.LightningModule,
        datamodule: PoolDataModule,
        ckpt_path: str | None = None,
        image: str | None = None,
    ) -> None:
        """Write the logits and ODIN values of one image, for analyse to draw (Chen 2020, figures 2.4 and 2.13).

        Args:
            model: The module whose network is asked.
            datamodule: Whose image it is.
            ckpt_path: Weights to ask.
            image: Id of an image of the train split; that of the pool with the lowest mean entropy unless given.

        """
        self._at_predict_start(PixelWriter(datamodule, image), model, ckpt_path)

    def ensemble(
        self, model: pl.LightningModule, datamodule: PoolDataModule, members: Members, group: str | None = None
    ) -> list[Outcome]:
        """Train one network per annotator and fold, side by side; what is finished is not trained again.

        Args:
            model: The module that every member is made like.
            datamodule: Whose annotators and folds they are.
            members: Which networks, and how many at once.
            group: Of their W&B runs; the run directory's name unless given.

        """
        run_dir = Path(self.default_root_dir)
        jobs = member_jobs(run_dir, members, several_annotators(datamodule), group)
        return run_jobs(jobs, RunDirectory(run_dir).member_logs, members.at_once, members.retries)

    def difficulty(self, model: pl.LightningModule, datamodule: PoolDataModule, members: Members) -> pd.DataFrame:
        """Compare what the ensemble and one network's MC dropout predict with people's disagreement.

        Args:
            model: The module that the members were made like.
            datamodule: Whose images are predicted, each by networks that did not train on it.
            members: Which networks, and how they predict.

        """
        run_dir = Path(self.default_root_dir)
        predict_images(run_dir, members, model, datamodule, self.strategy.root_device)
        return write_images_table(run_dir, members, datamodule)

    def suspects(
        self,
        model: pl.LightningModule,
        datamodule: PoolDataModule,
        suspicion: Suspicion,
        settings: str,
        may_change: tuple[str, ...] = (),
    ) -> list[Outcome]:
        """Rank labelled units by how likely their labels are wrong, and write tables and pictures of them.

        Each is judged by a network that has not learned from it; fits that are done are not done again. Where a fit
        failed, nothing is ranked.

        Args:
            model: The module that the networks are made like.
            datamodule: Whose labelled units are judged.
            suspicion: How.
            settings: The run's as YAML, for the fits.
            may_change: Settings on which a fit does not depend.

        """
        check_samples(suspicion, model, datamodule)
        jobs = fold_jobs(datamodule, suspicion, settings, may_change)
        run_dir = RunDirectory(datamodule.pool.run_dir)
        outcomes = run_jobs(jobs, run_dir.suspects, suspicion.at_once, suspicion.retries)
        if all(outcome.state != "failed" for outcome in outcomes):
            rank_suspects(datamodule, suspicion, model, self.strategy.root_device)
        return outcomes

    def _at_predict_start(self, start: Callback, model: pl.LightningModule, ckpt_path: str | None) -> None:
        """Lightning's predict brings devices, processes and weights; what is done is one of its hooks."""
        self.callbacks.append(start)  # type: ignore[attr-defined]
        try:
            self.predict(model, DataLoader(_Nothing()), ckpt_path=ckpt_path, return_predictions=False)
        finally:
            self.callbacks.remove(start)  # type: ignore[attr-defined]


class _QueryAtPredictStart(Callback):
    def __init__(self, callback: QueryCallback, datamodule: PoolDataModule, doctor: bool) -> None:
        self.callback = callback
        self.datamodule = datamodule
        self.doctor = doctor

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.datamodule.trainer = trainer
        if not self.doctor:
            self.callback.query(trainer, pl_module, self.datamodule)
            pool = self.datamodule.pool
            if pool.ledger.waiting(pool.ledger.cycle):
                rank_zero_info(f"Next: {pool.oracle.instructions()}, then fit in the same run directory.")
            return
        checks = self.callback.examine(trainer, pl_module, self.datamodule)
        if trainer.is_global_zero:
            print(_doctor_table(checks) or "Nothing to check: this strategy asks no network, or the pool is empty.")
        require(checks)


def _doctor_table(checks: Sequence[Check]) -> str:
    width = max((len(c.name) for c in checks), default=0)
    return "\n".join(
        f"{'ok  ' if c.passed else 'FAIL'}  {c.name:<{width}}  {c.found}{'' if c.passed else f'; {c.remedy}'}"
        for c in checks
    )


class _Nothing(IterableDataset[Any]):
    """No batches, but of a length that Lightning does not know: a loader of length 0 would skip the hooks."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())
