"""The folder of a study and those of jobs that run side by side: every file that stands there is named here, once."""

from dataclasses import dataclass
from pathlib import Path

from records.run_directory import RunDirectory

__all__ = ["JobsDirectory", "PartDirectory", "StudyDirectory", "SuspectsDirectory"]


@dataclass(frozen=True)
class JobsDirectory:
    """The table and logs of jobs that run side by side; each job has a run directory of its own.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def table(self) -> Path:
        """Table of jobs: how each ended, and why."""
        return self.path / "jobs.csv"

    def log(self, name: str) -> Path:
        """The log of a job."""
        return self.path / f"{name}.log"


@dataclass(frozen=True)
class StudyDirectory(RunDirectory):
    """The files of a study, which has a run directory for each of its runs.

    Args:
        path: The folder.
    """

    @property
    def table(self) -> Path:
        """One row per run and cycle."""
        return self.path / "study.csv"

    @property
    def states(self) -> Path:
        """Table of runs: finished, stopped or failed, and why."""
        return JobsDirectory(self.path).table

    @property
    def jobs(self) -> Path:
        """Folder of the settings and logs of the study's jobs."""
        return self.path / "jobs"

    def job_config(self, name: str) -> Path:
        """Settings of a job that consists of one run."""
        return self.jobs / f"{name}.yaml"

    def part(self, number: int, parts: int) -> "PartDirectory":
        """The directory of a job that does one of `parts` parts of the study; `number` is from 0."""
        return PartDirectory(self.jobs / f"part-{number}-of-{parts}")

    def run(self, name: str) -> RunDirectory:
        """The directory of a run, by its name in the table of runs: VARIANT/STRATEGY/seed-SEED."""
        return RunDirectory(self.path / "runs" / name)

    def runs(self) -> list[RunDirectory]:
        """The runs whose first cycle is fitted."""
        there = (RunDirectory(path) for path in sorted((self.path / "runs").glob("*/*/*")))
        return [run for run in there if run.cycle(0).is_fitted]


@dataclass(frozen=True)
class PartDirectory(RunDirectory):
    """The files of one job that does a part of a study.

    Args:
        path: The folder.
    """

    @property
    def done(self) -> Path:
        """The runs that failed, and why; written last, so its presence means that the part is done."""
        return self.path / "done.json"


@dataclass(frozen=True)
class SuspectsDirectory(JobsDirectory):
    """The files of a search for wrong labels (`RunDirectory.suspects`), whose networks are jobs, one per fold.

    Args:
        path: The folder.
    """

    @property
    def ranking(self) -> Path:
        """Every labelled unit with its scores, the most suspicious first."""
        return self.path / "suspects.csv"

    @property
    def second_drawings(self) -> Path:
        """The units that people should draw again, for the verb assign."""
        return self.path / "second_drawings.csv"

    @property
    def pictures(self) -> Path:
        """Folder of the pictures of the most suspicious units."""
        return self.path / "pictures"

    @property
    def labels(self) -> Path:
        """From which labels the folds' networks learn; with others they are fitted anew."""
        return self.path / "labels.json"

    def fold(self, number: int) -> RunDirectory:
        """The run directory of the network that does not learn from a fold, from 0."""
        return RunDirectory(self.path / f"fold_{number}")

    def fold_config(self, number: int) -> Path:
        """Settings of that network's fit."""
        return self.path / f"fold_{number}.yaml"

    def folds(self) -> list[Path]:
        """What there is of folds: run directories, logs and settings."""
        return sorted(self.path.glob("fold_*"))
