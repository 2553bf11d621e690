"""Progress of a fit, in a small file for a process that watches several fits."""

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from records.files import write_json
from records.run_directory import RunDirectory

__all__ = ["Progress", "ProgressFile", "progress_of", "read_progress"]


@dataclass(frozen=True)
class Progress:
    """The state of a running fit.

    Args:
        cycle: Its cycle, from 0.
        cycles: Number of cycles of the run.
        step: Optimizer steps done in this cycle.
        steps: Optimizer steps of this cycle in all, or None if unknown.
    """

    cycle: int
    cycles: int
    step: int
    steps: int | None


def progress_of(trainer: pl.Trainer, cycle: int, cycles: int) -> Progress:
    """How far a trainer's fit is.

    Args:
        trainer: The trainer.
        cycle: The fit's cycle, from 0.
        cycles: Number of cycles of the run.
    """
    total = trainer.estimated_stepping_batches
    steps = int(total) if math.isfinite(total) and total > 0 else None
    return Progress(cycle, cycles, trainer.global_step, steps)


class ProgressFile(Callback):
    """Keeps the run directory's progress.json up to date during a fit, and at its start and end.

    Args:
        run_dir: The run directory.
        cycle: The fit's cycle, from 0.
        cycles: Number of cycles of the run.
        every: Seconds between two updates at least.
    """

    def __init__(self, run_dir: Path, cycle: int, cycles: int, every: float = 2.0) -> None:
        self.path = RunDirectory(run_dir).progress
        self.cycle = cycle
        self.cycles = cycles
        self.every = every
        self._written = -math.inf

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self._written >= self.every:
            self._write(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: pl.Trainer) -> None:
        self._written = time.monotonic()
        if trainer.is_global_zero:
            write_json(self.path, asdict(progress_of(trainer, self.cycle, self.cycles)))


def read_progress(run_dir: Path) -> Progress | None:
    """Read a run's progress; None if there is none, or another version of dropquery wrote it."""
    try:
        return Progress(**json.loads(RunDirectory(run_dir).progress.read_text()))
    except (OSError, ValueError, TypeError):
        return None
