"""Fits of one run by a Lightning trainer, one after another."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info

from callbacks.cycle import began_with_other_labels, load_weights
from callbacks.processes import is_first_process
from pipelines.cycles import Experiment, Run, Turn
from pipelines.initial_models import experiment_key, sharing_initial_model, takes_initial_run
from pipelines.trainer import QueryTrainer
from records.run_directory import CycleDirectory

__all__ = ["LightningFitter"]


@dataclass(frozen=True)
class LightningFitter:
    """Fits with the trainer that comes with each cycle's experiment; the query is a callback at the fit's end.

    Args:
        warm_start: Start from the weights of the last fitted cycle before, if there is one.
        initial_models: Where strategies that share `settings` keep their common initial model.
        settings: Everything that the first fit depends on.
    """

    warm_start: bool = False
    initial_models: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def guard(self, run: Run) -> AbstractContextManager[None]:
        """Let a mistake end the program."""
        return nullcontext()

    def make(self, run: Run, cycle: int, last: bool) -> Experiment:
        """Make everything afresh."""
        return run.make(cycle, last)

    def fit(self, turns: Sequence[Turn[Run]]) -> None:
        """Fit, from last.ckpt if there is one, and query; only query with best.ckpt where the fit is done."""
        for turn in turns:
            trainer = turn.experiment.trainer
            assert trainer is not None
            if is_first_process():
                takes_initial_run(turn)
            with sharing_initial_model(self._shared(turn), turn.directory, trainer):
                fitted = turn.directory.is_fitted
                if not fitted:
                    self._fit(turn, trainer)
            if fitted and turn.experiment.end.queries():
                trainer.query(turn.experiment.module, turn.experiment.datamodule, ckpt_path=str(turn.directory.best))

    def _shared(self, turn: Turn[Run]) -> CycleDirectory | None:
        if self.initial_models is None or turn.directory.number or not is_first_process():
            return None
        labelled = turn.experiment.datamodule.pool.ledger.training()
        return CycleDirectory(self.initial_models / experiment_key(self.settings, labelled))

    def _fit(self, turn: Turn[Run], trainer: QueryTrainer) -> None:
        directory, experiment = turn.directory, turn.experiment
        # a query without a fit leaves a cycle without weights
        fitted = [before for number in range(directory.number) if (before := turn.run.cycle(number)).is_fitted]
        if self.warm_start and fitted:
            load_weights(experiment.module, fitted[-1].best, "put a whole copy back, or start another --run_dir")
        ledger = experiment.datamodule.pool.ledger
        # without the best weights so far, only a new fit can find them again
        resumed = directory.best.is_file() and directory.last.is_file()
        if resumed and began_with_other_labels(directory.last, ledger):
            rank_zero_info(f"Cycle {directory.number}: what is labelled has changed since its fit began: fitting anew")
            resumed = False
        ckpt_path = str(directory.last) if resumed else None
        trainer.fit(experiment.module, experiment.datamodule, ckpt_path=ckpt_path)
        if trainer.interrupted:
            raise KeyboardInterrupt
