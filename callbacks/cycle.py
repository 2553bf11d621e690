"""What every fit of an active-learning cycle leaves behind, and what makes it repeatable."""

import io
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from acquisition.seeding import derive_seed
from callbacks.labelled_classes import labelled_classes, write_labelled_classes
from datamodules.datamodule import PoolDataModule
from records.files import RunDirectoryError, replacing
from records.ledger import Ledger
from records.run_directory import CycleDirectory

__all__ = [
    "CycleCheckpoint",
    "CycleMetrics",
    "EveryFitQueries",
    "FitEnd",
    "StepSeed",
    "WholeCheckpoints",
    "began_with_other_labels",
    "label_counts",
    "load_weights",
    "log_row",
    "read_checkpoint",
    "record_copy",
    "record_fit",
    "write_checkpoint",
]


_LABELS = "labels"
"""What a fit began with, in its checkpoints; earlier versions did not say."""


class FitEnd(Protocol):
    """Says whether a fit ends with a query."""

    @property
    def may_query(self) -> bool:
        """Whether it may: known before the fit, so that a query that could not be answered is refused in time."""

    def queries(self) -> bool:
        """Whether it does: asked in every process once the fit's files are written, and answered alike."""


@dataclass(frozen=True)
class EveryFitQueries:
    """Every fit ends with a query: where nobody runs cycles, as in a plain `Trainer`."""

    may_query: bool = True

    def queries(self) -> bool:
        """Yes."""
        return True


def read_checkpoint(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        path: The file.
        remedy: What to do where it cannot be read; by default what helps with a file of this name.

    Returns:
        What was saved, tensors on the CPU.

    Raises:
        RunDirectoryError: If the file is no checkpoint.

    """
    remedy = remedy or _remedy(path)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    # torch raises what the reader of the day raises: RuntimeError, EOFError, struct.error, UnpicklingError, KeyError
    except Exception as error:
        raise RunDirectoryError(f"{path} is not a readable checkpoint ({type(error).__name__}); {remedy}") from error
    state = saved.get("state_dict") if isinstance(saved, dict) else None
    # what layers keep beside their tensors has this name in torch
    if not isinstance(state, dict) or any(
        not isinstance(v, Tensor) and not str(k).endswith("_extra_state") for k, v in state.items()
    ):
        raise RunDirectoryError(f"{path} is not a readable checkpoint (it holds no state_dict of tensors); {remedy}")
    return saved


def write_checkpoint(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: The file, which is replaced.
        checkpoint: What Lightning makes, or at least a state_dict of tensors.

    """
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    with replacing(path) as beside:
        beside.write_bytes(buffer.getbuffer())


def load_weights(module: pl.LightningModule, path: Path, remedy: str = "") -> None:
    """Give a module the weights of a checkpoint.

    Args:
        module: The module.
        path: The checkpoint.
        remedy: What to do where that cannot be done.

    Raises:
        RunDirectoryError: If the file is no checkpoint or has the weights of another network.

    """
    saved = read_checkpoint(path, remedy)
    try:
        module.load_state_dict(saved["state_dict"])
    except RuntimeError as error:
        raise RunDirectoryError(f"{path} holds the weights of another network; {remedy or _remedy(path)}") from error


def _remedy(path: Path) -> str:
    cycle = CycleDirectory(path.parent)
    if path == cycle.best:
        return (
            f"put a whole copy back, or delete it and its {cycle.metrics.name}, then start the same command again: the "
            "fit is made anew unless its cycle is closed"
        )
    if path == cycle.last:
        return "delete it, then start the same command again: the fit is made anew"
    return "give another file"


class CycleCheckpoint(ModelCheckpoint):
    """Keeps the weights of the best validation as best.ckpt and everything needed to go on as last.ckpt.

    last.ckpt is written after every validation and holds the final weights when training has ended. (Lightning's own is
    written only where a validation was the best so far, so a killed fit would go on from there.)

    Args:
        metrics: Says which validation is the best, and remembers it.
    """

    def __init__(self, metrics: "CycleMetrics") -> None:
        cycle = metrics.directory
        super().__init__(cycle.path, cycle.best.stem, save_on_train_epoch_end=False, enable_version_counter=False)
        self.metrics = metrics
        self.best_model_path = str(cycle.best)
        self._last_step = -1

    def state_dict(self) -> dict[str, Any]:
        # paths would be those of before a run directory was moved
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        # the best first: what last.ckpt says of it must be true when it is there
        if self.metrics.improved:
            self._save_checkpoint(trainer, self.best_model_path)
        self._save_last(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if trainer.global_step != self._last_step:
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.metrics.directory.last)
        self._last_step = trainer.global_step


def began_with_other_labels(last: Path, ledger: Ledger) -> bool:
    """Whether what is labelled has changed since a fit began, so that it cannot go on from where it was cut.

    Args:
        last: Its last.ckpt.
        ledger: What is labelled now.
    """
    state = read_checkpoint(last).get("callbacks", {}).get(CycleMetrics.__qualname__, {})
    return bool(state.get(_LABELS)) and state[_LABELS] != ledger.training_state()


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that are whole or not there.

    Lightning's own are written to the system's temporary folder and moved, which is a copy, and can be cut short by a
    kill, where that folder is on another file system.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        saved = read_checkpoint(Path(path))
        # stacks wrote it without content, and Lightning would look for each verb's loop there
        return saved if saved.get("loops") else {k: v for k, v in saved.items() if k != "loops"}


def record_fit(
    directory: CycleDirectory,
    labelled: dict[str, int],
    best: dict[str, float],
    last: dict[str, float],
    monitor: str,
    loggers: Iterable[Logger] = (),
    writes: bool = True,
) -> None:
    """Say that a fit is done, by its row of the learning curve, in metrics.json: the last file that a fit writes.

    The row has all scores of the best validation, and beside them, as last/epoch and last/NAME, what the last one
    scored by the monitor.

    Args:
        directory: The fit's cycle.
        labelled: What it was trained on (see `label_counts`).
        best: epoch and scores of the validation whose weights are kept, which by `monitor` is the best.
        last: epoch and scores of its last validation.
        monitor: The name of the score that says which validation is the best.
        loggers: Get the row as well (see `log_row`).
        writes: Whether this process writes the file.

    """
    beside = {f"last/{k}": last[k] for k in ("epoch", monitor) if k in last}
    row = {"cycle": directory.number, **labelled, **best, **beside, "monitor": monitor}
    log_row(loggers, row)
    if writes:
        directory.write_metrics(row)


def record_copy(directory: CycleDirectory, row: dict[str, Any], loggers: Iterable[Logger] = ()) -> None:
    """Say that a cycle's model is a copy of another one, whose weights are there by now.

    Args:
        directory: The cycle.
        row: As metrics.json holds it.
        loggers: Get the row as well (see `log_row`).

    """
    directory.write_metrics(row)
    log_row(loggers, row)


def label_counts(ledger: Ledger) -> dict[str, int]:
    """How much there is to train on: labelled_units, labelled_pixels and, where counted, _objects and _clicks.

    What a review has rejected is not among it, until it is corrected.
    """
    counts = {"labelled_units": len(ledger.training()), "labelled_pixels": ledger.labelled_pixels()}
    counted = {"labelled_objects": ledger.labelled_objects(), "labelled_clicks": ledger.labelled_clicks()}
    return counts | {name: count for name, count in counted.items() if count is not None}


def log_row(loggers: Iterable[Logger], row: dict[str, Any]) -> None:
    """Send a row of the learning curve to loggers, over labelled units (curve/NAME) and over pixels.

    Args:
        loggers: None or more.
        row: As metrics.json holds it.

    """
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

    Args:
        seed: Of the experiment.
        cycle: Of the fit.
    """

    def __init__(self, seed: int, cycle: int) -> None:
        self.key = (seed, cycle)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        torch.manual_seed(derive_seed(*self.key, trainer.current_epoch, batch_idx, trainer.global_rank))


class CycleMetrics(Callback):
    """Says which validation is the best, and writes metrics.json when a fit ends (see `record_fit`).

    The file is written last, so where it exists the fit is done. Loggers get the scores of the best validation, over
    labelled units (curve/NAME) and over labelled pixels (curve_by_pixels/NAME). The best is the first with the largest
    score, and any number is larger than NaN.

    Args:
        directory: The fit's cycle.
        monitor: The score that says which is the best.
        keeps_last: Take the last for the best.
    """

    def __init__(self, directory: CycleDirectory, monitor: str, keeps_last: bool = False) -> None:
        self.directory = directory
        self.monitor = monitor
        self.keeps_last = keeps_last
        self.best: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.labelled: dict[str, int] = {}
        self.classes: pd.DataFrame | None = None
        self._labels = ""
        self.improved = False
        """Whether the validation that has just ended is the best so far."""

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "last": self.last, _LABELS: self._labels}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # earlier versions did not remember the last
        self.best, self.last = state_dict["best"], state_dict.get("last", {})

    def add_to_best(self, scores: dict[str, float]) -> None:
        """Add what was measured of the kept weights after the fit.

        Args:
            scores: By name, val/NAME.

        """
        self.best = self.best | scores

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        data = _data(trainer)
        pool = data.pool
        self.labelled, self._labels = label_counts(pool.ledger), pool.ledger.training_state()
        # what cannot be read is said before the fit and not after it
        self.classes = labelled_classes(pool, data.num_workers) if trainer.is_global_zero else None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        scores = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        # a class that is in neither truth nor prediction has no score
        scores = {k: v for k, v in scores.items() if not math.isnan(v) or k == self.monitor}
        if self.monitor not in scores:
            raise ValueError(
                f"no validation logged {self.monitor}, by which the best weights are known, got "
                f"{', '.join(scores) or 'no score at all'}; log it, or name another monitor in the module"
            )
        self.last = {"epoch": trainer.current_epoch, **scores}
        better = self.keeps_last or not self.best or _is_larger(scores[self.monitor], self.best[self.monitor])
        # the processes of a job save together, or none does
        self.improved = trainer.strategy.reduce_boolean_decision(better)
        if self.improved:
            self.best = self.last

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.best:
            raise ValueError(
                f"the fit ended without a validation, so there is no {self.monitor} to keep; expected "
                "trainer.max_epochs of at least 1 and trainer.check_val_every_n_epoch no larger than it"
            )
        if self.classes is not None:
            write_labelled_classes(self.directory, self.classes)
        record_fit(
            self.directory, self.labelled, self.best, self.last, self.monitor, trainer.loggers, trainer.is_global_zero
        )


def _is_larger(score: float, than: float) -> bool:
    return score > than or (math.isnan(than) and not math.isnan(score))


def _data(trainer: pl.Trainer) -> PoolDataModule:
    datamodule = getattr(trainer, "datamodule", None)
    if not isinstance(datamodule, PoolDataModule):
        raise TypeError(
            f"active learning needs a PoolDataModule, got {type(datamodule).__name__}; pass one to the trainer"
        )
    return datamodule
