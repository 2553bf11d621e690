"""What status says of directories that are no run, and its rule."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from records.ledger import Labelled, Ledger
from records.reviews import ReviewEvent, Reviews
from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory
from reports.status import improvement, status
from tests.conftest import ROOT


def test_whether_a_curve_still_rises() -> None:
    assert improvement([0.2, 0.4]).startswith("too early to tell: 2 fitted cycles")
    assert improvement([0.2, 0.3, 0.31]).startswith("yes, best of the last 2 cycles against the best before: +0.1100")
    assert improvement([0.5, 0.4, 0.504]).startswith("no, best of the last 2 cycles against the best before: +0.0040")
    assert improvement([0.5, 0.4, 0.3]).startswith("no, ")


def test_what_is_no_run_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a run directory at .*elsewhere, got no folder; check --run_dir"):
        status(tmp_path / "elsewhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=r"got a folder without config\.yaml, query\.yaml or ledger\.sqlite"):
        status(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt"], "nothing is made"
    (tmp_path / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match="is not readable YAML"):
        status(tmp_path)


def test_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = StudyDirectory(tmp_path)
    study.config.write_text("cycles: 2\n")
    for seed in (0, 1):
        run = study.run(f"base/BALD/seed-{seed}")
        run.cycle(0).path.mkdir(parents=True)
        run.cycle(0).metrics.write_text("{}")
    study.states.write_text("name,state,attempts,seconds,run_dir,log,reason\na,finished,1,1,x,y,\nb,failed,1,1,x,y,z\n")
    status(tmp_path)
    said = capsys.readouterr().out
    assert "2 runs have a fitted cycle" in said
    assert "1 finished, 1 failed" in said
    assert f"dropquery study --config {study.config} --run_dir {tmp_path}" in said


def test_an_ensemble(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(tmp_path)
    for name in ("ann", "bob"):
        run.member(name, 0).cycle(0).path.mkdir(parents=True)
    run.member_logs.mkdir()
    run.member("ann", 0).cycle(0).metrics.write_text("{}")
    status(tmp_path)
    said = capsys.readouterr().out
    assert "1 of 2 members that were begun are fitted" in said
    assert "dropquery ensemble --config" in said


def test_a_run_that_is_drawn_and_reviewed_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDirectory(tmp_path)
    Reviews(run.ledger).record([ReviewEvent("a", "ann", "assigned", "boss")])
    status(tmp_path)
    said = capsys.readouterr().out
    assert "only queried, never fitted" in said
    assert "not known before the first query" in said
    row = {"cycle": 0, "labelled_units": 3, "monitor": "val/miou", "val/miou": 0.25}
    run.cycle(0).path.mkdir(parents=True)
    run.cycle(0).metrics.write_text(json.dumps(row))
    status(tmp_path)
    assert "val/miou 0.2500 (cycle 0, 3 units)" in capsys.readouterr().out


def test_no_torch_is_needed(tmp_path: Path) -> None:
    Ledger(RunDirectory(tmp_path).ledger).start([Labelled("a", 4)])
    heavy = "[m for m in ('torch', 'pytorch_lightning', 'matplotlib', 'datamodules') if m in sys.modules]"
    code = f"import sys, cli; cli.main(['status', '--run_dir', {str(tmp_path)!r}]); print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "1 units to train on" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
