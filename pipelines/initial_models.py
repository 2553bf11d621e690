"""A first model that several strategies share: trained by one of them, copied by the others."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning.utilities import rank_zero_info

from callbacks.cycle import log_row, read_checkpoint
from pipelines.meetings import meet
from pipelines.trainer import QueryTrainer
from records.files import remove_leftovers, replacing
from records.run_directory import CycleDirectory

__all__ = ["experiment_key", "sharing_initial_model"]

_PATIENCE = 60.0
"""Seconds between two meetings of processes that wait for a lock together."""


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
                _copy_model(shared, own)
                log_row(trainer.loggers, own.read_metrics())
        # the run directory alone decides whether to fit, so that all processes of a job decide alike
        meet(trainer)
        yield
        if shared is not None and not shared.is_fitted:
            _copy_model(own, shared)
    finally:
        if lock is not None:
            lock.release()


def _acquired(lock: FileLock, patience: float) -> bool:
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        return False
    return True


def _copy_model(source: CycleDirectory, target: CycleDirectory) -> None:
    """Copy a fit's weights, then its metrics, whose presence says that the weights are there."""
    source.read_metrics()
    read_checkpoint(source.best, f"delete it and its {source.metrics.name}, then start the same command again")
    for path, copy in ((source.best, target.best), (source.metrics, target.metrics)):
        with replacing(copy) as beside:
            shutil.copyfile(path, beside)
