"""The verb assign on the files that other verbs leave."""

from pathlib import Path

import pandas as pd
import pytest

from annotators.assign import assign, read_difficulties, read_people
from datamodules.files import DataError

PEOPLE = "annotator,experience,capacity\nann,9.5,20\n007,1,20\n"


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text(PEOPLE)
    return path


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(text)
    return path


def test_every_kind_of_scores(tmp_path: Path, people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = tmp_path / "scores.parquet"
    pd.DataFrame({"unit_id": ["a", "b"], "score": [0.1, 0.7], "rank": [2, 1], "selected": [False, True]}).to_parquet(
        scores
    )
    queried = tmp_path / "queried.csv"
    queried.write_text("name,priority,unit_id,rank,score,path\nb.png,1.0,b,1,0.7,x/b.png\na.png,0.5,a,2,0.1,x/a.png\n")
    images = tmp_path / "images.csv"
    images.write_text("image,difficulty,total,epistemic\na,9,0.1,5\nb,1,0.7,4\n")
    for path in (scores, queried, images):
        assign(path, people, tmp_path / "out" / "assignments.csv", double_share=0.5, audit_share=0)
        plan = pd.read_csv(tmp_path / "out" / "assignments.csv", dtype={"annotator": str})
        assert plan.values.tolist() == [
            ["b", "ann", "first", 0.7, 1],
            ["b", "007", "second", 0.7, 1],
            ["a", "007", "first", 0.1, 2],
        ]
    assert plan.columns.tolist() == ["unit_id", "annotator", "purpose", "predicted_difficulty", "rank"]
    lines = capsys.readouterr().out.splitlines()
    assert [w for w in lines if w.startswith("ann ")][-1].split() == ["ann", "9.5", "20", "1", "0", "1.0"]
    assert [w for w in lines if w.startswith("007 ")][-1].split() == ["007", "1.0", "20", "1", "1", "1.5"]
    assert read_difficulties(images, by="epistemic")["score"].tolist() == [5, 4]


def test_routed_units_go_where_the_query_says(tmp_path: Path, people: Path) -> None:
    rows = [("a", 9, "label"), ("b", 8, "guidelines"), ("c", 2, "second"), ("d", 1, "expert")]
    text = "unit_id,score,action\n" + "".join(f"{u},{s},{a}\n" for u, s, a in rows)
    assign(written(tmp_path, text), people, tmp_path / "out.csv", audit_share=0)
    plan = pd.read_csv(tmp_path / "out.csv", dtype={"annotator": str})
    assert plan.groupby("unit_id").size().to_dict() == {"a": 1, "b": 1, "c": 2, "d": 1}
    assert plan.loc[plan["unit_id"] == "d", ["annotator", "purpose"]].values.tolist() == [["ann", "first"]]
    assert sorted(plan.loc[plan["unit_id"] == "c", "annotator"]) == ["007", "ann"]
    assign(written(tmp_path, text), people, tmp_path / "out.csv", double_share=0.25, audit_share=0)
    assert pd.read_csv(tmp_path / "out.csv").groupby("unit_id").size().to_dict() == {"a": 2, "b": 1, "c": 1, "d": 1}


def test_experts_have_a_capacity(tmp_path: Path, people: Path) -> None:
    people.write_text(PEOPLE.replace("20", "2"))
    text = "unit_id,score,action\n" + "".join(f"u{k},{k},expert\n" for k in range(5))
    assign(written(tmp_path, "\n".join(text.splitlines()[:4])), people, tmp_path / "out.csv", audit_share=0)
    plan = pd.read_csv(tmp_path / "out.csv", dtype={"annotator": str})
    assert plan["annotator"].tolist() == ["ann", "ann", "007"]
    with pytest.raises(ValueError, match="5 images are for an expert, but all people together can draw only 4"):
        assign(written(tmp_path, text), people, tmp_path / "no.csv", audit_share=0)


def test_names_are_read_as_they_were_before_a_spreadsheet(tmp_path: Path) -> None:
    path = written(tmp_path, "name,unit_id,score\n'=1+1.png,'=1+1,1\nb.png,'b',2\n")
    assert read_difficulties(path)["unit_id"].tolist() == ["=1+1", "'b'"]


def test_names_that_pandas_would_take_for_nothing(tmp_path: Path, people: Path) -> None:
    people.write_text("annotator,experience,capacity\nNA,9.5,20\nnull,1,20\n")
    assign(written(tmp_path, "unit_id,score\nNA,0.1\nnan,0.7\n"), people, tmp_path / "out.csv", audit_share=0)
    plan = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert set(plan["unit_id"]) == {"NA", "nan"}
    assert set(plan["annotator"]) == {"NA", "null"}


def test_the_verb_on_the_command_line(tmp_path: Path, people: Path, dropquery) -> None:
    scores = written(tmp_path, "unit_id,score\n" + "".join(f"u{k},{k}\n" for k in range(10)))
    done = dropquery(
        "assign", "--scores", scores, "--annotators", people, "--out", tmp_path / "a.csv", "--audit_share", 0.1
    )
    assert "10 images, rank 1 is the hardest" in done.stdout
    assert len(pd.read_csv(tmp_path / "a.csv")) == 10 + 2 + 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("unit,score\na,1\n", r"expected a column unit_id, image or name in .*scores\.csv, got unit, score"),
        ("unit_id,value\na,1\n", r"predicted difficulty, score or total, in .*, got unit_id, value; name one .* --by"),
        ("unit_id,score\n", "names no image"),
        ("unit_id,score\na,\nb,x\n", r"column score of .*, got none for 'a' \(2 in all\)"),
        ("unit_id,score\na,1\na,2\n", r"names the image 'a' more than once"),
        ("unit_id,score\n,2\n", r"an image has no name in the column unit_id"),
        ("unit_id,score,action\na,1,label\nb,1,three\n", "label, second, expert, guidelines in the column action of"),
        ("", "not a readable table"),
    ],
)
def test_bad_scores(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_difficulties(written(tmp_path, text))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="predicted difficulty, bald, in"):
        read_difficulties(written(tmp_path, "unit_id,score\na,1\n"), by="bald")
    with pytest.raises(DataError, match="got no such file"):
        read_difficulties(tmp_path / "none.csv")


def test_nothing_is_written_where_people_cannot_do_it(tmp_path: Path, people: Path) -> None:
    people.write_text(PEOPLE.replace("20", "2"))
    scores = written(tmp_path, "unit_id,score\n" + "".join(f"u{k},{k}\n" for k in range(10)))
    with pytest.raises(ValueError, match="can make only 4: 8 are missing"):
        assign(scores, people, tmp_path / "b.csv", audit_share=0)
    assert not (tmp_path / "b.csv").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("annotator,capacity\na,1\n", r"which lacks experience$"),
        (PEOPLE.replace("capacity", "room"), r"which lacks capacity and has the unknown room$"),
        (PEOPLE + "ann,2,3\n", "names the annotator 'ann' more than once"),
        (PEOPLE + "ann ,2,3\n", "names the annotator 'ann' more than once"),
        (PEOPLE + ",2,3\n", "an annotator has no name"),
        (PEOPLE + "bob,much,3\n", "expected a number as experience of 'bob'"),
        (PEOPLE + "bob,2,\n", "expected a whole number, 0 or more, as capacity of 'bob'"),
        (PEOPLE + "bob,2,1.5\n", "as capacity of 'bob'"),
        (PEOPLE + "bob,2,-1\n", "as capacity of 'bob'"),
        ("annotator,experience,capacity\n", "names no annotator"),
    ],
)
def test_bad_people(people: Path, text: str, words: str) -> None:
    people.write_text(text)
    with pytest.raises(DataError, match=words):
        read_people(people)
