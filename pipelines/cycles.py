"""The active-learning loop: fit, evaluate, query, label, again."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from pytorch_lightning import LightningModule
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities import rank_zero_info

from callbacks.cycle import load_weights, log_row, read_checkpoint
from callbacks.processes import is_first_process
from callbacks.query import QueryCallback
from datamodules.pool import PoolDataModule
from pipelines.settings import difference, parse_yaml, read_yaml
from pipelines.stopping import StoppingCriterion, history_of, why_stop
from pipelines.trainer import QueryTrainer
from records.files import RunDirectoryError, remove_leftovers, replacing, write_json
from records.ledger import Ledger
from records.reviews import Reviews
from records.run_directory import CycleDirectory, RunDirectory

__all__ = ["Experiment", "check_settings", "experiment_key", "held", "keep_query", "run_cycles", "run_directory"]

_FIT_ONLY = (
    "trainer.max_epochs", "trainer.max_steps", "trainer.check_val_every_n_epoch", "warm_start", "initial_models",
)  # fmt: skip
"""Settings that no query reads, so that a fit may choose them after a query without one."""

_PATIENCE = 60.0
"""Seconds between two meetings of processes that wait for a lock together."""


@dataclass(frozen=True)
class Experiment:
    """Everything that one cycle's fit needs, made afresh for it."""

    trainer: QueryTrainer
    module: LightningModule
    datamodule: PoolDataModule
    query: QueryCallback
    stop: Sequence[StoppingCriterion] = ()


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Hold the run directory: one process at a time (or the processes of one DDP job).

    What killed processes were writing is removed; a ledger that knows less than the cycles is refused.
    """
    if not is_first_process():
        yield
        return
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(RunDirectory(run_dir).lock)
        lock.acquire(timeout=0)
    except Timeout:
        raise RunDirectoryError(
            f"another process is working in {run_dir}; wait for it, stop it, or choose another --run_dir"
        ) from None
    except OSError as error:
        raise RunDirectoryError(
            f"{run_dir} cannot be written to ({error.strerror}); choose another --run_dir"
        ) from error
    try:
        remove_leftovers(RunDirectory(run_dir).folders())
        _check_ledger(run_dir)
        yield
    finally:
        lock.release()


@contextmanager
def run_directory(run_dir: Path, config: str, ignored: tuple[str, ...] = ()) -> Iterator[None]:
    """Hold the run directory: one process at a time, and one experiment for ever.

    config: the experiment's settings as YAML, kept as config.yaml. A directory that was started with other
    settings is refused, unless they differ only in those that `ignored` names (see `difference`), or no cycle, no
    member and no review has left anything yet: a first try with a mistake must not stand in the way of the second.
    """
    with held(run_dir):
        if is_first_process():
            _keep_config(run_dir, config, ignored)
        yield


def check_settings(run_dir: Path, config: str, ignored: tuple[str, ...] = ()) -> bool:
    """Refuse a directory in which an experiment with other settings has left something (see `run_directory`).

    Returns whether one was started with other settings and has left nothing.
    """
    run = RunDirectory(run_dir)
    kept = next((p for p in (run.config, run.queries) if p.is_file()), None)
    if kept == run.queries:
        ignored = (*ignored, *_FIT_ONLY)
    changed = difference(read_yaml(kept), parse_yaml(config), ignored) if kept else ""
    if changed and _begun(run_dir):
        raise RunDirectoryError(
            f"{run_dir} belongs to an experiment with other settings ({changed}); go on with those, or choose "
            "another --run_dir"
        )
    return bool(changed)


def _check_ledger(run_dir: Path) -> None:
    """Refuse a lost, emptied or older ledger: it would be taken for a new run's, and queries be made twice."""
    run = RunDirectory(run_dir)
    begun = [cycle for cycle in run.cycles() if cycle.is_begun]
    if not begun:
        return
    path = run.ledger
    labelled, open_cycle, asked = -1, -1, set[int]()
    if path.is_file() and path.stat().st_size:
        with closing(Ledger(path)) as ledger:
            labelled, open_cycle = len(ledger.labelled()), ledger.cycle
            asked = {e.cycle for e in ledger.events() if e.kind == "queried"}
    for cycle in begun:
        trained = cycle.read_metrics()["labelled_units"] if cycle.is_fitted else 0
        # shards go when the ledger has the query
        queried = cycle.queried.is_file() and not cycle.shards.exists()
        if open_cycle < cycle.number or labelled < trained or (queried and cycle.number not in asked):
            known = f"has {labelled} labelled units" if open_cycle >= 0 else "is lost or empty"
            raise RunDirectoryError(
                f"{path} {known} and does not know of what stands in {cycle.path}"
                f"{f', a fit on {trained}' if trained else ''}; put the ledger back, or choose another --run_dir"
            )


def _keep_config(run_dir: Path, config: str, ignored: tuple[str, ...]) -> None:
    if check_settings(run_dir, config, ignored):
        # all that it may hold is an initial set by other settings, which is chosen again
        RunDirectory(run_dir).remove_ledger()
    with replacing(RunDirectory(run_dir).config) as beside:
        beside.write_text(config)


def keep_query(run_dir: Path, config: str, ignored: tuple[str, ...] = ()) -> None:
    """The same for a query: in the directory of a fit, or in one of its own, where they are kept as query.yaml."""
    if is_first_process():
        check_settings(run_dir, config, ignored)
        run = RunDirectory(run_dir)
        if not run.config.is_file():
            with replacing(run.queries) as beside:
                beside.write_text(config)


def _begun(run_dir: Path) -> bool:
    run = RunDirectory(run_dir)
    if any(cycle.is_begun for cycle in run.cycles()) or any(run.members.glob("*/*")):
        return True
    # what people drew and reviewed stands in the same file
    return run.ledger.is_file() and (
        any(e.kind != "initial" for e in Ledger(run.ledger).events()) or _reviewed(run.ledger)
    )


def _reviewed(ledger: Path) -> bool:
    with closing(Reviews(ledger)) as reviews:
        return bool(reviews.counts())


def experiment_key(settings: dict[str, Any], unit_ids: list[str]) -> str:
    """What the initial model depends on, as a short hash: settings, initial units and torch's version."""
    content = json.dumps([settings, sorted(unit_ids), torch.__version__], sort_keys=True, default=str)
    return hashlib.blake2b(content.encode(), digest_size=10).hexdigest()


def run_cycles(
    make: Callable[[int], Experiment],
    run_dir: Path,
    cycles: int,
    warm_start: bool = False,
    initial_models: Path | None = None,
    settings: dict[str, Any] | None = None,
) -> Iterator[int]:
    """Run cycles 0 to cycles - 1, skipping what is done; yields a cycle's number when it is through.

    make: builds the experiment of a cycle; called once per cycle, because a trainer that has run cannot be used
    again under DDP. Cycle k trains on the initial set and what cycles before k queried; every cycle but the
    last queries. Stops early, saying so, when people still have to draw masks, the pool is empty, or one of the
    experiment's stopping criteria fires, which stopped.json then records; a later call with other criteria goes on.
    warm_start: start from the weights of the cycle before. initial_models: where strategies that share
    `settings` (everything that the first fit depends on) keep their common initial model.
    """
    run = RunDirectory(run_dir)
    if is_first_process():
        run.stopped.unlink(missing_ok=True)
    for cycle in range(cycles):
        last = cycle == cycles - 1
        fitted = run.cycle(cycle).is_fitted
        experiment = None
        if not (fitted and (last or _closed(run_dir, cycle))):
            experiment = make(cycle)
            datamodule = experiment.datamodule
            # a process that comes later must decide as the others did, before the ledger moves
            _broadcast(experiment.trainer)
            if is_first_process():
                datamodule.start()
                datamodule.collect()
            _broadcast(experiment.trainer)
            waiting = datamodule.ledger.waiting(datamodule.ledger.cycle)
            if waiting and datamodule.ledger.cycle <= cycle:
                _tell_waiting(datamodule, waiting)
                return
            if datamodule.ledger.cycle <= cycle:
                _fit_and_query(experiment, run_dir, cycle, fitted, last, warm_start, initial_models, settings or {})
        if run.cycle(cycle).is_fitted:
            yield cycle
        elif is_first_process():
            rank_zero_info(f"Cycle {cycle} was queried without a fit: training goes on with cycle {cycle + 1}.")
        if experiment is not None and not last:
            datamodule = experiment.datamodule
            if waiting := datamodule.ledger.waiting(datamodule.ledger.cycle):
                _tell_waiting(datamodule, waiting)
                return
            if datamodule.ledger.cycle <= cycle:
                if stopped := _why_stop(experiment, run_dir, cycle):
                    _record_stop(run_dir, cycle, stopped)
                    return
                rank_zero_info(f"The pool is empty after cycle {cycle}: stopping.")
                return


def _fit_and_query(
    experiment: Experiment,
    run_dir: Path,
    cycle: int,
    fitted: bool,
    last: bool,
    warm_start: bool,
    initial_models: Path | None,
    settings: dict[str, Any],
) -> None:
    directory, shared = RunDirectory(run_dir).cycle(cycle), None
    if initial_models is not None and cycle == 0 and is_first_process():
        shared = CycleDirectory(initial_models / experiment_key(settings, experiment.datamodule.ledger.labelled()))
    with _holding_initial_model(shared, experiment.trainer):
        if shared is not None and not fitted and shared.is_fitted:
            rank_zero_info(f"Cycle 0: using the initial model in {shared.path}")
            _copy_model(shared, directory)
            log_row(experiment.trainer.loggers, directory.read_metrics())
        _broadcast(experiment.trainer)
        # the run directory alone decides, so that all processes of a job decide alike
        fitted = directory.is_fitted
        experiment.query.after_fit = not last
        experiment.query.enough = lambda: _why_stop(experiment, run_dir, cycle) is not None
        if not fitted:
            _fit(experiment, run_dir, cycle, warm_start)
        if shared is not None and not shared.is_fitted:
            _copy_model(directory, shared)
    if fitted and not last and _why_stop(experiment, run_dir, cycle) is None:
        experiment.trainer.query(experiment.module, experiment.datamodule, ckpt_path=str(directory.best))


def _why_stop(experiment: Experiment, run_dir: Path, cycle: int) -> dict[str, str] | None:
    if not experiment.stop or not RunDirectory(run_dir).cycle(cycle).is_fitted:
        return None
    monitor = str(experiment.module.monitor)
    return why_stop(experiment.stop, history_of(run_dir, cycle, monitor))


def _record_stop(run_dir: Path, cycle: int, stopped: dict[str, str]) -> None:
    if is_first_process():
        write_json(RunDirectory(run_dir).stopped, {"cycle": cycle, **stopped})
    rank_zero_info(f"Stopped after cycle {cycle} by {stopped['criterion']}: {stopped['reason']}.")


def _fit(experiment: Experiment, run_dir: Path, cycle: int, warm_start: bool) -> None:
    directory = RunDirectory(run_dir).cycle(cycle)
    if warm_start and cycle:
        before = RunDirectory(run_dir).cycle(cycle - 1).best
        load_weights(experiment.module, before, "put a whole copy back, or start another --run_dir")
    rank_zero_info(f"Cycle {cycle}: fitting on {len(experiment.datamodule.ledger.labelled())} labelled units")
    # without the best weights so far, only a new fit can find them again
    resumed = directory.best.is_file() and directory.last.is_file()
    ckpt_path = str(directory.last) if resumed else None
    experiment.trainer.fit(experiment.module, experiment.datamodule, ckpt_path=ckpt_path)
    if experiment.trainer.interrupted:
        raise KeyboardInterrupt


@contextmanager
def _holding_initial_model(shared: CycleDirectory | None, trainer: QueryTrainer) -> Iterator[None]:
    """Hold a shared initial model, so that of several strategies started together one trains it.

    All processes of a job wait, with a broadcast now and then: torch gives up one for which it has to wait for hours.
    """
    lock = None
    if shared is not None:
        shared.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(shared.lock)
    if not _broadcast(trainer, lock is None or _acquired(lock, 0)):
        rank_zero_info(f"Cycle 0: waiting for the process that trains the initial model in {shared and shared.path}")
        while not _broadcast(trainer, lock is None or _acquired(lock, _PATIENCE)):
            pass
    try:
        if shared is not None:
            remove_leftovers([shared.path])
        yield
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


def _broadcast(trainer: QueryTrainer, value: bool = True) -> bool:
    """Wait for the others and return the first process's value, where all processes of a job start together.

    Lightning's own launcher starts the others later, from the first one's fit.
    """
    started_by_others = not isinstance(getattr(trainer.strategy, "cluster_environment", None), LightningEnvironment)
    if trainer.world_size > 1 and started_by_others:
        trainer.strategy.setup_environment()
        trainer.strategy.barrier("all have come")
        return trainer.strategy.broadcast(value)
    return value


def _closed(run_dir: Path, cycle: int) -> bool:
    return Ledger(RunDirectory(run_dir).ledger).cycle > cycle


def _tell_waiting(datamodule: PoolDataModule, waiting: list[str]) -> None:
    names = ", ".join(waiting[:3]) + (", ..." if len(waiting) > 3 else "")
    rank_zero_info(
        f"{len(waiting)} queried units wait for a label ({names}): "
        f"{datamodule.oracle.instructions()}, then start the same command again."
    )
