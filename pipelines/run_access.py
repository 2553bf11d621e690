"""Who may work in a run directory: one process at a time, and one experiment for ever."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from callbacks.processes import is_first_process
from pipelines.settings import check_current, difference, parse_yaml, read_yaml
from records.files import RunDirectoryError, remove_leftovers, replacing
from records.ledger import Ledger
from records.reviews import Reviews
from records.run_directory import RunDirectory

__all__ = ["check_settings", "has_begun", "keep_query", "run_directory", "settings_file", "working_in"]

_FIT_ONLY = (
    "trainer.max_epochs", "trainer.max_steps", "trainer.check_val_every_n_epoch", "warm_start", "initial_models",
)  # fmt: skip
"""Settings that no query reads, so that a fit may choose them after a query without one."""

_UNTIL_QUERIED = ("strategy.budget_objects", "strategy.budget_clicks")
"""Settings that may turn out to pay for nothing, which is known after a fit alone."""


@contextmanager
def working_in(run_dir: Path) -> Iterator[None]:
    """Keep other jobs out of the run directory while this one (a process, or several under DDP) works there.

    What killed processes were writing is removed, and so are the shards of queries that the ledger knows.

    Args:
        run_dir: Made if it is not there.

    Raises:
        RunDirectoryError: If another job works there, nothing can be written there, or the ledger knows less than the
            cycles beside it.

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
        asked = _check_ledger(run_dir)
        for cycle in RunDirectory(run_dir).cycles():
            # a kill came between the ledger's commit and this; nobody queries such a cycle again
            if cycle.number in asked and cycle.shards.exists():
                shutil.rmtree(cycle.shards)
        yield
    finally:
        lock.release()


@contextmanager
def run_directory(run_dir: Path, config: str, ignored: tuple[str, ...] = ()) -> Iterator[None]:
    """Work in the run directory (see `working_in`), which belongs to one experiment for ever.

    Where no cycle, no member and no review has left anything yet, other settings are welcome: a first try with a
    mistake must not stand in the way of the second.

    Args:
        run_dir: Made if it is not there.
        config: The experiment's settings as YAML, kept as config.yaml.
        ignored: Settings that may differ from those of before, by dotted name (see `difference`).

    Raises:
        RunDirectoryError: If an experiment with other settings has left something there, and as by `working_in`.

    """
    with working_in(run_dir):
        if is_first_process():
            _keep_config(run_dir, config, ignored)
        yield


def check_settings(run_dir: Path, config: str, ignored: tuple[str, ...] = ()) -> bool:
    """Refuse a directory in which an experiment with other settings has left something.

    Args:
        run_dir: Looked at, not changed.
        config: The settings as YAML.
        ignored: Settings that may differ, by dotted name.

    Returns:
        Whether an experiment with other settings was started there and has left nothing.

    Raises:
        RunDirectoryError: If it has left something.
        ValueError: If that was before `data.source`.

    """
    run = RunDirectory(run_dir)
    kept = settings_file(run)
    if kept == run.queries:
        ignored = (*ignored, *_FIT_ONLY)
    if not any(cycle.queried.is_file() for cycle in run.cycles()):
        ignored = (*ignored, *_UNTIL_QUERIED)
    before = read_yaml(kept) if kept else {}
    changed = difference(before, parse_yaml(config), ignored) if kept else ""
    if kept and changed and has_begun(run_dir):
        check_current(kept, before)
        raise RunDirectoryError(
            f"{run_dir} belongs to an experiment with other settings ({changed}); go on with those, or choose "
            "another --run_dir"
        )
    return bool(changed)


def _check_ledger(run_dir: Path) -> set[int]:
    """Refuse a lost, emptied or older ledger: it would be taken for a new run's, and queries be made twice.

    Returns:
        The cycles whose queries it knows.

    """
    run = RunDirectory(run_dir)
    begun = [cycle for cycle in run.cycles() if cycle.is_begun]
    if not begun:
        return set()
    path = run.ledger
    labelled, open_cycle, asked = -1, -1, set[int]()
    if path.is_file() and path.stat().st_size:
        with closing(Ledger(path)) as ledger:
            labelled, open_cycle = len(ledger.labelled()), ledger.cycle
            asked = {e.cycle for e in ledger.events() if e.kind == "queried"}
    for cycle in begun:
        trained = cycle.read_metrics()["labelled_units"] if cycle.is_fitted else 0
        if open_cycle < cycle.number or labelled < trained or (cycle.is_queried and cycle.number not in asked):
            known = f"has {labelled} labelled units" if open_cycle >= 0 else "is lost or empty"
            raise RunDirectoryError(
                f"{path} {known} and does not know of what stands in {cycle.path}"
                f"{f', a fit on {trained}' if trained else ''}; put the ledger back, or choose another --run_dir"
            )
    return asked


def _keep_config(run_dir: Path, config: str, ignored: tuple[str, ...]) -> None:
    if check_settings(run_dir, config, ignored):
        # all that it may hold is an initial set by other settings, which is chosen again
        RunDirectory(run_dir).remove_ledger()
    with replacing(RunDirectory(run_dir).config) as beside:
        beside.write_text(config)


def keep_query(run_dir: Path, config: str, ignored: tuple[str, ...] = ()) -> None:
    """Check the settings of a query in the directory of a fit, or keep them as query.yaml in one of its own.

    Args:
        run_dir: Which somebody works in already.
        config: The settings as YAML.
        ignored: Settings that may differ, by dotted name.

    Raises:
        RunDirectoryError: If an experiment with other settings has left something there.

    """
    if is_first_process():
        check_settings(run_dir, config, ignored)
        run = RunDirectory(run_dir)
        if not run.config.is_file():
            with replacing(run.queries) as beside:
                beside.write_text(config)


def settings_file(run: RunDirectory) -> Path | None:
    """Where the settings of the experiment are that a directory belongs to; None where there are none."""
    return next((path for path in (run.config, run.queries) if path.is_file()), None)


def has_begun(run_dir: Path) -> bool:
    """Whether an experiment has left something, so that the directory is its own.

    Args:
        run_dir: Looked at, not changed.

    """
    run = RunDirectory(run_dir)
    if any(cycle.is_begun for cycle in run.cycles()) or any(run.members.glob("*/*")):
        return True
    if not run.ledger.is_file():
        return False
    with closing(Ledger(run.ledger)) as ledger, closing(Reviews(run.ledger)) as reviews:
        # what people drew and reviewed stands in the same file
        return any(e.kind != "initial" for e in ledger.events()) or bool(reviews.counts())
