"""What every fit of an active-learning cycle leaves behind, and what makes it repeatable."""

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info

from acquisition.seeding import derive_seed
from datamodules.files import replacing, write_json
from datamodules.pool import PoolDataModule

__all__ = ["BEST", "LAST", "METRICS", "CycleMetrics", "StepSeed", "WholeCheckpoints", "cycle_checkpoint", "log_row"]

BEST, LAST, METRICS = "best.ckpt", "last.ckpt", "metrics.json"


def cycle_checkpoint(cycle_dir: Path, monitor: str) -> ModelCheckpoint:
    """Keep the weights of the best validation as best.ckpt and everything needed to go on as last.ckpt."""
    return ModelCheckpoint(
        cycle_dir, filename=Path(BEST).stem, monitor=monitor, mode="max", save_last=True, enable_version_counter=False
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning's own are written to the system's temporary folder and moved, which is a copy, and can be cut short by a
    kill, where that folder is on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as beside:
            beside.write_bytes(buffer.getbuffer())


def log_row(loggers: Iterable[Logger], row: dict[str, Any]) -> None:
    """Send a row of the learning curve, as metrics.json holds it, to loggers."""
    scores = {k.removeprefix("val/"): v for k, v in row.items() if k.startswith("val/")}
    labelled = {k: row[k] for k in ("cycle", "labelled_units", "labelled_pixels")}
    for logger in loggers:
        logger.log_metrics(
            labelled
            | {f"curve/{k}": v for k, v in scores.items()}
            | {f"curve_by_pixels/{k}": v for k, v in scores.items()}
        )


class StepSeed(Callback):
    """Seeds torch by (seed, cycle, epoch, batch, process): a step's dropout is the same in a fit that was resumed.

    Per step and not per epoch, because loaders and validation draw from the same generator in between.
    """

    def __init__(self, seed: int, cycle: int) -> None:
        self.key = (seed, cycle)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(derive_seed(*self.key, trainer.current_epoch, batch_idx, trainer.global_rank))


class CycleMetrics(Callback):
    """Writes metrics.json when a fit ends: the labels it had, the scores of its best validation, and by which.

    The file is written last, so where it exists the fit is done. Loggers get the same row, over labelled units
    (curve/NAME) and over labelled pixels (curve_by_pixels/NAME).
    """

    def __init__(self, cycle_dir: Path, cycle: int, monitor: str) -> None:
        self.path = cycle_dir / METRICS
        self.cycle = cycle
        self.monitor = monitor
        self.best: dict[str, float] = {}
        self.labelled: dict[str, int] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        ledger = _pool(trainer).ledger
        self.labelled = {"labelled_units": len(ledger.labelled()), "labelled_pixels": ledger.labelled_pixels()}

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        # a class that is in neither truth nor prediction has no score
        scores = {k: v for k, v in scores.items() if not math.isnan(v) or k == self.monitor}
        # strictly better, as the checkpoint keeps the first of equals
        if not self.best or scores[self.monitor] > self.best[self.monitor]:
            self.best = {"epoch": trainer.current_epoch, **scores}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.best:
            raise ValueError(
                f"the fit ended without a validation, so there is no {self.monitor} to keep; expected "
                "trainer.max_epochs of at least 1 and trainer.check_val_every_n_epoch no larger than it"
            )
        row = {"cycle": self.cycle, **self.labelled, **self.best, "monitor": self.monitor}
        log_row(trainer.loggers, row)
        if trainer.is_global_zero:
            write_json(self.path, row)
        rank_zero_info(
            f"Cycle {self.cycle}: {self.monitor} {self.best[self.monitor]:.4f} at epoch {self.best['epoch']}"
        )


def _pool(trainer: pl.Trainer) -> PoolDataModule:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, PoolDataModule):
        raise TypeError(
            f"active learning needs a PoolDataModule, got {type(datamodule).__name__}; pass one to the trainer"
        )
    return datamodule
