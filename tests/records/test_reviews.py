"""Annotation, review and correction: only what can happen is recorded, whole files or nothing."""

import os
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

from records.database import LedgerError
from records.ledger import Ledger
from records.reviews import STATES, TRANSITIONS, ReviewError, ReviewEvent, Reviews

PEOPLE = ("ann", "bob", "cid")


@pytest.fixture
def reviews(tmp_path: Path) -> Reviews:
    return Reviews(tmp_path / "run" / "ledger.sqlite")


def done(*steps: str, unit_id: str = "u", annotator: str = "ann") -> list[ReviewEvent]:
    """Events from "state by" words."""
    return [ReviewEvent(unit_id, annotator, *step.split()) for step in steps]


def test_the_loop_of_figure_2_1(reviews: Reviews) -> None:
    assert reviews.state("u", "ann") is None
    assert reviews.assign([("u", "ann"), ("u", "bob"), ("v", "bob")], by="assign") == 3
    reviews.record(done("annotated ann", "rejected bob"))
    assert reviews.state("u", "ann") == "rejected"
    # corrected by somebody else, who is then no reviewer of it
    reviews.record(done("corrected cid", "rejected bob", "corrected ann", "accepted bob"))
    assert reviews.state("u", "ann") == "accepted"
    assert reviews.state("u", "bob") == "assigned"
    history = reviews.history("u", "ann")
    assert [(e.state, e.by) for e in history] == [
        ("assigned", "assign"), ("annotated", "ann"), ("rejected", "bob"), ("corrected", "cid"), ("rejected", "bob"),
        ("corrected", "ann"), ("accepted", "bob"),
    ]  # fmt: skip
    assert all(e.at.endswith("+00:00") for e in history)
    assert [e.annotator for e in reviews.history("u")].count("bob") == 1
    assert reviews.counts() == {("ann", "accepted"): 1, ("bob", "assigned"): 2}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        (("annotated ann",), "it was never assigned, so only assigned can follow"),
        (("assigned x", "assigned x"), "it is assigned, so only annotated can follow"),
        (("assigned x", "accepted bob"), "it is assigned, so only annotated can follow"),
        (("assigned x", "annotated ann", "corrected ann"), "it is annotated, so only accepted or rejected can follow"),
        (("assigned x", "annotated ann", "accepted bob", "rejected bob"), "it is accepted, so nothing can follow"),
        (("assigned x", "annotated bob"), "it is assigned to 'ann', so nobody else can annotate it"),
        (
            ("assigned x", "annotated ann", "accepted ann"),
            "'ann' drew or corrected it, and nobody reviews their own work",
        ),
        (
            ("assigned x", "annotated ann", "rejected bob", "corrected bob", "accepted bob"),
            "'bob' drew or corrected it",
        ),
        (("assigned x", "done ann"), "the state 'done' is none of assigned, annotated, accepted, rejected, corrected"),
    ],
)
def test_what_cannot_happen_is_refused_and_changes_nothing(
    reviews: Reviews, steps: tuple[str, ...], words: str
) -> None:
    reviews.assign([("other", "ann")], by="assign")
    events = [*done("annotated ann", unit_id="other"), *done(*steps)]
    with pytest.raises(
        ReviewError,
        match=rf"event {len(events)} .*the drawing of 'u' by 'ann': {words}.*none of these events was recorded",
    ):
        reviews.record(events)
    assert reviews.state("u", "ann") is None
    assert reviews.state("other", "ann") == "assigned"


def test_assigning_again_changes_nothing(reviews: Reviews) -> None:
    assert reviews.assign([("u", "ann"), ("u", "ann")], by="x") == 1
    reviews.record(done("annotated ann"))
    assert reviews.assign([("u", "ann"), ("v", "ann")], by="x") == 1
    assert reviews.state("u", "ann") == "annotated"
    assert len(reviews.history("u")) == 2


def test_a_given_time_is_kept(reviews: Reviews) -> None:
    reviews.record([ReviewEvent("u", "ann", "assigned", "lead", "2024-05-31T12:00:00.000+00:00")])
    assert reviews.history("u")[0].at == "2024-05-31T12:00:00.000+00:00"


def test_reviews_and_the_ledger_share_a_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.start([("u", 10)])
    before = ledger.events()
    reviews = Reviews(path)
    assert reviews.counts() == {}
    reviews.assign([("u", "ann")], by="assign")
    assert ledger.events() == before
    assert Ledger(path).labelled() == ["u"]
    ledger.label(0, [("v", 10)], close_cycle=True)
    assert Reviews(path).state("u", "ann") == "assigned"


def test_the_table_itself_refuses_unknown_states(reviews: Reviews) -> None:
    assert set(STATES) == {s for after in TRANSITIONS.values() for s in after} == set(TRANSITIONS) - {None}
    with pytest.raises(sqlite3.IntegrityError):
        reviews.connection.execute("""INSERT INTO reviews VALUES (1, 'now', 'u', 'ann', 'lost', 'ann')""")


def test_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerError, match="undamaged ledger"):
        Reviews(tmp_path / "ledger.sqlite")


class Loop(RuleBasedStateMachine):
    """The table against a dictionary in memory; opened anew now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.reviews = Reviews(self.folder / "ledger.sqlite")
        self.histories: dict[tuple[str, str], list[tuple[str, str]]] = {}

    def teardown(self) -> None:
        self.reviews.close()
        shutil.rmtree(self.folder)

    def allowed(self, key: tuple[str, str], state: str, by: str) -> bool:
        history = self.histories.get(key, [])
        last = history[-1][0] if history else None
        drew = {who for what, who in history if what in ("annotated", "corrected")}
        fits = {
            "assigned": last is None,
            "annotated": last == "assigned" and by == key[1],
            "accepted": last in ("annotated", "corrected") and by not in drew,
            "rejected": last in ("annotated", "corrected") and by not in drew,
            "corrected": last == "rejected",
        }
        return fits[state]

    @rule(
        key=st.tuples(st.sampled_from("uv"), st.sampled_from(PEOPLE[:2])),
        states=st.lists(st.sampled_from(STATES), min_size=1, max_size=2),
        by=st.sampled_from(PEOPLE),
    )
    def record(self, key: tuple[str, str], states: list[str], by: str) -> None:
        before = list(self.histories.get(key, []))
        events = [ReviewEvent(*key, state, by) for state in states]
        legal = True
        for state in states:
            legal = legal and self.allowed(key, state, by)
            self.histories.setdefault(key, []).append((state, by))
        if legal:
            self.reviews.record(events)
        else:
            self.histories[key] = before
            with pytest.raises(ReviewError):
                self.reviews.record(events)

    @rule(key=st.tuples(st.sampled_from("uv"), st.sampled_from(PEOPLE[:2])))
    def go_on(self, key: tuple[str, str]) -> None:
        last = (self.histories.get(key) or [(None, "")])[-1][0]
        for state in TRANSITIONS[last][-1:]:
            by = key[1] if state != "rejected" else "cid"
            if self.allowed(key, state, by):
                self.reviews.record([ReviewEvent(*key, state, by)])
                self.histories.setdefault(key, []).append((state, by))

    @rule()
    def reopen(self) -> None:
        self.reviews.close()
        self.reviews = Reviews(self.folder / "ledger.sqlite")

    @invariant()
    def agrees(self) -> None:
        for key, history in self.histories.items():
            assert [(e.state, e.by) for e in self.reviews.history(*key)] == history


TestLoop = Loop.TestCase
TestLoop.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)

KILLED = """
import os, signal, sys
from pathlib import Path
from records.reviews import ReviewEvent, Reviews
reviews = Reviews(Path(sys.argv[1]))
left = int(sys.argv[2])
def kill_before(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
reviews.connection.set_trace_callback(kill_before)
reviews.record([ReviewEvent("u", "ann", "annotated", "ann"), ReviewEvent("u", "ann", "rejected", "bob")])
"""


def test_a_kill_anywhere_leaves_the_state_before_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Reviews(path).assign([("u", "ann")], by="assign")
    killed = 0
    while True:
        ended = subprocess.run([sys.executable, "-c", KILLED, str(path), str(killed)], check=False, env=os.environ)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
        killed += 1
        assert Reviews(path).state("u", "ann") == "assigned"
    # at least BEGIN, the question, two events, COMMIT
    assert killed >= 5
    assert Reviews(path).state("u", "ann") == "rejected"
