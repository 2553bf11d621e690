"""Who answers a query."""

from pathlib import Path

import pytest
from datamodules.units import DataError, Unit

from datamodules.oracle import FolderOracle, HiddenTruth, LabelTable


def test_hidden_truth_answers_at_once() -> None:
    unit = Unit("a", Path("a.png"), Path("m.png"))
    assert HiddenTruth().answer(unit) == unit
    assert not HiddenTruth().partial


def test_a_folder_answers_when_the_file_is_there(tmp_path: Path) -> None:
    oracle = FolderOracle(str(tmp_path))
    unit = Unit("city/a", Path("a.png"), mask=Path("truth.png"))
    # the data set's own mask is not looked at
    assert oracle.answer(unit) is None
    drawn = tmp_path / "city" / "a.png"
    drawn.mkdir(parents=True)
    assert oracle.answer(unit) is None
    drawn.rmdir()
    drawn.write_bytes(b"")
    assert oracle.answer(unit) == Unit("city/a", Path("a.png"), drawn)
    assert str(tmp_path) in oracle.instructions()
    assert not oracle.partial
    assert FolderOracle("x", partial=True).partial


def test_a_table_answers_by_its_column_unit_id(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    table = LabelTable(str(path), others=False)
    assert table.named() == set()
    path.write_text("name,unit_id,label\nx.png,'=x,cat\ny.png,y,\n", encoding="utf-8-sig")
    assert table.named() == {"=x"}
    assert table.answer(Unit("=x")) == Unit("=x", label="cat")
    assert table.answer(Unit("y")) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            b"name,label\nx.png,cat\n",
            r"columns unit_id and label in .*got name, label; copy the column unit_id",
        ),
        (b"id;label\n", r"got id;label; correct its first line"),
        (b"", "got none; correct its first line"),
        ("unit_id,label\n".encode("utf-16"), r"expected UTF-8 text in .*labels\.csv"),
        (b"unit_id,label\nx,cat\nx,dog\n", r"labels\.csv labels 'x' twice, 'cat' and 'dog'"),
    ],
)
def test_tables_that_cannot_be_right(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        LabelTable(str(tmp_path / "labels.csv")).answer(Unit("x"))
