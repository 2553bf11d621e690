"""The active-learning loop: fit, evaluate, query, label, again; for one run or for many at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities import rank_zero_info

from callbacks.painter import add_annotations
from callbacks.processes import is_first_process
from callbacks.query import QueryCallback
from datamodules.datamodule import PoolDataModule
from datamodules.oracle import COUNTING
from datamodules.pool import Pool
from pipelines.meetings import meet
from pipelines.stopping import CycleEnd
from pipelines.trainer import QueryTrainer
from records.ledger import Ledger
from records.run_directory import CycleDirectory, RunDirectory

__all__ = ["Experiment", "Fitter", "Run", "Turn", "run_cycles"]


@dataclass(frozen=True)
class Experiment:
    """What the settings of a run describe, made afresh for a cycle.

    Args:
        module: What is trained.
        datamodule: Its labelled split and its pool.
        query: The strategy.
        end: Whether the cycle's fit ends with a query; the trainer's `QueryCallback` asks the same.
        trainer: None where something else fits.
    """

    module: LightningModule
    datamodule: PoolDataModule
    query: QueryCallback
    end: CycleEnd
    trainer: QueryTrainer | None = None


@dataclass
class Run:
    """A run on its way through the cycles.

    Args:
        run_dir: Its directory.
        make: From a cycle's number, and whether it is the last, to what a fit of that cycle begins with.
        name: Before what is said of it; "" where it is the only one.
    """

    run_dir: Path
    make: Callable[[int, bool], Experiment]
    name: str = ""
    error: str = field(default="", init=False)
    """What ended it, where its mistakes are its own."""
    over: bool = field(default=False, init=False)
    """Whether it goes no further: people have to label, the pool is empty, or a criterion has fired."""

    def cycle(self, number: int) -> CycleDirectory:
        """What the cycle leaves behind."""
        return RunDirectory(self.run_dir).cycle(number)

    def is_done(self, cycle: int, last: bool) -> bool:
        """Whether a cycle has its scores and, unless it is the last, its labels."""
        return self.cycle(cycle).is_fitted and (last or Ledger(RunDirectory(self.run_dir).ledger).cycle > cycle)

    def say(self, text: str) -> None:
        """Tell the user, in the first process."""
        rank_zero_info(f"{self.name}: {text}" if self.name else text)


AnyRun = TypeVar("AnyRun", bound=Run)


@dataclass(frozen=True)
class Turn(Generic[AnyRun]):
    """What is to be done for a run in the open cycle: a fit, unless that is done, and then a query, if any."""

    run: AnyRun
    directory: CycleDirectory
    experiment: Experiment


class Fitter(Protocol[AnyRun]):
    """How runs are fitted: a Lightning trainer (`pipelines.single`), or a stack of networks (`pipelines.stacked`)."""

    def guard(self, run: AnyRun) -> AbstractContextManager[None]:
        """A context for what is done for one run; it says whether a mistake ends the program or is the run's own."""

    def make(self, run: AnyRun, cycle: int, last: bool) -> Experiment:
        """Make what a fit of the cycle needs."""

    def fit(self, turns: "Sequence[Turn[AnyRun]]") -> None:
        """Make the fits that are not done, each with best.ckpt and, written last, metrics.json; then query where the
        experiment's end says so. Both in one call, because a trainer that has run cannot be used again under DDP.
        """


def run_cycles(runs: Sequence[AnyRun], fitter: Fitter[AnyRun], cycles: int) -> Iterator[AnyRun]:
    """Run cycles 0 to cycles - 1 of every run, skipping what is done.

    Cycle k trains on the initial set and what cycles before k queried; every cycle but the last queries. A run stops
    early, saying so, when people still have to label, the pool is empty, or one of its stopping criteria fires, which
    stopped.json then records; a later call with other criteria goes on.

    Args:
        runs: One run, or several that go through the cycles side by side.
        fitter: Fits them.
        cycles: How many, the first included.

    Yields:
        A run whenever a fitted cycle of it is through.

    """
    for run in runs:
        if is_first_process() and not run.error:
            RunDirectory(run.run_dir).stopped.unlink(missing_ok=True)
    for cycle in range(cycles):
        last = cycle == cycles - 1
        going, turns = [run for run in runs if not (run.over or run.error)], list[Turn[AnyRun]]()
        for run in going:
            with fitter.guard(run):
                if not run.is_done(cycle, last):
                    turns += _opened(run, fitter, cycle, last)
        if turns:
            fitter.fit(turns)
        for run in going:
            if run.error:
                continue
            # one that waits for people as well: it may have been killed before its caller drew the curve
            if run.cycle(cycle).is_fitted:
                yield run
            elif not run.over:
                run.say(f"Cycle {cycle} was queried without a fit: training goes on with cycle {cycle + 1}.")
        for turn in turns:
            with fitter.guard(turn.run):
                if not (last or turn.run.error):
                    _close(turn, cycle)


def _opened(run: AnyRun, fitter: Fitter[AnyRun], cycle: int, last: bool) -> list[Turn[AnyRun]]:
    """The run's turn; none where people have to label first, or where the cycle was closed in the meantime."""
    experiment = fitter.make(run, cycle, last)
    pool = experiment.datamodule.pool
    for name in (name for criterion in experiment.end.criteria for name in criterion.needs_counted):
        if name not in pool.oracle.counts:
            raise ValueError(
                f"a stopping criterion needs {name} to be counted: expected a data.oracle that does, got "
                f"{pool.oracle.short_description}; set it to {COUNTING[name]}"
            )
    # a process that comes later must decide as the others did, before the ledger moves
    meet(experiment.trainer)
    if is_first_process():
        pool.start()
        pool.collect()
        add_annotations(pool)
    meet(experiment.trainer)
    if pool.ledger.cycle > cycle:
        return []
    run.over = _waits(run, pool)
    return [] if run.over else [Turn(run, run.cycle(cycle), experiment)]


def _close(turn: Turn[AnyRun], cycle: int) -> None:
    """See whether the run can go on with the next cycle."""
    run, pool = turn.run, turn.experiment.datamodule.pool
    run.over = _waits(run, pool)
    if not run.over and pool.ledger.cycle <= cycle:
        run.over = True
        if not RunDirectory(run.run_dir).stopped.is_file():
            run.say(f"The pool is empty after cycle {cycle}: stopping.")


def _waits(run: Run, pool: Pool) -> bool:
    """Whether queried units wait for people, who are then told."""
    waiting = pool.ledger.waiting(pool.ledger.cycle)
    if waiting:
        names = ", ".join(waiting[:3]) + (", ..." if len(waiting) > 3 else "")
        rejected = pool.ledger.rejected() & set(waiting)
        again = f" {len(rejected)} of them were rejected in review and have to be corrected." if rejected else ""
        run.say(
            f"{len(waiting)} queried units wait for a label ({names}): "
            f"{pool.oracle.instructions()}, then start the same command again.{again}"
        )
    return bool(waiting)
