"""How far a fit or a query is: a bar on a terminal, and a line now and then in a file."""

import sys
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_info
from tqdm import tqdm

from callbacks.cycle import CycleMetrics
from callbacks.phases import fit_line, where_line
from callbacks.progress import progress_of

__all__ = ["FitLines", "PhaseBar", "phase_bar"]


def phase_bar(trainer: pl.Trainer, total: int, what: str) -> tqdm:
    """A bar over the units of a phase: on a terminal, in the first process, and unless trainer.enable_progress_bar is
    false; else one that shows nothing.

    Args:
        trainer: The trainer in whose hook the phase runs.
        total: How many units.
        what: The phase.

    """
    wanted = trainer.is_global_zero and trainer.progress_bar_callback is not None
    return tqdm(total=total, desc=what, unit="unit", leave=False, dynamic_ncols=True, disable=None if wanted else True)


class PhaseBar(ProgressBar):
    """One bar per fit, over its steps, with the epoch, the time left, the loss and the last score.

    Lightning's own bars begin anew with every epoch. While this one is among a trainer's callbacks, the query shows a
    bar too (`phase_bar`).

    Args:
        cycle: The fit's number, from 0; None for a trainer that does not fit.
        monitor: The score to show.
    """

    def __init__(self, cycle: int | None = None, monitor: str = "") -> None:
        super().__init__()
        self.cycle = cycle
        self.monitor = monitor
        self._enabled = True
        self._bar: tqdm | None = None
        self._shown: dict[str, str] = {}

    def disable(self) -> None:
        """Show nothing, as in all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show it again."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print above the bar."""
        tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = progress_of(trainer, self.cycle or 0, 1).steps
        self._shown = {}
        self._bar = tqdm(
            total=steps, initial=trainer.global_step, leave=False, dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}" if steps else None,
            disable=None if self._enabled else True,
        )  # fmt: skip
        self._describe(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            self._bar.update(trainer.global_step - self._bar.n)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._describe(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._show(trainer, "train/loss", "loss")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            self._show(trainer, self.monitor, self.monitor)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _describe(self, trainer: pl.Trainer) -> None:
        if self._bar is not None:
            of = f"/{epochs}" if (epochs := _epochs(trainer)) else ""
            self._bar.set_description_str(f"Cycle {self.cycle} fit, epoch {trainer.current_epoch + 1}{of}")

    def _show(self, trainer: pl.Trainer, metric: str, name: str) -> None:
        if self._bar is not None and metric in trainer.callback_metrics:
            self._shown[name] = f"{float(trainer.callback_metrics[metric]):.4f}"
            self._bar.set_postfix_str(", ".join(f"{k} {v}" for k, v in self._shown.items()))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class FitLines(Callback):
    """Says in one line how a fit ended and, where no bar shows it, now and then how far a long one is.

    Args:
        metrics: What the fit is scored by.
        first: Seconds after which a fit that no bar shows is long.
        every: Seconds between two lines after that.
    """

    def __init__(self, metrics: CycleMetrics, first: float = 60.0, every: float = 600.0) -> None:
        self.metrics = metrics
        self.first = first
        self.every = every
        self._began = self._next = 0.0
        self._step = self._epoch = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._step = trainer.global_step
        self._next = self._began + self.first

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # where a fit goes on, Lightning counts the epoch before its first batch only
        if trainer.global_step == self._step:
            self._epoch = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now = time.monotonic()
        if now < self._next or (trainer.progress_bar_callback is not None and sys.stderr.isatty()):
            return
        self._next = now + self.every
        cycle, last, monitor = self.metrics.directory.number, self.metrics.last, self.metrics.monitor
        steps, done = progress_of(trainer, cycle, 1).steps, trainer.global_step
        left = None
        if steps and done > self._step:
            left = (now - self._began) * (steps - done) / (done - self._step)
        score = f"{monitor} {last[monitor]:.4f}" if monitor in last else ""
        rank_zero_info(where_line(cycle, trainer.current_epoch + 1, _epochs(trainer), left, score))

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics, ended = self.metrics, trainer.current_epoch
        epochs = f"the last {ended - self._epoch} of {ended} epochs" if self._step else f"{ended} epochs"
        loss = trainer.callback_metrics.get("train/loss")
        labelled, seconds = metrics.labelled["labelled_units"], time.monotonic() - self._began
        said = None if loss is None else float(loss)
        rank_zero_info(
            fit_line(metrics.directory.number, labelled, epochs, seconds, said, metrics.best, metrics.monitor)
        )


def _epochs(trainer: pl.Trainer) -> int | None:
    """How many epochs there are at most; None where something else ends the fit."""
    return trainer.max_epochs if (trainer.max_epochs or 0) > 0 and trainer.max_steps == -1 else None
