"""Nothing labelled is ever lost or labelled twice."""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from records.ledger import AlreadyLabelledError, Labelled, Ledger, LedgerError, Queried
from records.reviews import ReviewEvent, Reviews

UNITS = [f"u{i}" for i in range(8)]


def chosen(*unit_ids: str) -> list[Queried]:
    return [Queried(u, 1 / (i + 1), i + 1) for i, u in enumerate(unit_ids)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "run" / "ledger.sqlite")


def test_a_cycle_from_the_initial_set_to_its_close(ledger: Ledger) -> None:
    assert (ledger.cycle, ledger.labelled(), ledger.events()) == (0, [], [])
    ledger.start([("b", 100), ("a", 50)])
    ledger.query(0, "BALD-Mean", chosen("d", "c"), [("c", 7)])
    assert ledger.cycle == 0
    assert ledger.waiting(0) == ["d"]
    ledger.label(0, [("d", 9)], close_cycle=True)
    assert ledger.cycle == 1
    assert ledger.waiting(0) == []
    assert ledger.labelled() == ["b", "a", "c", "d"]
    assert ledger.labelled_pixels() == 166
    assert ledger.queried(0) == chosen("d", "c")
    assert ledger.queried(1) == []
    rows = [(e.kind, e.cycle, e.unit_id, e.strategy, e.score, e.rank, e.pixels) for e in ledger.events()]
    assert rows == [
        ("initial", 0, "b", None, None, None, 100),
        ("initial", 0, "a", None, None, None, 50),
        ("queried", 0, "d", "BALD-Mean", 1.0, 1, None),
        ("queried", 0, "c", "BALD-Mean", 0.5, 2, None),
        ("labelled", 0, "c", "BALD-Mean", 0.5, 2, 7),
        ("labelled", 0, "d", "BALD-Mean", 1.0, 1, 9),
        ("cycle closed", 0, None, None, None, None, None),
    ]
    assert all(e.at.endswith("+00:00") for e in ledger.events())


def test_what_a_review_rejects_is_not_trained_on_until_it_is_corrected(ledger: Ledger) -> None:
    ledger.start([Labelled(u, 10 * i, objects=i, clicks=2) for i, u in enumerate("abcd", start=1)])
    reviews = Reviews(ledger.path)

    def happens(unit_id: str, annotator: str, *states: str) -> None:
        by = {"annotated": annotator, "corrected": annotator, "assigned": "boss"}
        reviews.record([ReviewEvent(unit_id, annotator, s, by.get(s, "bob")) for s in states])

    states = [ledger.training_state()]
    happens("a", "ann", "assigned", "annotated", "accepted")
    happens("b", "ann", "assigned", "annotated", "rejected")
    happens("c", "ann", "assigned", "annotated", "rejected")
    happens("c", "eve", "assigned", "annotated")
    happens("d", "eve", "assigned")
    happens("z", "eve", "assigned", "annotated", "rejected")
    assert ledger.rejected() == {"b", "z"}, "of c another drawing stands, and d was never drawn"
    assert ledger.training() == ["a", "c", "d"]
    assert ledger.labelled() == ["a", "b", "c", "d"]
    assert (ledger.labelled_pixels(), ledger.labelled_objects(), ledger.labelled_clicks()) == (80, 8, 6)
    states.append(ledger.training_state())
    happens("c", "eve", "rejected")
    happens("b", "eve", "assigned")
    assert ledger.rejected() == {"b", "c", "z"}, "whoever is to draw has not drawn yet"
    states.append(ledger.training_state())
    happens("b", "ann", "corrected")
    happens("c", "ann", "corrected")
    assert ledger.training() == ["a", "b", "c", "d"]
    assert ledger.labelled_pixels() == 100
    states.append(ledger.training_state())
    assert len(set(states)) == 4, "a corrected drawing is another one than before"
    happens("b", "ann", "accepted")
    assert ledger.training_state() == states[-1]


def test_a_query_that_is_answered_at_once_closes_its_cycle(ledger: Ledger) -> None:
    ledger.query(0, "s", chosen("a", "b"), [("a", 1), ("b", 1)])
    assert ledger.cycle == 1
    ledger.query(1, "s", [], [])
    assert ledger.cycle == 2


@pytest.mark.parametrize("step", ["start", "label", "query"])
def test_a_second_label_is_refused_by_name_and_changes_nothing(ledger: Ledger, step: str) -> None:
    ledger.start([("m", 10)])
    before = ledger.events()
    # a unit that sorts before the culprit and is not labelled yet
    units = [("a", 1), ("m", 1)]
    attempts = {
        "start": lambda: ledger.start(units),
        "label": lambda: ledger.label(0, units, close_cycle=True),
        "query": lambda: ledger.query(0, "s", chosen("a", "m"), units),
    }
    with pytest.raises(AlreadyLabelledError, match=r"'m' is labelled already in .*nothing was changed"):
        attempts[step]()
    assert ledger.events() == before
    assert ledger.cycle == 0


def test_one_unit_twice_in_one_call(ledger: Ledger) -> None:
    with pytest.raises(AlreadyLabelledError, match="named twice"):
        ledger.label(0, [("a", 1), ("a", 1)])
    assert ledger.events() == []


def test_a_cycle_is_closed_once(ledger: Ledger) -> None:
    ledger.label(0, [("a", 1)], close_cycle=True)
    before = ledger.events()
    with pytest.raises((ValueError, LedgerError), match="cycle 0"):
        ledger.label(0, [("b", 1)], close_cycle=True)
    assert ledger.events() == before


class Bookkeeping(RuleBasedStateMachine):
    """The ledger against a list and a set in memory; opened anew now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.labelled: list[str] = []
        self.cycle = 0
        self.written = 0

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    def attempt(self, units: list[str], close: bool, rows: int, call: object) -> None:
        if len(set(units)) < len(units) or set(units) & set(self.labelled):
            with pytest.raises(AlreadyLabelledError):
                call()
            return
        call()
        self.labelled += units
        self.cycle += close
        self.written += rows + close

    @rule(units=st.lists(st.sampled_from(UNITS), max_size=3))
    def start(self, units: list[str]) -> None:
        self.attempt(units, False, len(units), lambda: self.ledger.start([(u, 10) for u in units]))

    @rule(units=st.lists(st.sampled_from(UNITS), max_size=3), close=st.booleans())
    def label(self, units: list[str], close: bool) -> None:
        pairs = [(u, 10) for u in units]
        self.attempt(units, close, len(units), lambda: self.ledger.label(self.cycle, pairs, close))

    @rule(units=st.lists(st.sampled_from(UNITS), max_size=3, unique=True), answers=st.integers(0, 3))
    def query(self, units: list[str], answers: int) -> None:
        answered = [(u, 10) for u in units[:answers]]
        close = len(answered) == len(units)
        self.attempt(
            [u for u, _ in answered], close, len(units) + len(answered),
            lambda: self.ledger.query(self.cycle, "s", chosen(*units), answered),
        )  # fmt: skip

    @rule()
    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = Ledger(self.folder / "ledger.sqlite")

    @invariant()
    def agrees(self) -> None:
        assert self.ledger.labelled() == self.labelled
        assert self.ledger.labelled_pixels() == 10 * len(self.labelled)
        assert self.ledger.cycle == self.cycle
        assert len(self.ledger.events()) == self.written
        assert not set(self.ledger.waiting(self.cycle)) & set(self.labelled)


TestBookkeeping = Bookkeeping.TestCase
TestBookkeeping.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)

KILLED = """
import os, signal, sys
from pathlib import Path
from records.ledger import Ledger, Queried
ledger = Ledger(Path(sys.argv[1]))
left = int(sys.argv[2])
def kill_before(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
ledger.connection.set_trace_callback(kill_before)
ledger.query(0, "s", [Queried("b", 1.0, 1), Queried("c", 0.5, 2)], [("b", 1), ("c", 1)])
"""


def test_a_kill_anywhere_in_a_transaction_leaves_the_state_before_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).start([("a", 1)])
    before = Ledger(path).events()
    killed = 0
    while True:
        done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(killed)], check=False, env=os.environ)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
        assert Ledger(path).events() == before
        assert Ledger(path).cycle == 0
    # at least BEGIN, 2 queried, 2 labelled, 1 closed, COMMIT
    assert killed >= 7
    assert Ledger(path).labelled() == ["a", "b", "c"]
    assert Ledger(path).cycle == 1


@pytest.mark.parametrize("content", [b"not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger .*ledger\.sqlite cannot be used .*undamaged ledger"):
        Ledger(path).events()
    assert path.read_bytes() == content


def test_a_database_of_somebody_else(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE events (id INTEGER)")
    with pytest.raises(LedgerError, match="undamaged ledger"):
        Ledger(path)


def test_a_run_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="check that the run directory is writable"):
        Ledger(tmp_path / "file" / "ledger.sqlite")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from records.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (Path(sys.argv[1]).stat().st_size,) * 2)
try:
    ledger.label(0, [(f"unit{i:06d}" * 10, 1) for i in range(20000)])
except Exception as error:
    print(type(error).__name__, error)
    print(ledger.labelled())
"""


def test_a_full_disk_says_so_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).start([("a", 1)])
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, check=True)
    words, labelled = done.stdout.splitlines()
    # not "cannot rollback", which would hide what went wrong
    assert re.match(r"LedgerError .*cannot be used \((disk I/O error|database or disk is full)\)", words), words
    assert labelled == "['a']"
    assert Ledger(path).labelled() == ["a"]


def test_two_connections_see_one_ledger(tmp_path: Path) -> None:
    first, second = Ledger(tmp_path / "l.sqlite"), Ledger(tmp_path / "l.sqlite")
    first.start([("a", 1)])
    assert second.labelled() == ["a"]
    with pytest.raises(AlreadyLabelledError, match="'a'"):
        second.label(0, [("a", 1)])
    second.label(0, [("b", 1)])
    assert first.labelled() == ["a", "b"]
