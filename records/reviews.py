"""Annotation, review and correction (seed 000, figure 2.1): who did what with each drawing, and when.

A drawing is one person's annotation of one unit. It is assigned, annotated, and then accepted or rejected by a
reviewer; what is rejected is corrected and reviewed again until it is accepted. Events are only ever added, in a table
of their own beside the ledger's; states are read from them.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from records.database import Database, utc_now

__all__ = ["STATES", "TRANSITIONS", "Review", "ReviewError", "Reviews"]

STATES = ("assigned", "annotated", "accepted", "rejected", "corrected")

TRANSITIONS: dict[str | None, tuple[str, ...]] = {
    None: ("assigned",),
    "assigned": ("annotated",),
    "annotated": ("accepted", "rejected"),
    "rejected": ("corrected",),
    "corrected": ("accepted", "rejected"),
    "accepted": (),
}
"""What may follow a state; None: nothing has happened to the drawing yet."""


class ReviewError(ValueError):
    """An event that cannot follow what has happened to the drawing."""


@dataclass(frozen=True, slots=True)
class Review:
    """One event: `by` did to the annotator's drawing of the unit what the state says, at a time in UTC, ISO format."""

    unit_id: str
    annotator: str
    state: str
    by: str
    at: str = ""


@dataclass(slots=True)
class _Drawing:
    """What the events so far say of a drawing. drawn_by: everybody who drew or corrected it."""

    state: str | None = None
    drawn_by: set[str] | None = None


class Reviews(Database):
    """The table in a ledger's file. Every method that writes is one transaction."""

    def record(self, events: Sequence[Review], assigned: Sequence[tuple[str, str]] = (), by: str = "") -> int:
        """Add events in their order, all or none; those without `at` happen now.

        assigned: (unit id, annotator) that `by` assigns before, except where they are already. Returns how many were
        new.

        Raises ReviewError, with the number of the event, where one does not follow from what has happened, where
        somebody else than the annotator annotates, and where people review what they drew or corrected.
        """
        with self.transaction():
            now, drawings = utc_now(), self._drawings()
            new = [Review(*d, "assigned", by) for d in dict.fromkeys(assigned) if d not in drawings]
            for event in new:
                _advance(drawings.setdefault((event.unit_id, event.annotator), _Drawing()), event)
            for number, event in enumerate(events, 1):
                with _numbered(number, event, self.path):
                    _follow(drawings.setdefault((event.unit_id, event.annotator), _Drawing()), event)
            self._insert([(e.at or now, e.unit_id, e.annotator, e.state, e.by) for e in (*new, *events)])
        return len(new)

    def assign(self, drawings: Sequence[tuple[str, str]], by: str) -> int:
        """Assign (unit id, annotator); returns how many were new. What is assigned already stays as it is."""
        return self.record([], drawings, by)

    def state(self, unit_id: str, annotator: str) -> str | None:
        """The state of a drawing; None if it was never assigned."""
        history = self.history(unit_id, annotator)
        return history[-1].state if history else None

    def history(self, unit_id: str, annotator: str | None = None) -> list[Review]:
        """Everything that happened to a unit's drawings, or to one of them, in the order in which it was recorded."""
        rows = self.rows(
            f"SELECT {_COLUMNS} FROM reviews WHERE unit_id = ?1 AND (?2 IS NULL OR annotator = ?2) ORDER BY id",
            unit_id,
            annotator,
        )
        return [Review(*row) for row in rows]

    def waiting_for(self, person: str) -> dict[str, list[tuple[str, str]]]:
        """What a person can do next, (unit id, annotator), oldest first: annotate and correct their own drawings, and
        review what they neither drew nor corrected.
        """
        waiting: dict[str, list[tuple[str, str]]] = {"annotate": [], "correct": [], "review": []}
        for key, drawing in self._drawings().items():
            own = key[1] == person
            if drawing.state == "assigned" and own:
                waiting["annotate"].append(key)
            elif drawing.state == "rejected" and own:
                waiting["correct"].append(key)
            elif drawing.state in ("annotated", "corrected") and person not in (drawing.drawn_by or ()):
                waiting["review"].append(key)
        return waiting

    def counts(self) -> Counter[tuple[str, str]]:
        """How many drawings of each annotator are in each state, by (annotator, state)."""
        return Counter((annotator, str(d.state)) for (_, annotator), d in self._drawings().items())

    def _drawings(self) -> dict[tuple[str, str], _Drawing]:
        drawings: dict[tuple[str, str], _Drawing] = {}
        for row in self.rows(f"SELECT {_COLUMNS} FROM reviews ORDER BY id"):
            event = Review(*row)
            _advance(drawings.setdefault((event.unit_id, event.annotator), _Drawing()), event)
        return drawings

    def _insert(self, rows: Sequence[tuple[str, str, str, str, str]]) -> None:
        self.connection.executemany(
            'INSERT INTO reviews (at, unit_id, annotator, state, "by") VALUES (?, ?, ?, ?, ?)', rows
        )


_COLUMNS = 'unit_id, annotator, state, "by", at'


def _follow(drawing: _Drawing, event: Review) -> None:
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


def _advance(drawing: _Drawing, event: Review) -> None:
    drawing.state = event.state
    if event.state in ("annotated", "corrected"):
        drawing.drawn_by = (drawing.drawn_by or set()) | {event.by}


@contextmanager
def _numbered(number: int, event: Review, path: Path) -> Iterator[None]:
    try:
        yield
    except ReviewError as error:
        raise ReviewError(
            f"event {number} ({event.state} by {event.by!r}) cannot happen to the drawing of {event.unit_id!r} by "
            f"{event.annotator!r}: {error}; none of these events was recorded in {path}"
        ) from error
