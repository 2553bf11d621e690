"""The ledger: what happened to every unit, in SQLite.

Events are only ever added. Which units are labelled and which cycle is open is derived from the events and stored
nowhere else.
"""

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from records.database import Database, LedgerError, utc_now

__all__ = ["AlreadyLabelledError", "Event", "Labelled", "Ledger", "LedgerError", "Queried"]


_REJECTED = """SELECT unit_id FROM
    (SELECT unit_id, state, MAX(id) FROM reviews WHERE state != 'assigned' GROUP BY unit_id, annotator)
    GROUP BY unit_id HAVING SUM(state != 'rejected') = 0"""
"""Units all of whose drawings are rejected: SQLite takes the state from the row of the largest id."""


class AlreadyLabelledError(ValueError):
    """A unit was to be labelled a second time."""


@dataclass(frozen=True, slots=True)
class Queried:
    """A unit that a strategy chose; rank 1 is the first choice."""

    unit_id: str
    score: float
    rank: int


class Labelled(NamedTuple):
    """What a unit's label cost; what others had brought before is not counted again.

    Args:
        unit_id: The unit.
        pixels: How many were labelled with it.
        objects: How many objects were; None where objects are not counted.
        clicks: How many clicks that took; None where clicks are not counted.
    """

    unit_id: str
    pixels: int
    objects: int | None = None
    clicks: int | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the ledger.

    Args:
        at: Time in UTC, in ISO format.
        cycle: The cycle in which it happened, from 0.
        kind: initial, queried, labelled or cycle closed.
        unit_id: The unit; None where a cycle was closed.
        strategy: The name of the strategy that chose the unit, and what is wrong on purpose with its label.
        score: The unit's score when it was queried.
        rank: Its place in the query, from 1.
        pixels: How many pixels were labelled with it.
        objects: How many objects were; None where objects are not counted.
        clicks: How many clicks that took; None where clicks are not counted.
    """

    at: str
    cycle: int
    kind: str
    unit_id: str | None
    strategy: str | None
    score: float | None
    rank: int | None
    pixels: int | None
    objects: int | None = None
    clicks: int | None = None


class Ledger(Database):
    """The events of a run, by unit and cycle; every method that writes is one transaction.

    Args:
        path: The SQLite file, created if it is missing.
    """

    @property
    def cycle(self) -> int:
        """The open cycle: one more than the last closed one, 0 at first."""
        (last,) = self.rows("SELECT MAX(cycle) FROM events WHERE kind = 'cycle closed'")[0]
        return 0 if last is None else int(last) + 1

    def events(self) -> list[Event]:
        """All events, in the order in which they were recorded."""
        columns = "at, cycle, kind, unit_id, strategy, score, rank, pixels, objects, clicks"
        return [Event(*row) for row in self.rows(f"SELECT {columns} FROM events ORDER BY id")]

    def labelled(self) -> list[str]:
        """Ids of the units that were labelled, in the order of labelling."""
        return [u for (u,) in self.rows("SELECT unit_id FROM events WHERE kind IN ('initial', 'labelled') ORDER BY id")]

    def rejected(self) -> set[str]:
        """Ids of the units whose drawings were all rejected in review, and not corrected since; labelled or not.

        A unit of which somebody else's drawing stands is not among them (see `records.reviews`).
        """
        return {u for (u,) in self.rows(f"SELECT unit_id FROM ({_REJECTED})")}

    def training(self) -> list[str]:
        """Ids of the units that may be trained on, in the order of labelling: the labelled ones but `rejected`."""
        rejected = self.rejected()
        return [unit_id for unit_id in self.labelled() if unit_id not in rejected]

    def training_state(self) -> str:
        """What a fit learns from, as a text that changes with it: the units, and how often each was corrected."""
        rows = self.rows("SELECT unit_id, COUNT(*) FROM reviews WHERE state = 'corrected' GROUP BY unit_id")
        corrected: dict[str, int] = dict(rows)
        said = repr([(unit_id, corrected.get(unit_id, 0)) for unit_id in sorted(self.training())])
        return hashlib.blake2b(said.encode(), digest_size=16).hexdigest()

    def initial(self) -> list[str]:
        """Ids of the units with which the run began, in the order in which they were chosen."""
        return [u for (u,) in self.rows("SELECT unit_id FROM events WHERE kind = 'initial' ORDER BY id")]

    def labelled_pixels(self) -> int:
        """Number of pixels of all units together that may be trained on."""
        return self._total("pixels") or 0

    def labelled_objects(self) -> int | None:
        """The number of their objects; None where objects are not counted."""
        return self._total("objects")

    def labelled_clicks(self) -> int | None:
        """The number of clicks that their labels took; None where clicks are not counted."""
        return self._total("clicks")

    def _total(self, column: str) -> int | None:
        (total,) = self.rows(
            f"""SELECT SUM({column}) FROM events
                WHERE kind IN ('initial', 'labelled') AND unit_id NOT IN (SELECT unit_id FROM ({_REJECTED}))"""
        )[0]
        return None if total is None else int(total)

    def queried(self, cycle: int) -> list[Queried]:
        """Units that were queried in a cycle, first choice first; empty before its query."""
        rows = self.rows(
            "SELECT unit_id, score, rank FROM events WHERE kind = 'queried' AND cycle = ? ORDER BY rank", cycle
        )
        return [Queried(*row) for row in rows]

    def waiting(self, cycle: int) -> list[str]:
        """Ids of the units that were queried in a cycle and are not labelled yet, first choice first."""
        queried = self.queried(cycle)
        labelled = set(self.labelled()) if queried else set()
        return [q.unit_id for q in queried if q.unit_id not in labelled]

    def initial_labels(self) -> str | None:
        """What is wrong on purpose with the labels with which the run began; None if nothing is known to be."""
        return self.rows("SELECT MAX(strategy) FROM events WHERE kind = 'initial'")[0][0]

    def start(self, units: Sequence[Labelled], labels: str | None = None) -> None:
        """Label the initial set.

        Args:
            units: What each unit cost.
            labels: What is wrong on purpose with their labels.

        Raises:
            AlreadyLabelledError: A unit is labelled already; nothing is recorded.
        """
        with self.transaction():
            self._label("initial", 0, units, labels)

    def query(self, cycle: int, strategy: str, chosen: Sequence[Queried], answered: Sequence[Labelled]) -> None:
        """Record a query, label the units that the oracle answered, and close the cycle if those are all of them.

        Args:
            cycle: The cycle that queries.
            strategy: The strategy's name.
            chosen: The queried units.
            answered: What the units cost whose labels are there already.

        Raises:
            AlreadyLabelledError: An answered unit is labelled already; nothing is recorded.
        """
        with self.transaction():
            now = utc_now()
            self.connection.executemany(
                """INSERT INTO events (at, cycle, kind, unit_id, strategy, score, rank)
                   VALUES (?, ?, 'queried', ?, ?, ?, ?)""",
                [(now, cycle, q.unit_id, strategy, q.score, q.rank) for q in chosen],
            )
            self._label("labelled", cycle, answered)
            if len(answered) == len(chosen):
                self._close_cycle(cycle)

    def label(self, cycle: int, units: Sequence[Labelled], close_cycle: bool = False) -> None:
        """Label units whose labels came after the query.

        Args:
            cycle: The cycle that queried them.
            units: What each unit cost.
            close_cycle: Whether the cycle is closed in the same transaction.

        Raises:
            AlreadyLabelledError: A unit is labelled already; nothing is recorded.
        """
        with self.transaction():
            self._label("labelled", cycle, units)
            if close_cycle:
                self._close_cycle(cycle)

    def _label(self, kind: str, cycle: int, units: Sequence[Labelled], strategy: str | None = None) -> None:
        now = utc_now()
        labelled = set(self.labelled())
        try:
            self.connection.executemany(
                """INSERT INTO events (at, cycle, kind, unit_id, pixels, objects, clicks, strategy, score, rank)
                   SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, COALESCE(q.strategy, ?8), q.score, q.rank FROM (SELECT 1)
                   LEFT JOIN (SELECT * FROM events WHERE kind = 'queried' AND unit_id = ?4
                              ORDER BY id DESC LIMIT 1) q""",
                [(now, cycle, kind, *Labelled(*unit), strategy) for unit in units],
            )
        except sqlite3.IntegrityError as error:
            again = next(
                (f"{unit[0]!r} is labelled already" for unit in units if unit[0] in labelled),
                "one is named twice in a call",
            )
            raise AlreadyLabelledError(
                f"a unit is labelled once, but {again} in {self.path}; nothing was changed"
            ) from error

    def _close_cycle(self, cycle: int) -> None:
        if cycle < self.cycle:
            raise ValueError(f"cycle {cycle} is closed already in {self.path}, the open one is {self.cycle}")
        self.connection.execute(
            "INSERT INTO events (at, cycle, kind) VALUES (?, ?, 'cycle closed')", (utc_now(), cycle)
        )
