"""The verb label: labels that came without a query."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datamodules.files import DataError
from pipelines.parsers import VerbParser
from pipelines.settings import check_run_dir, read_yaml
from records.run_directory import RunDirectory

if TYPE_CHECKING:
    from datamodules.pool import Pool

__all__ = ["label", "pool_of"]

_SHOWN = 3


def label(run_dir: Path, units: list[str]) -> None:
    """Move units that were labelled without a query into the labelled split of a run: all of them, or none.

    Their masks or classes must be there, drawn where the run's people draw (data.oracle). The next fit trains on them;
    one that was cut begins anew. Data set and oracle are those of the run's config.yaml.

    Args:
        run_dir: The directory of a run that has begun.
        units: Ids of units, as in the column unit_id of queried.csv; they may follow the options one after another.

    Raises:
        DataError: A unit is unknown, labelled already, queried and waiting, rejected in review or not drawn yet, or the
            run has not begun. Nothing is labelled then.
        RunDirectoryError: Another process works in the directory.
    """
    from pipelines.run_access import working_in  # imports Lightning, which its help does without

    run = RunDirectory(check_run_dir(str(run_dir)))
    if not run.config.is_file():
        raise DataError(
            f"expected the settings of a run at {run.config}, got no such file; give the --run_dir of a fit that has "
            "begun"
        )
    if not units:
        raise DataError("expected the ids of units to label, got none; name them after the options")
    with working_in(run.path):
        pool = pool_of(run)
        _check(pool, units)
        pool.label(units)
        labelled = len(pool.ledger.labelled())
    print(
        f"{len(units)} labelled, {labelled} in all; the next fit trains on them:\n"
        f"  dropquery fit --config {run.config} --run_dir {run.path}"
    )


def pool_of(run: RunDirectory) -> "Pool":
    """What there is to label in a run, by its config.yaml.

    Args:
        run: Its directory.
    """
    from datamodules.datamodule import PoolDataModule

    settings = read_yaml(run.config)
    data: dict[str, Any] = dict(settings["data"])
    data |= {"run_dir": str(run.path), "seed": settings.get("seed_everything", 0)}
    data["initial_run"] = settings.get("initial_run")
    parser = VerbParser()
    parser.add_class_arguments(PoolDataModule, "data", fail_untyped=False)
    made: PoolDataModule = parser.instantiate(parser.parse_object({"data": data})).data
    return made.pool


def _check(pool: "Pool", units: Sequence[str]) -> None:
    """Refuse what cannot be labelled without a query, in the words of the verb."""
    ledger, known = pool.ledger, pool.units.location
    if not ledger.labelled():
        raise DataError(
            f"nothing is labelled yet in {ledger.path}: the first fit takes what is drawn by itself (data.initial): "
            "run fit"
        )
    if twice := [u for u, times in Counter(units).items() if times > 1]:
        raise DataError(f"a unit is labelled once, got {_some(twice)} twice; name it once")
    if held := [u for u in units if u in set(pool.kept_for_validation())]:
        raise DataError(
            f"{_some(held)} is held out for validation, and its {pool.source.target} is read there as soon as it is "
            "drawn; leave it out"
        )
    if strangers := [u for u in units if u not in known]:
        raise DataError(
            f"expected units of the train split of {pool.source.short_description}, got {_some(strangers)}; ids look "
            f"like {pool.units.ids[0]!r}"
        )
    done = set(ledger.labelled())
    if again := [u for u in units if u in done]:
        raise DataError(
            f"{_some(again)} is labelled already in {ledger.path}; leave it out: a {pool.source.target} that has been "
            "corrected is read by the next fit"
        )
    waiting = set(ledger.waiting(ledger.cycle))
    if asked := [u for u in units if u in waiting]:
        raise DataError(
            f"{_some(asked)} was queried in cycle {ledger.cycle} and is waited for; leave it out: fit takes it as soon "
            "as it is drawn"
        )


def _some(units: Sequence[str]) -> str:
    return ", ".join(map(repr, units[:_SHOWN])) + (f" and {len(units) - _SHOWN} more" if len(units) > _SHOWN else "")
