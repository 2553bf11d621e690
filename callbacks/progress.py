"""How far a fit is, in a small file that whoever watches several fits can read."""

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

__all__ = ["Progress", "ProgressFile", "read_progress"]


@dataclass(frozen=True)
class Progress:
    """Optimiser steps done in cycle `cycle` (from 0) of `cycles`; steps: of that cycle, None where nobody knows."""

    cycle: int
    cycles: int
    step: int
    steps: int | None


class ProgressFile(Callback):
    """Keeps RUN_DIR/progress.json up to date, at most every `every` seconds and at the fit's start and end."""

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
            total = trainer.estimated_stepping_batches
            steps = int(total) if math.isfinite(total) and total > 0 else None
            write_json(self.path, asdict(Progress(self.cycle, self.cycles, trainer.global_step, steps)))


def read_progress(run_dir: Path) -> Progress | None:
    """What a fit wrote last; None where it has written nothing, or where another version wrote it."""
    try:
        return Progress(**json.loads(RunDirectory(run_dir).progress.read_text()))
    except (OSError, ValueError, TypeError):
        return None
