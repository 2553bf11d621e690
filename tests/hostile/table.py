"""Rows of broken and hostile inputs, and what must come of each: one sentence, and nothing else."""

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import cli
from tests.conftest import TINY

Content = str | bytes | Callable[[Path], Any]

FIT = "fit --config tiny.yaml --run_dir run"
FIRST_TRY = {"run", "run/.lock", "run/config.yaml", "run/query.yaml", "run/ledger.sqlite"}
"""What a first try may leave behind: it does not stand in the way of the second."""


@dataclass(frozen=True)
class Row:
    """A command line in a folder with tiny.yaml and `files`, and what its one sentence must say.

    files: name to text, bytes or a function that makes the file. code: 2 where the command line could not be parsed.
    """

    command: str
    says: str
    files: Mapping[str, Content] = field(default_factory=dict)
    code: int = 1

    def __str__(self) -> str:
        return re.sub(r"[^\w.+= -]", "", self.command.removeprefix(FIT)).strip()[:60] or self.says[:40]


def table(rows: list[Row]) -> pytest.MarkDecorator:
    """The rows as a test's parameters."""
    return pytest.mark.parametrize("row", rows, ids=str)


def make(row: Row, here: Path) -> dict[str, str]:
    """Write the row's files; returns the listing of the folder."""
    if not (here / "tiny.yaml").exists():
        (here / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    for name, content in row.files.items():
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return listing(here)


def listing(here: Path) -> dict[str, str]:
    """Every file and folder with a hash of its content."""
    found = {}
    for folder, folders, files in os.walk(here):
        for name in folders:
            found[str((Path(folder) / name).relative_to(here))] = "folder"
        for name in files:
            path = Path(folder) / name
            content = path.read_bytes() if path.is_file() else b""
            found[str(path.relative_to(here))] = hashlib.blake2b(content).hexdigest()
    return found


def check(row: Row, code: object, said: str, before: dict[str, str], here: Path) -> None:
    """The exit status, one short sentence with the words, and nothing changed but what a first try may leave."""
    assert code == row.code, said
    assert "Traceback" not in said
    *others, sentence = [line for line in said.splitlines() if line.startswith(("dropquery: error: ", "error: "))]
    assert not others
    assert row.says in said
    assert len(sentence) < 700
    after = listing(here)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert not {name for name in changed if name in before or name not in FIRST_TRY}


def run_in_process(row: Row, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The row in this process, whose working directory is `here`."""
    before = make(row, here)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(shlex.split(row.command))
    check(row, stop.value.code, capsys.readouterr().err, before, here)
