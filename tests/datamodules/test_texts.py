"""Text files that people write, and tables that they open in a spreadsheet."""

from itertools import product
from pathlib import Path

import pytest
from datamodules.sources.folder import Folder
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from datamodules.files import DataError

from datamodules.texts import read_class_names, read_lines, shielded, unshielded


@pytest.mark.parametrize("kind", [Folder, MultiAnnotatorFolder])
def test_class_names_without_their_byte_order_mark(tmp_path: Path, kind: type[Folder]) -> None:
    (tmp_path / "classes.txt").write_text("wall\n\n Tür \n", encoding="utf-8-sig")
    assert kind(str(tmp_path)).class_names == ["wall", "Tür"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "in .*classes.txt, one a line, got an empty file; list them"),
        (b" \n\n", "got an empty file"),
        (b"wall\ndoor\n wall \n", "classes.txt names the class 'wall' twice"),
        ("wall\ndoor\n".encode("utf-16"), "UTF-8 text in .*classes.txt, got other bytes.*save it as UTF-8"),
        ("wall\ndoor\n".encode("utf-16-le"), "in .*classes.txt, got NUL characters; save it as UTF-8"),
        ("Tür\n".encode("latin-1"), "expected UTF-8 text"),
    ],
)
def test_class_names_that_are_none(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_class_names(path)


def test_lines_of_a_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("\ufeffa\r\n\n b c \n", encoding="utf-8")
    assert read_lines(path) == ["a", "b c"]


def test_a_shield_is_taken_away_again() -> None:
    for length in range(5):
        for text in map("".join, product("'=+-@a", repeat=length)):
            shown = shielded(text)
            assert unshielded(shown) == text
            assert not shown.startswith(tuple("=+-@"))


def test_nothing_else_gets_an_apostrophe() -> None:
    assert [shielded(t) for t in ("a=b", "", "'quoted'", "-5")] == ["a=b", "", "'quoted'", "'-5"]
