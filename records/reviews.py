"""Annotation, review and correction of drawings: who did what, and when (Wilhelmsson, figure 2.1).

A drawing is one person's annotation of one unit. It is assigned, annotated, and then accepted or rejected by a
reviewer; a rejected drawing is corrected and reviewed again until it is accepted. Events are only ever added, to a
table of their own in the ledger's file; the state of a drawing follows from its events.

Reference:
    Jens Wilhelmsson, "Predicting annotation difficulty using Monte Carlo dropout", master's thesis, Chalmers (undated).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from records.database import Database, utc_now

__all__ = ["STATES", "TRANSITIONS", "ReviewError", "ReviewEvent", "Reviews"]

STATES = ("assigned", "annotated", "accepted", "rejected", "corrected")

TRANSITIONS: dict[str | None, tuple[str, ...]] = {
    None: ("assigned",),
    "assigned": ("annotated",),
    "annotated": ("accepted", "rejected"),
    "rejected": ("corrected",),
    "corrected": ("accepted", "rejected"),
    "accepted": (),
}
"""The states that may follow a state; None stands for a drawing without events."""


class ReviewError(ValueError):
    """An event that cannot follow the drawing's earlier events."""


@dataclass(frozen=True, slots=True)
class ReviewEvent:
    """One event in the life of a drawing.

    Args:
        unit_id: The unit that is drawn.
        annotator: The person whose drawing it is.
        state: The state that the event leads to, one of `STATES`.
        by: The person who acted: the annotator, a reviewer, or the person who assigns.
        at: Time in UTC, in ISO format; "" for the time of recording.
    """

    unit_id: str
    annotator: str
    state: str
    by: str
    at: str = ""


@dataclass(slots=True)
class _Drawing:
    """The state of a drawing, and everybody who drew or corrected it."""

    state: str | None = None
    drawn_by: set[str] | None = None


class Reviews(Database):
    """The events of all drawings, in the ledger's file; every method that writes is one transaction.

    Args:
        path: The run's ledger, created if it is missing.
    """

    def record(self, events: Sequence[ReviewEvent], assigned: Sequence[tuple[str, str]] = (), by: str = "") -> int:
        """Add events in their order, all or none.

        Args:
            events: What happened; an event without `at` happens now.
            assigned: (unit id, annotator) of drawings to assign before the events; those assigned already are skipped.
            by: The person who assigns.

        Returns:
            The number of drawings that were newly assigned.

        Raises:
            ReviewError: An event cannot follow the drawing's state, somebody other than the annotator annotates, or
                people review what they drew or corrected. The message gives the number of the event, from 1.
        """
        with self.transaction():
            now, drawings = utc_now(), self._drawings()
            new = [ReviewEvent(*d, "assigned", by) for d in dict.fromkeys(assigned) if d not in drawings]
            for event in new:
                _advance(drawings.setdefault((event.unit_id, event.annotator), _Drawing()), event)
            for number, event in enumerate(events, 1):
                with _numbered(number, event, self.path):
                    _follow(drawings.setdefault((event.unit_id, event.annotator), _Drawing()), event)
            self._insert([(e.at or now, e.unit_id, e.annotator, e.state, e.by) for e in (*new, *events)])
        return len(new)

    def assign(self, drawings: Sequence[tuple[str, str]], by: str) -> int:
        """Assign drawings; those assigned already are skipped.

        Args:
            drawings: (unit id, annotator) of each drawing.
            by: The person who assigns.

        Returns:
            The number of drawings that were newly assigned.
        """
        return self.record([], drawings, by)

    def state(self, unit_id: str, annotator: str) -> str | None:
        """The state of a drawing, or None if it was never assigned."""
        history = self.history(unit_id, annotator)
        return history[-1].state if history else None

    def history(self, unit_id: str, annotator: str | None = None) -> list[ReviewEvent]:
        """The events of a unit's drawings, in the order of recording.

        Args:
            unit_id: The unit.
            annotator: Whose drawing; None for all drawings of the unit.
        """
        rows = self.rows(
            f"SELECT {_COLUMNS} FROM reviews WHERE unit_id = ?1 AND (?2 IS NULL OR annotator = ?2) ORDER BY id",
            unit_id,
            annotator,
        )
        return [ReviewEvent(*row) for row in rows]

    def counts(self) -> Counter[tuple[str, str]]:
        """The number of drawings by (annotator, state)."""
        return Counter((annotator, str(d.state)) for (_, annotator), d in self._drawings().items())

    def latest(self) -> list[ReviewEvent]:
        """The last event of every drawing, which says its state, in the order in which drawings were assigned."""
        last: dict[tuple[str, str], ReviewEvent] = {}
        for row in self.rows(f"SELECT {_COLUMNS} FROM reviews ORDER BY id"):
            event = ReviewEvent(*row)
            last[event.unit_id, event.annotator] = event
        return list(last.values())

    def _drawings(self) -> dict[tuple[str, str], _Drawing]:
        drawings: dict[tuple[str, str], _Drawing] = {}
        for row in self.rows(f"SELECT {_COLUMNS} FROM reviews ORDER BY id"):
            event = ReviewEvent(*row)
            _advance(drawings.setdefault((event.unit_id, event.annotator), _Drawing()), event)
        return drawings

    def _insert(self, rows: Sequence[tuple[str, str, str, str, str]]) -> None:
        self.connection.executemany(
            'INSERT INTO reviews (at, unit_id, annotator, state, "by") VALUES (?, ?, ?, ?, ?)', rows
        )


_COLUMNS = 'unit_id, annotator, state, "by", at'


def _follow(drawing: _Drawing, event: ReviewEvent) -> None:
    if event.state not in STATES:
        raise ReviewError(f"the state {event.state!r} is none of {', '.join(STATES)}")
    allowed = TRANSITIONS[drawing.state]
    if event.state not in allowed:
        now = f"is {drawing.state}" if drawing.state else "was never assigned"
        after = f"only {' or '.join(allowed)} can follow" if allowed else "nothing can follow"
        raise ReviewError(f"it {now}, so {after}")
    if event.state == "annotated" and event.by != event.annotator:
        raise ReviewError(f"it is assigned to {event.annotator!r}, so nobody else can annotate it")
    if event.state in ("accepted", "rejected") and event.by in (drawing.drawn_by or ()):
        raise ReviewError(f"{event.by!r} drew or corrected it, and nobody reviews their own work; let another person")
    _advance(drawing, event)


def _advance(drawing: _Drawing, event: ReviewEvent) -> None:
    drawing.state = event.state
    if event.state in ("annotated", "corrected"):
        drawing.drawn_by = (drawing.drawn_by or set()) | {event.by}


@contextmanager
def _numbered(number: int, event: ReviewEvent, path: Path) -> Iterator[None]:
    try:
        yield
    except ReviewError as error:
        raise ReviewError(
            f"event {number} ({event.state} by {event.by!r}) cannot happen to the drawing of {event.unit_id!r} by "
            f"{event.annotator!r}: {error}; none of these events was recorded in {path}"
        ) from error
