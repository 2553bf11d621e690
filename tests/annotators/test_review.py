"""The verb review: files of assignments and events into the ledger."""

from pathlib import Path

import pytest

from annotators.review import read_events, review
from datamodules.files import DataError
from records.ledger import Ledger
from records.reviews import ReviewError, Reviews

ASSIGNED = (
    "unit_id,annotator,purpose,predicted_difficulty,rank\nu,ann,first,0.5,1\nu,007,second,0.5,1\nv,ann,first,0.1,2\n"
)
EVENTS = "unit_id,annotator,state,by,at\nu,ann,annotated,ann,2024-05-31T14:00+02:00\nu,ann,rejected,007,\n"


@pytest.fixture
def assigned(tmp_path: Path) -> Path:
    path = tmp_path / "assignments.csv"
    path.write_text(ASSIGNED)
    return path


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "events.csv"
    path.write_text(text)
    return path


def test_assignments_and_events(tmp_path: Path, assigned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    review(run_dir, written(tmp_path, EVENTS), assigned)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["3 drawings assigned, 0 were already", "2 events recorded"]
    assert lines[2].split() == ["assigned", "annotated", "accepted", "rejected", "corrected"]
    assert [line.split() for line in lines[-2:]] == [["007", "1", "0", "0", "0", "0"], ["ann", "1", "0", "0", "1", "0"]]
    reviews = Reviews(run_dir / "ledger.sqlite")
    assert reviews.history("u", "ann")[1].at == "2024-05-31T12:00:00.000+00:00"
    assert reviews.history("u", "ann")[2].by == "007"
    # the same assignments again, and no events
    review(run_dir, assignments=assigned)
    assert "0 drawings assigned, 3 were already" in capsys.readouterr().out


def test_a_file_is_recorded_whole_or_not_at_all(tmp_path: Path, assigned: Path) -> None:
    run_dir = tmp_path / "run"
    events = written(tmp_path, EVENTS + "v,ann,accepted,007,\n")
    with pytest.raises(ReviewError, match=r"event 3 \(accepted by '007'\) .*it is assigned, so only annotated"):
        review(run_dir, events, assigned)
    reviews = Reviews(run_dir / "ledger.sqlite")
    assert not reviews.counts(), "nor are the assignments"
    # an unreadable file of events leaves the assignments unrecorded, too
    assigned.write_text("unit_id,annotator\nnew,ann\n")
    with pytest.raises(DataError, match="by is missing"):
        review(run_dir, written(tmp_path, "unit_id,annotator,state\n"), assigned)
    assert reviews.state("new", "ann") is None


def test_a_run_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"expected a ledger at .*ledger\.sqlite, got no such file; check --run_dir"):
        review(tmp_path / "mistyped")
    assert not (tmp_path / "mistyped").exists()
    Ledger(tmp_path / "ledger.sqlite").close()
    review(tmp_path)
    assert capsys.readouterr().out == "nothing is assigned yet\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unit_id,annotator,state\nu,ann,annotated\n", r"got unit_id, annotator, state: by is missing"),
        ("unit_id,annotator,state,by\nu,ann,annotated,ann\nu,,annotated,ann\n", r"row 2 of .* has no annotator"),
        ("unit_id,annotator,state,by,at\nu,ann,annotated,ann,noon\n", r"expected an ISO time .*, got 'noon'"),
        ("", "not a readable table"),
    ],
)
def test_bad_events(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_events(written(tmp_path, text))
    with pytest.raises(DataError, match="got no such file"):
        read_events(tmp_path / "none.csv")


def test_the_verb_on_the_command_line(tmp_path: Path, assigned: Path, dropquery) -> None:
    events = written(tmp_path, EVENTS + "u,ann,corrected,ann,\nu,ann,accepted,ann,\n")
    done = dropquery(
        "review", "--run_dir", tmp_path / "run", "--assignments", assigned, "--events", events, check=False
    )
    assert done.returncode == 1
    assert "'ann' drew or corrected it, and nobody reviews their own work" in done.stderr
    assert "Traceback" not in done.stderr
