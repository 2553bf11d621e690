"""Files that are whole or not there."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from records.files import RunDirectoryError, read_metrics, remove_leftovers, replacing, write_json


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


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 125}.json"
    write_json(path, {"a": 1})
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b'{"cycle": 1', "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"[]", "expected an object in .*, got a list"),
        (b'{"labelled_units": 3}', "expected cycle of type int in .*, got None"),
        (b'{"cycle": 0, "labelled_units": "many"}', "expected labelled_units of type int in .*, got 'many'"),
    ],
)
def test_broken_metrics_are_named_with_what_to_do(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=words) as raised:
        read_metrics(path)
    assert str(path) in str(raised.value)
    assert str(raised.value).endswith("; delete it, then start the same command again")


def test_metrics_of_earlier_versions_are_read(tmp_path: Path) -> None:
    old = {"cycle": 0, "labelled_units": 5, "labelled_pixels": 50, "epoch": 2, "val/miou": 0.5}
    write_json(tmp_path / "metrics.json", old)
    assert read_metrics(tmp_path / "metrics.json") == old


def test_what_dead_processes_were_writing_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = {pid: f".last.{pid}~.ckpt" for pid in (dead.pid, os.getpid(), os.getppid(), 1)}
    for name in (*names.values(), f".fingerprint.{dead.pid}~", ".notes.7~.old.txt~", "best.ckpt", ".lock"):
        (tmp_path / name).touch()
    with replacing(tmp_path / "x.json") as beside:
        beside.touch()
        assert beside.name == f".x.{os.getpid()}~.json", "the pattern above is what is written"
    remove_leftovers([tmp_path, tmp_path / "absent"])
    kept = {names[os.getppid()], names[1], "x.json", ".notes.7~.old.txt~", "best.ckpt", ".lock"}
    assert {p.name for p in tmp_path.iterdir()} == kept
