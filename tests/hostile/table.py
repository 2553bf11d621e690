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

SETTINGS: dict[str, Any] = {**TINY, "cycles": 2, "trainer": {**TINY["trainer"], "max_epochs": 1}}
FOLDER: dict[str, Any] = {
    **yaml.safe_load(yaml.safe_dump(SETTINGS)),
    "data": {
        "source": {"class_path": "datamodules.sources.folder.Folder", "init_args": {"root": "data"}},
        "crop_size": [32, 32],
        "initial": {"class_path": "datamodules.initial.RandomSubset", "init_args": {"size": 4}},
        "batch_size": 4,
    },
}
FOLDER["model"]["init_args"]["network"]["init_args"]["num_classes"] = 3

FIT = "fit --config tiny.yaml --run_dir run"
FIRST_TRY = {
    f"{run}{name}"
    for run in ("run", "new")
    for name in ("", "/.lock", "/config.yaml", "/query.yaml", "/ledger.sqlite", "/progress.json")
}
"""What a first try may leave behind: it does not stand in the way of the second."""


@dataclass(frozen=True)
class Row:
    """A command line in a folder with `files`, and what its one sentence must say.

    files: name to text, bytes or a function that makes, changes or removes the file. code: 2 where the command line
    itself cannot be parsed.
    """

    command: str
    says: str
    files: Mapping[str, Content] = field(default_factory=dict)
    code: int = 1

    def __str__(self) -> str:
        changed = self.command.removeprefix(FIT).strip() or " ".join(self.files)
        return re.sub(r"[^\w.+=/ -]", "", changed)[:70]


def table(rows: list[Row]) -> pytest.MarkDecorator:
    """The rows as a test's parameters."""
    return pytest.mark.parametrize("row", rows, ids=str)


def prepare(row: Row, here: Path) -> dict[str, str]:
    """Write the settings and the row's files; returns the listing of the folder."""
    for name, settings in (("tiny.yaml", SETTINGS), ("folder.yaml", FOLDER)):
        (here / name).write_text(yaml.safe_dump(settings))
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
        for path in (Path(folder) / name for name in [*folders, *files]):
            content = path.read_bytes() if path.is_file() else b"a folder, or nothing"
            found[str(path.relative_to(here))] = hashlib.blake2b(content).hexdigest()
    return found


def check(row: Row, code: object, said: str, before: dict[str, str], here: Path) -> None:
    """The exit status, one short sentence with the words, and nothing changed but what a first try may leave."""
    assert code == row.code, said[-2000:]
    assert "Traceback" not in said
    found = list(re.finditer(r"^(?:dropquery: )?error: ", said, re.MULTILINE))
    assert len(found) == 1, said[-2000:]
    sentence = said[found[0].end() :].removesuffix("(set DROPQUERY_TRACEBACK=1 to see where)\n")
    assert row.says in sentence
    # every option that is mistyped gets a line, and so does a command to type
    assert len(sentence) < 700
    assert sentence.count("\n") <= (5 if code == 2 else 2)
    after = listing(here)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert not {name for name in changed if name in before or name not in FIRST_TRY}


def run_in_process(row: Row, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The row in this process, whose working directory is `here`."""
    before = prepare(row, here)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main(shlex.split(row.command))
    check(row, stop.value.code, capsys.readouterr().err, before, here)
