"""One network per annotator and fold: which fits there are, and where they leave what they learned."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.sources.several_annotators import MAJORITY, RANDOM, SeveralAnnotators
from pipelines.jobs import Job
from records.files import RunDirectoryError
from records.ledger import Ledger
from records.run_directory import RunDirectory

__all__ = ["Members", "check_held_out", "jobs_of", "member_weights", "several_annotators"]


@dataclass
class Members:
    """The networks of an ensemble, one per annotator and fold, and what is predicted with them.

    names: the annotators to train networks for, and "majority" or "random"; every annotator and `single` unless given.
    single: whose network's MC samples predict the disagreement: "majority", "random" or an annotator. at_once: fits
    side by side on this machine; as many as it has devices, or cores for, unless given. retries: how often a failed fit
    is started again. num_samples: T, MC samples of the single network. dropout_rate: at prediction, or None for the
    training rates. weights: "last" are those at the end of the fit; "best" are those of the best validation, which was
    made on the very images that are predicted, so that a little of their masks is in the choice.
    """

    names: list[str] | None = None
    single: str = MAJORITY
    at_once: int | None = None
    retries: int = 1
    num_samples: int = 50
    dropout_rate: float | None = None
    weights: Literal["last", "best"] = "last"

    def __post_init__(self) -> None:
        least = {"at_once": 1, "retries": 0, "num_samples": 2}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise ValueError(f"members.{name} must be at least {value}, got {given}")

    def people(self, annotators: Sequence[str]) -> list[str]:
        """The annotators who have a network of their own; at least two."""
        people = [n for n in self.all(annotators) if n not in (MAJORITY, RANDOM)]
        if len(people) < 2:
            raise DataError(
                f"an ensemble needs the networks of at least two annotators, got {', '.join(people) or 'none'}; "
                "name more of them in members.names"
            )
        return people

    def all(self, annotators: Sequence[str]) -> list[str]:
        """Every network: the annotators' and the single one."""
        names = list(dict.fromkeys([*(annotators if self.names is None else self.names), self.single]))
        unknown = [n for n in names if n not in (*annotators, MAJORITY, RANDOM)]
        if unknown:
            raise DataError(
                f"expected members.names and members.single to be {MAJORITY!r}, {RANDOM!r} or among "
                f"{', '.join(annotators)}, got {unknown[0]!r}"
            )
        return names


def several_annotators(datamodule: PoolDataModule) -> SeveralAnnotators:
    """The data module's source, if it knows several annotators."""
    if not isinstance(datamodule.source, SeveralAnnotators):
        raise DataError(
            f"an ensemble has one network per annotator: expected data.source with several annotators, such as "
            f"datamodules.sources.multi_annotator.MultiAnnotatorFolder, got {type(datamodule.source).__name__}"
        )
    return datamodule.source


def member_weights(run_dir: Path, name: str, fold: int, weights: Literal["last", "best"]) -> Path:
    """The checkpoint of one finished fit."""
    cycle = RunDirectory(run_dir).member(name, fold).cycle(0)
    path = cycle.last if weights == "last" else cycle.best
    if not cycle.is_fitted or not path.is_file():
        raise RunDirectoryError(
            f"the network of {name!r} for fold {fold} is not trained yet ({path}); run ensemble with the same "
            "--config and --run_dir first"
        )
    return path


def jobs_of(run_dir: Path, members: Members, source: SeveralAnnotators, group: str | None = None) -> list[Job]:
    """The fits of an ensemble, independent of each other: all members of fold 0, then of fold 1, and so on.

    Each is `dropquery fit` with run_dir/config.yaml and that annotator's masks outside that fold. All have the same
    seed, so they start from the same weights and see the images in the same order. group: of their W&B runs, the run
    directory's name unless given.
    """
    names = members.all(source.annotators)
    members.people(source.annotators)
    return [_job(run_dir, name, fold, group or run_dir.name) for fold in range(source.folds) for name in names]


def check_held_out(run_dir: Path, name: str, fold: int, unit_ids: Sequence[str]) -> None:
    """Refuse to predict images that a network trained on, as its own ledger says."""
    path = RunDirectory(run_dir).member(name, fold).ledger
    if not path.is_file():
        raise RunDirectoryError(f"the ledger {path} is missing, so nobody knows what that network trained on")
    seen = sorted(set(Ledger(path).labelled()) & set(unit_ids))
    if seen:
        raise RunDirectoryError(
            f"the network of {name!r} for fold {fold} trained on {len(seen)} images of that fold ({seen[0]!r} first), "
            "so it cannot predict them; remove its folder and run ensemble again"
        )


def _job(run_dir: Path, name: str, fold: int, group: str) -> Job:
    run = RunDirectory(run_dir)
    own = run.member(name, fold)
    arguments = {
        "--config": run.config,
        "--run_dir": own.path,
        "--data.source.annotator": name,
        "--data.source.fold": fold,
        "--wandb.group": group,
        "--wandb.job_type": name,
        "--wandb.name": f"{name}-fold-{fold}",
    }
    words = tuple(str(word) for pair in arguments.items() for word in pair)
    # a job's name is its log's; a person's may have spaces
    called = re.sub(r"[^\w=+-]", "_", f"{name}-fold-{fold}")
    return Job(called, ("fit", *words), own.path, own.learning_curve)
