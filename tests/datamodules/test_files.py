"""Files that are whole or not there."""

import json
from pathlib import Path

import pytest

from datamodules.files import RunDirectoryError, replacing, write_json


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.csv"
    with replacing(path) as beside:
        beside.write_text("half")
        assert not path.exists()
        assert beside.suffix == ".csv"
        assert beside.parent == path.parent
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


ERRORS = [RuntimeError("stopped"), KeyboardInterrupt(), OSError(28, "No space left on device")]


def half_write(path: Path, error: BaseException) -> None:
    with replacing(path) as beside:
        beside.write_text("{")
        raise error


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_an_exception_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    expected = RunDirectoryError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as raised:
        half_write(path, error)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert "x.json could not be written (No space left on device); make room" in str(raised.value)


def test_content_that_is_no_json_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match=r"x\.json could not be written .*start the same command again"):
        write_json(tmp_path / "file" / "x.json", {})
