"""A ledger's file has a version, and one of before is brought up to date."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import cli
from records.database import VERSION, Database, LedgerError
from records.ledger import AlreadyLabelledError, Ledger
from records.reviews import Reviews

EVENTS_OF_BEFORE = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    cycle INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('initial', 'queried', 'labelled', 'cycle closed')),
    unit_id TEXT,
    strategy TEXT,
    score REAL,
    rank INTEGER,
    pixels INTEGER
);
CREATE UNIQUE INDEX IF NOT EXISTS labelled_once ON events (unit_id) WHERE kind IN ('initial', 'labelled');
CREATE UNIQUE INDEX IF NOT EXISTS closed_once ON events (cycle) WHERE kind = 'cycle closed';
CREATE INDEX IF NOT EXISTS by_cycle ON events (kind, cycle);
INSERT INTO events (at, cycle, kind, unit_id, pixels) VALUES ('2026-01-01T00:00:00.000+00:00', 0, 'initial', 'a', 9);
INSERT INTO events (at, cycle, kind, unit_id, strategy, score, rank)
    VALUES ('2026-01-01T00:00:01.000+00:00', 0, 'queried', 'b', 'BALD-Mean-TopK', 0.25, 1);
INSERT INTO events (at, cycle, kind, unit_id, strategy, score, rank, pixels)
    VALUES ('2026-01-01T00:00:01.000+00:00', 0, 'labelled', 'b', 'BALD-Mean-TopK', 0.25, 1, 8);
INSERT INTO events (at, cycle, kind) VALUES ('2026-01-01T00:00:01.000+00:00', 0, 'cycle closed');
"""
REVIEWS_OF_BEFORE = """
CREATE TABLE IF NOT EXISTS reviews (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    unit_id TEXT NOT NULL,
    annotator TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('assigned', 'annotated', 'accepted', 'rejected', 'corrected')),
    "by" TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_drawing ON reviews (unit_id, annotator);
INSERT INTO reviews (at, unit_id, annotator, state, "by") VALUES ('2026-01-01', 'a', 'ann', 'assigned', 'lead');
"""


def written_before(path: Path, *scripts: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        for script in scripts:
            connection.executescript(script)
    return path


def content(path: Path) -> dict[str, list[tuple]]:
    """Version, schema without its layout, and rows."""
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        found = {"version": connection.execute("PRAGMA user_version").fetchall()}
        found |= {"made": [(kind, name, " ".join(sql.split())) for kind, name, sql in made]}
        return found | {n: connection.execute(f"SELECT * FROM {n}").fetchall() for k, n, _ in made if k == "table"}


@pytest.mark.parametrize(
    "scripts",
    [
        [],
        [EVENTS_OF_BEFORE],
        [REVIEWS_OF_BEFORE],
        [EVENTS_OF_BEFORE, REVIEWS_OF_BEFORE],
        [EVENTS_OF_BEFORE, REVIEWS_OF_BEFORE, "PRAGMA user_version = 1"],
    ],
)
def test_a_file_of_before_keeps_what_it_says(tmp_path: Path, scripts: list[str]) -> None:
    path = written_before(tmp_path / "ledger.sqlite", *scripts)
    before, fresh = content(path), tmp_path / "fresh.sqlite"
    Database(path).close()
    Database(fresh).close()
    after = content(path)
    assert before["version"] == [(int("PRAGMA user_version = 1" in scripts),)]
    assert after["version"] == [(VERSION,)] == [(4,)]
    assert after["made"] == content(fresh)["made"], "and looks like a new one"
    # nobody counted objects or clicks
    assert after["events"] == [(*row, None, None) for row in before.get("events", [])]
    assert after["reviews"] == before.get("reviews", [])


def test_an_old_ledger_goes_on(tmp_path: Path) -> None:
    path = written_before(tmp_path / "ledger.sqlite", EVENTS_OF_BEFORE)
    ledger = Ledger(path)
    assert (ledger.version, ledger.cycle, ledger.labelled(), ledger.labelled_pixels()) == (4, 1, ["a", "b"], 17)
    with pytest.raises(AlreadyLabelledError, match="'b' is labelled already"):
        ledger.label(1, [("b", 8)])
    ledger.label(1, [("c", 7)], close_cycle=True)
    assert Reviews(path).assign([("a", "ann")], by="lead") == 1
    assert Ledger(path).cycle == 2


def test_a_labelled_unit_finds_its_query_by_an_index(tmp_path: Path) -> None:
    path = written_before(tmp_path / "ledger.sqlite", EVENTS_OF_BEFORE, REVIEWS_OF_BEFORE, "PRAGMA user_version = 1")
    with closing(Ledger(path)) as ledger:
        ran: list[str] = []
        ledger.connection.set_trace_callback(ran.append)
        ledger.label(1, [("c", 7)])
        ledger.connection.set_trace_callback(None)
        (insert,) = (statement for statement in ran if statement.startswith("INSERT"))
        plan = [step[3] for step in ledger.rows(f"EXPLAIN QUERY PLAN {insert}")]
    assert [step for step in plan if " events " in step] == ["SEARCH events USING INDEX queried_unit (unit_id=?)"], plan


def test_a_newer_file_is_refused_in_a_sentence_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    before = path.read_bytes()
    for kind in (Ledger, Reviews):
        with pytest.raises(
            LedgerError, match=r"was written by a newer dropquery \(version 5, this one knows 4\); go on"
        ):
            kind(path)
    with pytest.raises(SystemExit):
        cli.main(["review", "--run_dir", str(tmp_path)])
    assert "newer dropquery" in capsys.readouterr().err
    assert path.read_bytes() == before


KILLED = """
import os, signal, sqlite3, sys
from pathlib import Path
from records.ledger import Ledger
left, connect = int(sys.argv[2]), sqlite3.connect
def kill_before(statement):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
def watched(*args, **options):
    connection = connect(*args, **options)
    connection.set_trace_callback(kill_before)
    return connection
sqlite3.connect = watched
Ledger(Path(sys.argv[1]))
"""


def test_a_kill_anywhere_in_a_migration_leaves_the_file_of_before(tmp_path: Path) -> None:
    path = written_before(tmp_path / "ledger.sqlite", EVENTS_OF_BEFORE)
    before = content(path)
    for killed in range(100):
        done = subprocess.run([sys.executable, "-c", KILLED, str(path), str(killed)], check=False, env=os.environ)
        if done.returncode == 0 or content(path) != before:
            break
        assert done.returncode == -signal.SIGKILL
    # at least the version, BEGIN, seven statements, the new version, COMMIT
    assert killed >= 11
    assert Ledger(path).labelled() == ["a", "b"]


OPENED = "import sys; from pathlib import Path; from records.ledger import Ledger; Ledger(Path(sys.argv[1]))"


def test_processes_that_open_a_new_file_together_all_get_it(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    started = [subprocess.Popen([sys.executable, "-c", OPENED, str(path)]) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    assert content(path)["version"] == [(VERSION,)]
