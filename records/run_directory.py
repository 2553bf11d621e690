"""The run directory: every file that a run leaves behind is named here, once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from records.files import read_metrics, replacing, write_json

__all__ = ["CycleDirectory", "JobsDirectory", "PartDirectory", "RunDirectory", "StudyDirectory"]


@dataclass(frozen=True)
class CycleDirectory:
    """What one cycle leaves behind: RUN/cycles/NN, or the folder of an initial model that runs share.

    Properties are paths, whether or not anything is there.
    """

    path: Path
    number: int = 0

    @property
    def best(self) -> Path:
        """Weights of the fit's best validation."""
        return self.path / "best.ckpt"

    @property
    def last(self) -> Path:
        """Everything that a fit needs to go on where it was."""
        return self.path / "last.ckpt"

    @property
    def metrics(self) -> Path:
        """The labels that the fit had and its scores; written last, so where it is, the fit is done."""
        return self.path / "metrics.json"

    @property
    def stop_set(self) -> Path:
        """Classes that the best weights predict for the validation images."""
        return self.path / "stop_set.npy"

    @property
    def shards(self) -> Path:
        """Folder of scores on their way to the ranked list (`records.shards`)."""
        return self.path / "shards"

    @property
    def race(self) -> Path:
        """How many MC samples a race has saved."""
        return self.path / "race.json"

    @property
    def scores(self) -> Path:
        """The ranked pool: unit_id, score, rank, selected."""
        return self.path / "scores.parquet"

    @property
    def queried(self) -> Path:
        """The chosen units, for people and platforms."""
        return self.path / "queried.csv"

    @property
    def maps(self) -> Path:
        """Folder of the pictures of the most and least uncertain units."""
        return self.path / "maps"

    @property
    def lock(self) -> Path:
        """Held by the process that trains an initial model that runs share."""
        return self.path / ".lock"

    @property
    def is_begun(self) -> bool:
        """Whether anything is there."""
        return self.path.is_dir() and any(self.path.iterdir())

    @property
    def is_fitted(self) -> bool:
        """Whether the cycle's fit is done."""
        return self.metrics.is_file()

    @property
    def is_queried(self) -> bool:
        """Whether the cycle's query is done; while the shards stand, the ledger may not know of queried.csv yet."""
        return self.queried.is_file() and not self.shards.exists()

    def read_metrics(self) -> dict[str, Any]:
        """The cycle's row of the learning curve; RunDirectoryError where the file is damaged."""
        return read_metrics(self.metrics)

    def write_metrics(self, row: dict[str, Any]) -> None:
        """Write the cycle's row of the learning curve, which says that the fit is done."""
        write_json(self.metrics, row)

    def read_stop_set(self) -> np.ndarray | None:
        """The predictions on the stop set, in one order; None where none were kept."""
        return np.load(self.stop_set).astype(np.int64) if self.stop_set.is_file() else None

    def write_stop_set(self, classes: np.ndarray) -> None:
        """Keep the predictions on the stop set."""
        with replacing(self.stop_set) as beside:
            np.save(beside, classes)

    def read_scores(self, *columns: str) -> pd.DataFrame:
        """The ranked pool, first choice first; only these columns, if any are named."""
        return pd.read_parquet(self.scores, columns=list(columns) or None)

    def write_scores(self, table: pd.DataFrame) -> None:
        """Write the ranked pool: unit_id, score, rank and selected; other columns are left out."""
        with replacing(self.scores) as beside:
            table[["unit_id", "score", "rank", "selected"]].to_parquet(beside, index=False)

    def write_queried(self, table: pd.DataFrame) -> None:
        """Write the chosen units."""
        with replacing(self.queried) as beside:
            table.to_csv(beside, index=False)


@dataclass(frozen=True)
class RunDirectory:
    """What a run leaves behind. Properties are paths, whether or not anything is there."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings of the run."""
        return self.path / "config.yaml"

    @property
    def queries(self) -> Path:
        """Settings of queries in a directory without a fit."""
        return self.path / "query.yaml"

    @property
    def ledger(self) -> Path:
        """What happened to every unit (`records.ledger`), and to every drawing (`records.reviews`)."""
        return self.path / "ledger.sqlite"

    @property
    def lock(self) -> Path:
        """Held by the process that works here."""
        return self.path / ".lock"

    @property
    def learning_curve(self) -> Path:
        """One row per fitted cycle; derived from their metrics."""
        return self.path / "learning_curve.csv"

    @property
    def learning_curve_picture(self) -> Path:
        """The same as a figure."""
        return self.path / "learning_curve.png"

    @property
    def progress(self) -> Path:
        """How far the fit is."""
        return self.path / "progress.json"

    @property
    def stopped(self) -> Path:
        """Which stopping criterion ended the run, and why."""
        return self.path / "stopped.json"

    @property
    def wandb_id(self) -> Path:
        """The id of the run at Weights & Biases."""
        return self.path / "wandb" / "run_id"

    @property
    def predictions(self) -> Path:
        """Folder of what `predict` and `difficulty` write, an image each."""
        return self.path / "predictions"

    def prediction(self, unit_id: str) -> Path:
        """What the networks of an ensemble predict of an image, and its masks."""
        return self.predictions / f"{unit_id}.npz"

    @property
    def images(self) -> Path:
        """One row per image: measured disagreement and its predictors."""
        return self.path / "images.csv"

    @property
    def annotators(self) -> Path:
        """One row per person: how they draw, beside the others."""
        return self.path / "annotators.csv"

    @property
    def difficulty(self) -> Path:
        """Folder of the report on predicted difficulty."""
        return self.path / "difficulty"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.path / "report"

    @property
    def slurm(self) -> Path:
        """Folder of scripts and logs of a cluster's jobs."""
        return self.path / "slurm"

    @property
    def members(self) -> Path:
        """Folder of an ensemble's fits."""
        return self.path / "members"

    @property
    def member_logs(self) -> Path:
        """Folder of what an ensemble's fits print."""
        return self.members / "logs"

    def member(self, name: str, fold: int) -> "RunDirectory":
        """The fit of an ensemble on one annotator's masks outside one fold."""
        return RunDirectory(self.members / name / f"fold-{fold}")

    def cycle(self, number: int) -> CycleDirectory:
        """One cycle's directory."""
        return CycleDirectory(self.path / "cycles" / f"{number:02d}", number)

    def cycles(self) -> list[CycleDirectory]:
        """The cycles whose directories are there, in numeric order."""
        folders = [path for path in (self.path / "cycles").glob("*") if path.name.isdecimal() and path.is_dir()]
        cycles = [cycle for path in folders if (cycle := self.cycle(int(path.name))).path == path]
        return sorted(cycles, key=lambda cycle: cycle.number)

    def metrics(self) -> list[dict[str, Any]]:
        """The rows of all fitted cycles, in numeric order."""
        return [cycle.read_metrics() for cycle in self.cycles() if cycle.is_fitted]

    def write_curve(self, curve: pd.DataFrame) -> None:
        """Write learning_curve.csv.

        Args:
            curve: One row per fitted cycle, in numeric order, as `metrics` gives them.

        """
        with replacing(self.learning_curve) as beside:
            curve.to_csv(beside, index=False)

    def folders(self) -> list[Path]:
        """The folders in which a run writes files, as far as they are there."""
        inner = [folder for cycle in self.cycles() for folder in (cycle.path, *cycle.path.glob("*"))]
        written = (self.path, *inner, self.predictions, *self.predictions.rglob("*"), self.report)
        return [folder for folder in written if folder.is_dir()]

    def remove_ledger(self) -> None:
        """Forget the ledger, and what SQLite was about to write into it."""
        for path in (self.ledger, self.ledger.with_name(f"{self.ledger.name}-journal")):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class JobsDirectory:
    """What jobs that run side by side leave behind, beside their own run directories."""

    path: Path

    @property
    def table(self) -> Path:
        """One row per job: what became of it, and why."""
        return self.path / "jobs.csv"

    def log(self, name: str) -> Path:
        """What a job prints."""
        return self.path / f"{name}.log"


@dataclass(frozen=True)
class StudyDirectory(RunDirectory):
    """What a study leaves behind: its own files, and below them a run directory for each of its runs."""

    @property
    def table(self) -> Path:
        """One row per run and cycle."""
        return self.path / "study.csv"

    @property
    def states(self) -> Path:
        """One row per run: finished, stopped or failed, and why."""
        return JobsDirectory(self.path).table

    @property
    def jobs(self) -> Path:
        """Folder of the settings and logs of the study's jobs."""
        return self.path / "jobs"

    def job_config(self, name: str) -> Path:
        """Settings of a job that is one run."""
        return self.jobs / f"{name}.yaml"

    def part(self, number: int, parts: int) -> "PartDirectory":
        """The directory of one of several parts of the study."""
        return PartDirectory(self.jobs / f"part-{number}-of-{parts}")

    def runs(self) -> list[RunDirectory]:
        """The runs whose first cycle is fitted."""
        there = (RunDirectory(path) for path in sorted((self.path / "runs").glob("*/*/*")))
        return [run for run in there if run.cycle(0).is_fitted]


@dataclass(frozen=True)
class PartDirectory(RunDirectory):
    """What one part of a study says of itself."""

    @property
    def done(self) -> Path:
        """The runs that failed, and why; written last, so where it is, the part is done."""
        return self.path / "done.json"
