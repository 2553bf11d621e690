"""The verb review: events of annotation, review and correction from files into the ledger."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from datamodules.files import DataError
from records.reviews import STATES, Review, Reviews
from records.run_directory import RunDirectory

__all__ = ["read_assignments", "read_events", "review"]


def review(run_dir: Path, events: Path | None = None, assignments: Path | None = None) -> None:
    """Record who annotated, accepted, rejected and corrected which image, and print how far everybody is.

    Args:
        run_dir: Run directory whose ledger.sqlite keeps the events.
        events: CSV with unit_id, annotator (whose drawing), state (assigned, annotated, accepted, rejected, corrected),
            by (who did it) and, if known, at (ISO time, UTC unless it says otherwise). Both files are recorded whole or
            not at all.
        assignments: CSV that assign wrote, recorded first; what was assigned before is passed over.
    """
    ledger = RunDirectory(run_dir).ledger
    if assignments is None and not ledger.is_file():
        raise DataError(
            f"expected a ledger at {ledger}, got no such file; check --run_dir, or begin one with --assignments"
        )
    given = [] if assignments is None else read_assignments(assignments)
    happened = [] if events is None else read_events(events)
    with closing(Reviews(ledger)) as reviews:
        new = reviews.record(happened, given, by="assign")
        if assignments is not None:
            print(f"{new} drawings assigned, {len(given) - new} were already")
        if events is not None:
            print(f"{len(happened)} events recorded")
        counts = reviews.counts()
    people = sorted({annotator for annotator, _ in counts})
    table = pd.DataFrame([[counts[p, s] for s in STATES] for p in people], index=people, columns=list(STATES))
    print(table.rename_axis("annotator").to_string() if len(table) else "nothing is assigned yet")


def read_assignments(path: Path) -> list[tuple[str, str]]:
    """(unit id, annotator) from the CSV that assign wrote."""
    table = _read(path, ["unit_id", "annotator"])
    return list(zip(table["unit_id"], table["annotator"], strict=True))


def read_events(path: Path) -> list[Review]:
    """Events from a CSV file, in its order."""
    table = _read(path, ["unit_id", "annotator", "state", "by"])
    times = table["at"] if "at" in table else [""] * len(table)
    return [
        Review(unit_id, annotator, state, by, _utc(at, path))
        for unit_id, annotator, state, by, at in zip(
            table["unit_id"], table["annotator"], table["state"], table["by"], times, strict=True
        )
    ]


def _read(path: Path, needed: list[str]) -> pd.DataFrame:
    if not path.is_file():
        raise DataError(f"expected a CSV file at {path}, got no such file; check the path")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except ValueError as error:
        raise DataError(f"{path} is not a readable CSV file ({error}); write it anew") from error
    if missing := [c for c in needed if c not in table]:
        raise DataError(
            f"expected the columns {', '.join(needed)} in {path}, got {', '.join(table.columns)}: "
            f"{', '.join(missing)} is missing"
        )
    table = table.apply(lambda column: column.str.strip())
    for column in needed:
        if (empty := (table[column] == "").to_numpy()).any():
            raise DataError(f"row {int(empty.argmax()) + 1} of {path} has no {column}; fill it in")
    return table


def _utc(at: str, path: Path) -> str:
    if not at:
        return ""
    try:
        time = datetime.fromisoformat(at)
    except ValueError as error:
        raise DataError(
            f"expected an ISO time such as 2024-05-31T14:00+02:00 in the column at of {path}, got {at!r}; correct it"
        ) from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="milliseconds")
