"""The verb report, from outside."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.command import with_named
from tests.reports.page.runs import make_run


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["RUN"], ["--run_dir", "RUN"]),
        (["--run_dir", "RUN"], ["--run_dir", "RUN"]),
        (["--score", "val/miou", "RUN"], ["--score", "val/miou", "--run_dir", "RUN"]),
        (
            ["--score=val/miou", "RUN", "--full_score", "1"],
            ["--score=val/miou", "--run_dir", "RUN", "--full_score", "1"],
        ),
        (["--help"], ["--help"]),
        ([], []),
    ],
)
def test_a_folder_may_stand_alone(words: list[str], named: list[str]) -> None:
    assert with_named(words, "--run_dir") == named


def test_report_draws_curve_and_page_from_files(
    tmp_path: Path, dropquery: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    run = make_run(tmp_path / "run")
    done = dropquery("report", run.path)
    assert done.returncode == 0, done.stderr
    assert f"page: {run.report_page}" in done.stdout
    assert run.report_page.is_file()
    assert run.learning_curve_picture.is_file()
    failed = dropquery("report", tmp_path / "nothing", check=False)
    assert failed.returncode == 1
    assert "expected a finished cycle below" in failed.stderr
