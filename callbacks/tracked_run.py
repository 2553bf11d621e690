"""A run at Weights & Biases: what Lightning logs, and what every cycle has left, each of it once."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from callbacks.cycle import log_row
from callbacks.tracked_tables import as_table, class_scores, labelled_classes, queried_units
from callbacks.transaction_log import Logged, cycle_alias
from records.run_directory import CycleDirectory, RunDirectory

__all__ = ["TrackedRun", "go_on", "in_words", "staged", "warned"]


def in_words(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn an error of Weights & Biases, whatever it is, into a warning: no fit ends for it."""
    try:
        yield
    # no disk, no network, no account, a server's refusal: its classes change with its versions
    except Exception as error:
        rank_zero_warn(f"Weights & Biases: {what} ({in_words(error)}); the fit goes on without it")


@contextmanager
def staged(run_dir: Path) -> Iterator[None]:
    """Let the copies of artifacts' files, which offline runs need until they are synced, lie in the run directory.

    W&B's place for them is a folder of the user, who does not know that it belongs to the run.
    """
    name = "WANDB_DATA_DIR"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(RunDirectory(run_dir).wandb_data.resolve())
    try:
        yield
    finally:
        del os.environ[name]


def go_on(run: Any, logged: Logged) -> None:
    """Number the next row of the history after those of before.

    Offline runs count from 0 at every start, and uploaded one after another they would have rows with one number.

    Args:
        run: The W&B run.
        logged: What had been logged before it was opened.
    """
    if run.step <= logged.last:
        run.log({}, step=logged.last + 1, commit=False)


class TrackedRun(WandbLogger):
    """Logger of all cycles of a run, in the first process.

    What was logged before a kill is not logged again: neither a fit's steps, which a resumed fit takes again, nor what
    a cycle has left.

    Args:
        run: The W&B run.
        run_dir: The run directory.
        logged: What had been logged before it was opened.
        images: Pictures per cycle.
        checkpoints: Whether best.ckpt is logged.
    """

    def __init__(self, run: Any, run_dir: Path, logged: Logged, images: int, checkpoints: bool) -> None:
        super().__init__(experiment=run, save_dir=run_dir)
        self.cycle = 0
        """The cycle whose fit is logged."""
        self._directory = RunDirectory(run_dir)
        self._images = images
        self._checkpoints = checkpoints
        self._folder = Path(run.dir).parent.name
        self._logged = logged

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row, unless it was logged before a kill.

        Args:
            metrics: The row; a row without `step` is one of the learning curve.
            step: Of the fit.
        """
        row = dict(metrics)
        if step is None:
            if f"curve {row.get('cycle')}" in self._logged.pieces:
                return
        else:
            new = {
                k: v for k, v in row.items() if step > self._logged.steps.get(f"{self.cycle} {k}", -1) or k == "epoch"
            }
            if not set(new) - {"epoch"}:
                return
            row = new | {"cycle": self.cycle}
        with warned("a row was not logged"):
            go_on(self.experiment, self._logged)
            super().log_metrics(row, step)
            # steps are noted when they are read back: those of this process come once
            if step is None:
                self._logged.note(row, self._folder)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Record a module's settings."""
        with warned("settings were not recorded"):
            super().log_hyperparams(params)

    def log_cycles(self, summary: Mapping[str, Any]) -> None:
        """Log what the cycles have left and was not logged yet.

        Args:
            summary: What is known of the whole run, for its summary.
        """
        rows: list[dict[str, Any]] = []
        for cycle in [cycle for cycle in self._directory.cycles() if cycle.is_fitted]:
            rows.append(cycle.read_metrics())
            for piece, log in _PIECES.items():
                if f"{piece} {cycle.number}" not in self._logged.pieces:
                    with warned(f"{piece} of cycle {cycle.number} was not logged"), staged(self._directory.path):
                        log(self, cycle, rows)
        with warned("the summary was not written"):
            self.experiment.summary.update(summary)
            self._logged.write(self._directory.path, self.experiment.step - 1)

    def _log_curve(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        log_row([self], rows[-1])

    def _log_scores(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        if len(scores := class_scores(rows[-1])):
            self._log(rows[-1], {"class_scores": as_table(scores)})

    def _log_classes(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        if len(counts := labelled_classes(cycle)):
            amount = next(name for name in ("pixels", "units", *counts.columns[1:]) if name in counts)
            lines = {f"labelled/{n}": c for n, c in zip(counts["class"], counts[amount].tolist(), strict=True)}
            self._log(rows[-1], {**lines, "labelled_classes": as_table(counts)})

    def _log_queried(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        if cycle.is_queried:
            self._log(rows[-1], {"queried": queried_units(cycle, self._images)})

    def _log_ledger(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        # that of a cycle before is not there any more
        if cycle.number == max(c.number for c in self._directory.cycles() if c.is_fitted):
            # goes on changing
            self._log_file("ledger", self._directory.ledger, "mutable", rows[-1], [])

    def _log_weights(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        if self._checkpoints and cycle.best.is_file():
            # stays as it is once the fit is done, and may be large: it is not copied
            self._log_file("model", cycle.best, "immutable", rows[-1], ["best"] if _is_best(rows) else [])

    def _log(self, cycle: dict[str, Any], row: dict[str, Any]) -> None:
        row |= {name: cycle[name] for name in ("cycle", "labelled_units", "labelled_pixels") if name in cycle}
        go_on(self.experiment, self._logged)
        self.experiment.log(row)
        self._logged.note(row, self._folder)

    def _log_file(
        self, kind: str, path: Path, policy: Literal["mutable", "immutable"], row: dict[str, Any], aliases: list[str]
    ) -> None:
        import wandb

        artifact = wandb.Artifact(f"{kind}-{self.experiment.id}", type=kind, metadata=row)
        artifact.add_file(str(path.resolve()), policy=policy, skip_cache=True)
        self.experiment.log_artifact(artifact, aliases=["latest", cycle_alias(row["cycle"]), *aliases])
        self._logged.pieces[f"{kind} {row['cycle']}"] = self._folder


_PIECES = {
    "curve": TrackedRun._log_curve,
    "class_scores": TrackedRun._log_scores,
    "labelled_classes": TrackedRun._log_classes,
    "queried": TrackedRun._log_queried,
    "ledger": TrackedRun._log_ledger,
    "model": TrackedRun._log_weights,
}
"""What is logged of a cycle, each once. best.ckpt comes last, because it takes longest to upload."""


def _is_best(rows: list[dict[str, Any]]) -> bool:
    """Whether the last row has a larger score than all before; the first one of equals is the best."""
    scores = [row.get(row.get("monitor", ""), float("nan")) for row in rows]
    earlier = [score for score in scores[:-1] if score == score]
    return scores[-1] == scores[-1] and all(scores[-1] > score for score in earlier)
