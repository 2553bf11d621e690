"""A sample of the tables, one process each, as a user starts them."""

import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import test_checkpoints, test_data, test_run_directories, test_settings, test_tables
from tests.hostile.table import Row, check, prepare, table

ALL = [
    *test_settings.VALUES,
    *test_settings.CLASSES,
    *test_settings.YAMLS,
    *test_settings.NAMES,
    *test_tables.ROWS,
    *test_data.ROWS,
    *test_checkpoints.ROWS,
    *test_run_directories.SETTINGS,
    *test_run_directories.DAMAGE,
]
SAMPLE = [
    next(row for row in test_settings.VALUES if "--cycles 0" in row.command),
    test_settings.YAMLS[0],
    test_settings.NAMES[2],
    test_tables.ROWS[0],
    test_run_directories.SETTINGS[0],
    next(row for row in test_checkpoints.ROWS if "http" in row.command),
]


@table(SAMPLE)
def test_one_sentence_and_nothing_else(
    row: Row, run_dir: Path, here: Path, dropquery: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    before = prepare(row, here)
    done = dropquery(*shlex.split(row.command), check=False, cwd=here)
    check(row, done.returncode, done.stderr, before, here)


def test_the_table_is_a_table() -> None:
    assert len(ALL) >= 200
    with pytest.raises(AssertionError):
        check(SAMPLE[0], 0, "", {}, Path())
