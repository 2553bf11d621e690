"""A first model in common: of a finished run, or trained by one of several strategies and copied by the others."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_info

from callbacks.cycle import label_counts, read_checkpoint, record_copy
from pipelines.checkpoint_path import checked_checkpoint
from pipelines.cycles import Turn
from pipelines.meetings import meet
from pipelines.trainer import QueryTrainer
from records.files import RunDirectoryError, remove_leftovers, replacing
from records.ledger import Ledger
from records.run_directory import CycleDirectory, RunDirectory

__all__ = ["check_initial_run", "experiment_key", "sharing_initial_model", "takes_initial_run"]

_PATIENCE = 60.0
"""Seconds between two meetings of processes that wait for a lock together."""

_UNSAID = "labels of which its ledger says nothing wrong"


def experiment_key(settings: dict[str, Any], unit_ids: list[str]) -> str:
    """A short hash of all that the initial model depends on.

    Args:
        settings: Those of the first fit.
        unit_ids: Its labelled units, in any order.

    Returns:
        The name of the model's folder; another version of torch gives another one.

    """
    content = json.dumps([settings, sorted(unit_ids), torch.__version__], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=10).hexdigest()


def check_initial_run(run_dir: Path) -> CycleDirectory:
    """The cycle with which other runs begin.

    Args:
        run_dir: The directory of the run whose cycle 0 it is.

    Raises:
        ValueError: There is no such run, or its cycle 0 has not been trained.

    """
    run = RunDirectory(run_dir)
    if not run.ledger.is_file():
        raise ValueError(
            f"expected a run at initial_run, got {run_dir}, which has no {run.ledger.name}; give the directory of a "
            "fit, which the verb nearest names for a study"
        )
    if not run.cycle(0).is_fitted:
        raise ValueError(
            f"initial_run is {run_dir}, whose cycle 0 has not been trained; start its fit again, or give another run"
        )
    return run.cycle(0)


def takes_initial_run(turn: Turn[Any]) -> bool:
    """Give a cycle 0 that is not trained yet the model of `initial_run`, where that is set.

    Killed in between, the same is done again: metrics.json, which says that the model is there, comes last.

    Args:
        turn: The run's; its initial set is labelled by now.

    Returns:
        Whether the model was taken.

    Raises:
        ValueError: There is no such run or model, or it is another network's or was trained on other units.

    """
    run_dir, own = turn.experiment.datamodule.initial_run, turn.directory
    if run_dir is None or own.number or own.is_fitted:
        return False
    first = check_initial_run(run_dir)
    checked_checkpoint(str(first.best), turn.experiment.module)
    with closing(Ledger(RunDirectory(run_dir).ledger)) as ledger:
        initial, labels = ledger.initial(), ledger.initial_labels()
    own_ledger, row = turn.experiment.datamodule.pool.ledger, first.read_metrics()
    labelled, trained, counts = own_ledger.training(), row["labelled_units"], label_counts(own_ledger)
    if set(labelled) != set(initial) or trained != len(initial):
        raise RunDirectoryError(
            f"the model of {run_dir} was trained on {trained} units, its ledger has {len(initial)} initial ones, and "
            f"{len(labelled)} units are labelled here: expected the same ones; choose another --run_dir or initial_run"
        )
    if row["labelled_pixels"] != counts["labelled_pixels"]:
        raise RunDirectoryError(
            f"the model of {run_dir} was trained on {row['labelled_pixels']} labelled pixels, but data.oracle labels "
            f"{counts['labelled_pixels']} of the same units here: expected the same; take that run's data.oracle, or "
            "another initial_run"
        )
    own_labels = own_ledger.initial_labels()
    if labels != own_labels:
        raise RunDirectoryError(
            f"the model of {run_dir} was trained on {labels or _UNSAID}, but data.oracle gives "
            f"{own_labels or _UNSAID} here: expected the same; take that run's data.oracle and another "
            "--run_dir, or another initial_run"
        )
    turn.run.say(f"Cycle 0: taken from {run_dir}, its {trained} labelled units and its model")
    # what is counted here may not have been counted there
    _copy_model(first, own, row | counts, turn.experiment.trainer.loggers if turn.experiment.trainer else ())
    return True


@contextmanager
def sharing_initial_model(shared: CycleDirectory | None, own: CycleDirectory, trainer: QueryTrainer) -> Iterator[None]:
    """Copy a shared initial model, or share the one that is trained inside.

    Of several strategies started together one trains it and the others wait. All processes of a job wait, with a
    meeting now and then: torch gives up one for which it has to wait for hours.

    Args:
        shared: Where the model is kept; None where this process shares none.
        own: The cycle of this run that needs it.
        trainer: Of the fit.

    """
    lock = None
    if shared is not None:
        shared.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(shared.lock)
    if not meet(trainer, lock is None or _acquired(lock, 0)):
        rank_zero_info(f"Cycle 0: waiting for the process that trains the initial model in {shared and shared.path}")
        while not meet(trainer, lock is None or _acquired(lock, _PATIENCE)):
            pass
    try:
        if shared is not None:
            remove_leftovers([shared.path])
            if shared.is_fitted and not own.is_fitted:
                rank_zero_info(f"Cycle 0: using the initial model in {shared.path}")
                _copy_model(shared, own, shared.read_metrics(), trainer.loggers)
        # the run directory alone decides whether to fit, so that all processes of a job decide alike
        meet(trainer)
        yield
        if shared is not None and not shared.is_fitted:
            _copy_model(own, shared, own.read_metrics())
    finally:
        if lock is not None:
            lock.release()


def _acquired(lock: FileLock, patience: float) -> bool:
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    return True


def _copy_model(
    source: CycleDirectory, target: CycleDirectory, row: dict[str, Any], loggers: Iterable[Logger] = ()
) -> None:
    """Copy weights and counts of what was trained on, then write metrics, whose presence says that they are there."""
    read_checkpoint(source.best, f"delete it and its {source.metrics.name}, then start the same command again")
    with replacing(target.best) as beside:
        shutil.copyfile(source.best, beside)
    if source.labelled_classes.is_file():
        with replacing(target.labelled_classes) as beside:
            shutil.copyfile(source.labelled_classes, beside)
    record_copy(target, row, loggers)
