"""Who answers a query."""

from pathlib import Path

import pytest

from datamodules.files import DataError
from datamodules.oracle import FolderOracle, HiddenTruth, LabelTable
from datamodules.sources.class_folders import ClassFolders
from datamodules.sources.folder import Folder


@pytest.fixture
def animals(tmp_path: Path) -> ClassFolders:
    """Two classes; their folders are all that is asked for."""
    for name in ("cat", "dog"):
        (tmp_path / "animals" / "train" / name).mkdir(parents=True)
    return ClassFolders(str(tmp_path / "animals"))


def test_hidden_truth_answers_at_once(folder_root: Path) -> None:
    source = Folder(str(folder_root))
    assert HiddenTruth().annotations(source) is source
    assert not HiddenTruth().partial
    assert HiddenTruth().knows_truth
    assert list(HiddenTruth().named()) == []


def test_a_folder_answers_when_the_file_is_there(tmp_path: Path, folder_root: Path) -> None:
    oracle = FolderOracle(str(tmp_path))
    answers = oracle.annotations(Folder(str(folder_root)))
    # the data set's own mask is not looked at
    assert not answers.is_annotated("train0")
    assert not answers.is_annotated("city/a")
    drawn = tmp_path / "city" / "a.png"
    drawn.mkdir(parents=True)
    assert not answers.is_annotated("city/a")
    assert answers.annotation_path("city/a") is None
    drawn.rmdir()
    drawn.write_bytes(b"")
    assert answers.is_annotated("city/a")
    assert answers.annotation_path("city/a") == drawn
    assert not oracle.knows_truth
    assert str(tmp_path) in oracle.instructions()
    assert not oracle.partial
    assert FolderOracle("x", partial=True).partial


def test_a_table_answers_by_its_column_unit_id(tmp_path: Path, animals: ClassFolders) -> None:
    path = tmp_path / "labels.csv"
    table = LabelTable(str(path), others=False)
    answers = table.annotations(animals)
    assert set(table.named()) == set()
    path.write_text("name,unit_id,label\nx.png,'=x,cat\ny.png,y,\n", encoding="utf-8-sig")
    assert set(table.named()) == {"=x"}
    assert answers.read_annotation("=x").tolist() == 0
    assert not answers.is_annotated("y")


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
def test_tables_that_cannot_be_right(tmp_path: Path, animals: ClassFolders, content: bytes, words: str) -> None:
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=words):
        LabelTable(str(tmp_path / "labels.csv")).annotations(animals).is_annotated("x")


def test_people_answer_in_the_data_sets_form(tmp_path: Path, animals: ClassFolders, folder_root: Path) -> None:
    with pytest.raises(DataError, match=r"FolderOracle reads masks, but ClassFolders .* one class .*LabelTable"):
        FolderOracle(str(tmp_path)).annotations(animals)
    with pytest.raises(DataError, match=r"LabelTable reads one class per image, but Folder has masks; .*FolderOracle"):
        LabelTable(str(tmp_path / "labels.csv")).annotations(Folder(str(folder_root)))
