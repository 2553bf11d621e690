"""A run at Weights & Biases: what Lightning logs, and what every cycle has left, each of it once."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only, rank_zero_warn

from callbacks.cycle import log_row
from callbacks.tracked_tables import as_table, class_scores, labelled_classes, queried_units
from callbacks.transaction_log import Logged, cycle_alias
from records.run_directory import CycleDirectory, RunDirectory

__all__ = ["TrackedRun", "staged", "warned"]


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn an error of Weights & Biases, whatever it is, into a warning: no fit ends for it."""
    try:
        yield
    # no disk, no network, no account, a server's refusal: its classes change with its versions
    except Exception as error:
        rank_zero_warn(f"Weights & Biases: {what} ({type(error).__name__}: {error}); the fit goes on without it")


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
        for cycle in self._directory.cycles():
            if not cycle.is_fitted:
                continue
            rows.append(cycle.read_metrics())
            with warned(f"cycle {cycle.number} was not logged whole"), staged(self._directory.path):
                self._log_cycle(cycle, rows)
        with warned("the summary was not written"):
            self.experiment.summary.update({k: v for k, v in summary.items() if v is not None})
            self._logged.write(self._directory.path)

    def _log_cycle(self, cycle: CycleDirectory, rows: list[dict[str, Any]]) -> None:
        row, number = rows[-1], cycle.number
        if f"curve {number}" not in self._logged.pieces:
            log_row([self], row)
        at: dict[str, Any] = {k: row[k] for k in ("cycle", "labelled_units", "labelled_pixels") if k in row}
        if self._lacks("class_scores", number) and len(scores := class_scores(row)):
            self._log({**at, "class_scores": as_table(scores)})
        if self._lacks("labelled_classes", number) and len(counts := labelled_classes(cycle)):
            amount = next(c for c in ("pixels", "units", *counts.columns) if c in counts and c != "class")
            lines = {f"labelled/{n}": c for n, c in zip(counts["class"], counts[amount].tolist(), strict=True)}
            self._log({**at, **lines, "labelled_classes": as_table(counts)})
        if self._lacks("queried", number) and cycle.is_queried:
            self._log({**at, "queried": queried_units(cycle, self._images)})
        # the ledger of a cycle before is not there any more
        if self._lacks("ledger", number) and number == max(c.number for c in self._directory.cycles() if c.is_fitted):
            self._log_file("ledger", self._directory.ledger, row, [])
        if self._checkpoints and self._lacks("model", number) and cycle.best.is_file():
            self._log_file("model", cycle.best, row, ["best"] if _is_best(rows) else [])

    def _lacks(self, piece: str, number: int) -> bool:
        return f"{piece} {number}" not in self._logged.pieces

    def _log(self, row: dict[str, Any]) -> None:
        self.experiment.log(row)
        self._logged.note(row, self._folder)

    def _log_file(self, kind: str, path: Path, row: dict[str, Any], aliases: list[str]) -> None:
        import wandb

        scores = {k.replace("/", "_"): v for k, v in row.items()}
        artifact = wandb.Artifact(f"{kind}-{self.experiment.id}", type=kind, metadata=scores)
        # the checkpoint of a finished fit stays as it is; the ledger goes on
        policy: Any = "mutable" if kind == "ledger" else "immutable"
        artifact.add_file(str(path.resolve()), policy=policy, skip_cache=True)
        self.experiment.log_artifact(artifact, aliases=["latest", cycle_alias(row["cycle"]), *aliases])
        self._logged.pieces[f"{kind} {row['cycle']}"] = self._folder


def _is_best(rows: list[dict[str, Any]]) -> bool:
    """Whether the last row has a larger score than all before; the first one of equals is the best."""
    scores = [row.get(row.get("monitor", ""), float("nan")) for row in rows]
    earlier = [score for score in scores[:-1] if score == score]
    return scores[-1] == scores[-1] and all(scores[-1] > score for score in earlier)
