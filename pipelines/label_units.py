"""Labels that came without a query, into the ledger of a run."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.pool import Pool
from pipelines.parsers import VerbParser
from pipelines.run_access import working_in
from pipelines.settings import read_yaml
from records.run_directory import RunDirectory

__all__ = ["label_units", "pool_of"]

_SHOWN = 3


def label_units(run: RunDirectory, units: Sequence[str]) -> int:
    """Move units of a run into its labelled split, all or none.

    Args:
        run: The run's directory.
        units: Their ids.

    Returns:
        How many units are labelled now.

    Raises:
        DataError: One of them cannot be labelled without a query, or the run has not begun.
        RunDirectoryError: Another process works in the directory.
    """
    with working_in(run.path):
        pool = pool_of(run)
        _check(pool, units)
        pool.label(units)
        return len(pool.ledger.labelled())


def pool_of(run: RunDirectory) -> Pool:
    """What there is to label in a run, by its config.yaml.

    Args:
        run: Its directory.
    """
    settings = read_yaml(run.config)
    data: dict[str, Any] = dict(settings["data"])
    data |= {"run_dir": str(run.path), "seed": settings.get("seed_everything", 0)}
    data["initial_run"] = settings.get("initial_run")
    parser = VerbParser()
    parser.add_class_arguments(PoolDataModule, "data", fail_untyped=False)
    made: PoolDataModule = parser.instantiate(parser.parse_object({"data": data})).data
    return made.pool


def _check(pool: Pool, units: Sequence[str]) -> None:
    """Refuse what cannot be labelled without a query, in the words of the verb."""
    ledger, known = pool.ledger, pool.units.location
    if not ledger.labelled():
        raise DataError(
            f"nothing is labelled yet in {ledger.path}: the first fit takes what is drawn by itself (data.initial): "
            "run fit"
        )
    if twice := [u for u, times in Counter(units).items() if times > 1]:
        raise DataError(f"a unit is labelled once, got {_some(twice)} twice; name it once")
    kept = set(pool.kept_for_validation())
    if held := [u for u in units if u in kept]:
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
