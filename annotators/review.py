"""The verb review: events of annotation, review and correction, from CSV files into the ledger."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from annotators.tables import read_table
from datamodules.files import DataError
from records.reviews import STATES, ReviewEvent, Reviews
from records.run_directory import RunDirectory

__all__ = ["read_assignments", "read_events", "review"]


def review(run_dir: Path, events: Path | None = None, assignments: Path | None = None) -> None:
    """Record who annotated, accepted, rejected and corrected which image, and print the counts per annotator.

    All events and assignments are recorded, or none.

    Args:
        run_dir: Run directory whose ledger.sqlite keeps the events.
        events: CSV with the columns unit_id, annotator (whose drawing), state (assigned, annotated, accepted, rejected
            or corrected), by (who acted) and, optionally, at (ISO time, in UTC unless it names an offset).
        assignments: CSV written by assign, recorded before the events; drawings assigned already are skipped.

    Raises:
        DataError: A file is missing or damaged, or there is no ledger.
        ReviewError: An event cannot follow what has happened to the drawing.
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
    """Read (unit id, annotator) of each drawing from a CSV file written by assign."""
    table = _read(path, ["unit_id", "annotator"])
    return list(zip(table["unit_id"], table["annotator"], strict=True))


def read_events(path: Path) -> list[ReviewEvent]:
    """Read events from a CSV file, in the order of its rows.

    Args:
        path: CSV file with the columns unit_id, annotator, state, by and, optionally, at.

    Raises:
        DataError: The file is missing or damaged, a column or value is missing, or a time is not in ISO format.
    """
    table = _read(path, ["unit_id", "annotator", "state", "by"])
    times = table["at"] if "at" in table else [""] * len(table)
    return [
        ReviewEvent(unit_id, annotator, state, by, _utc(at, path))
        for unit_id, annotator, state, by, at in zip(
            table["unit_id"], table["annotator"], table["state"], table["by"], times, strict=True
        )
    ]


def _read(path: Path, needed: list[str]) -> pd.DataFrame:
    table = read_table(path)
    if missing := [c for c in needed if c not in table]:
        raise DataError(
            f"expected the columns {', '.join(needed)} in {path}, got {', '.join(table.columns)}: "
            f"{', '.join(missing)} is missing"
        )
    table = table.apply(lambda column: column.fillna("").astype(str).str.strip())
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
