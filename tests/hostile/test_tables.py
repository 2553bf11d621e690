"""Tables that people write: who draws what, what happened, what was measured."""

from pathlib import Path

import pytest

from records.reviews import Reviews
from tests.hostile.table import Row, run_in_process, table

PEOPLE = "annotator,experience,capacity\nann,9,20\nbo,1,20\n"
SCORES = "unit_id,score\na,0.1\nb,0.7\n"
GIVEN = "unit_id,annotator\na,ann\nb,bo\n"
ASSIGN = "assign --scores s.csv --annotators p.csv --out out.csv"
REVIEW = "review --run_dir run --assignments g.csv --events e.csv"
EVENTS = "unit_id,annotator,state,by\n"


def scores(text: str | bytes, says: str, command: str = ASSIGN) -> Row:
    return Row(command, says, {"s.csv": text, "p.csv": PEOPLE})


def people(text: str | bytes, says: str) -> Row:
    return Row(ASSIGN, says, {"s.csv": SCORES, "p.csv": text})


def events(text: str | bytes, says: str) -> Row:
    return Row(REVIEW, says, {"g.csv": GIVEN, "e.csv": text})


ROWS = [
    scores(SCORES, "--out s.csv would overwrite", ASSIGN.replace("out.csv", "s.csv")),
    scores(SCORES, "--out folder/../p.csv would overwrite", ASSIGN.replace("out.csv", "folder/../p.csv")),
    scores(SCORES, "name one of them with --by", f"{ASSIGN} --by nothing"),
    scores(SCORES, "double_share", f"{ASSIGN} --double_share 1.5"),
    scores(SCORES, "audit_share", f"{ASSIGN} --audit_share -1"),
    scores("", "s.csv is not a readable table"),
    scores(b"\xff\xfe\x00", "s.csv is not a readable table"),
    scores("unit_id,score\n", "s.csv names no image"),
    scores("unit_id,score\na,0.1\na,0.2\n", "names the image 'a' more than once"),
    scores("unit_id,score\na,\n", "got none for 'a'"),
    scores("unit_id,score\nNA,NA\n", "got none for 'NA'"),
    scores("unit_id,score\na,inf\n", "got none for 'a'"),
    scores("unit_id,score\n,0.3\n", "an image has no name"),
    scores("picture,score\na,0.3\n", "expected a column unit_id, image or name"),
    scores(SCORES, "expected a table at none.csv", ASSIGN.replace("s.csv", "none.csv")),
    Row(
        ASSIGN.replace("s.csv", "s.parquet"), "s.parquet is not a readable table",
        {"s.parquet": SCORES, "p.csv": PEOPLE},
    ),
    people("annotator,experience\nann,1\n", "lacks capacity"),
    people(PEOPLE.replace("bo", "ann"), "names the annotator 'ann' more than once"),
    people(PEOPLE.replace("20", "-1"), "as capacity of 'ann'"),
    people(PEOPLE.replace("20", "1.5"), "as capacity of 'ann'"),
    people(PEOPLE.replace("9", "old"), "as experience of 'ann'"),
    people("annotator,experience,capacity\n", "p.csv names no annotator"),
    people(PEOPLE.replace("ann,", ","), "an annotator has no name"),
    people(PEOPLE.replace("20", "0"), "raise capacities, add people"),
    events(f"{EVENTS}a,ann,annotated,bo\n", "event 1 (annotated by 'bo')"),
    events(f"{EVENTS}a,ann,annotated,ann\na,ann,accepted,ann\n", "event 2 (accepted by 'ann')"),
    events(f"{EVENTS}a,ann,forgotten,ann\n", "the state 'forgotten' is none of"),
    events(f"{EVENTS}z,ann,annotated,ann\n", "it was never assigned"),
    events(f"{EVENTS}a,ann,annotated,\n", "row 1 of e.csv has no by"),
    events("unit_id,annotator,state\na,ann,annotated\n", "by is missing"),
    events("unit_id,annotator,state,by,at\na,ann,annotated,ann,noon\n", "expected an ISO time"),
    events("", "e.csv is not a readable table"),
    events(b"\xff\xfe\x00", "e.csv is not a readable table"),
    Row("review --run_dir run --events e.csv", "expected a ledger at run/ledger.sqlite", {"e.csv": EVENTS}),
    Row("review --run_dir run --assignments none.csv", "expected a table at none.csv"),
    Row("review --run_dir run", "run/ledger.sqlite cannot be used", {"run/ledger.sqlite": b"no database" * 99}),
    Row("report --run_dir run", "run fit first"),
    Row("report --run_dir run", "run/study.csv", {"run/study.csv": "strategy,seed\nNA,1\n"}),
    Row("report --run_dir run", "run/study.csv has no rows", {"run/study.csv": "strategy,seed,cycle,labelled_units\n"}),
    Row("compare --run_dir run", "expected the table of images at run/images.csv"),
    Row("compare --run_dir run", "run/images.csv lacks the columns", {"run/images.csv": "image,total\nNA,1\n"}),
]  # fmt: skip


@table(ROWS)
def test_one_sentence_and_nothing_else(row: Row, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "folder").mkdir()
    run_in_process(row, here, capsys)
    ledger = here / "run" / "ledger.sqlite"
    if row.command == REVIEW and ledger.is_file():
        assert not Reviews(ledger).counts(), "what is refused is not recorded, nor is what came with it"
