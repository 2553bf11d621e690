"""A first model in common: chosen among several, and taken by runs and studies."""

import sqlite3
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import cli
from pipelines import initial_models, study
from records.ledger import Ledger
from records.study_directory import StudyDirectory
from tests.conftest import TINY_DIGITS, one_after_another

pytestmark = pytest.mark.xdist_group("initial_models")  # they share the study

STRATEGIES = {
    "random": {"acquisition": {"class_path": "acquisition.functions.Random"}},
    "margin": {"acquisition": {"class_path": "acquisition.functions.Margin"}},
}
SUBSET = {"class_path": "datamodules.initial.RandomSubset", "init_args": {"size": 30}}
SETTINGS: dict[str, Any] = {
    **TINY_DIGITS,
    "data": {**TINY_DIGITS["data"], "initial": SUBSET, "allow_missing_classes": True},
    "strategy": {"acquisition": {"class_path": "acquisition.functions.Margin"}, "budget": 5, "pictures": 0},
    "trainer": {**TINY_DIGITS["trainer"], "max_epochs": 4, "check_val_every_n_epoch": 4},
}
GRID = {"seeds": 2, "at_once": 1, "strategies": {"random": STRATEGIES["random"]}}


def write(path: Path, **settings: Any) -> str:
    path.write_text(yaml.safe_dump({**SETTINGS, **settings}))
    return str(path)


def initial(run_dir: Path) -> list[str]:
    ledger = Ledger(run_dir / "ledger.sqlite")
    units = ledger.initial()
    ledger.close()
    return units


def best(run_dir: Path) -> bytes:
    return (run_dir / "cycles" / "00" / "best.ckpt").read_bytes()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets, each fitted twice."""
    folder = tmp_path_factory.mktemp("models")
    grid = {**GRID, "vary": {"data.initial.seed": [0, 1, 2]}}
    config = write(folder / "models.yaml", cycles=1, grid=grid)
    cli.main(["study", "--config", config, "--run_dir", str(folder / "study")])
    return folder / "study"


def nearest(models: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    capsys.readouterr()
    cli.main(["nearest", "--run_dir", str(models)])
    (line,) = capsys.readouterr().out.splitlines()
    return Path(line.rpartition("--initial_run ")[2])


def test_each_set_is_fitted_twice_and_the_run_nearest_to_the_mean_is_named(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(models / "study.csv")
    sets = {tuple(initial(run.path)) for run in StudyDirectory(models).runs()}
    assert (len(table), len(sets)) == (6, 3)
    assert len({best(run.path) for run in StudyDirectory(models).runs()}) == 6
    row = table.loc[(table["val/accuracy"] - table["val/accuracy"].mean()).abs().idxmin()]
    cli.main(["nearest", "--run_dir", str(models)])
    run = models / "runs" / f"seed={row['data.initial.seed']}" / "random" / f"seed-{row['seed']}"
    said = capsys.readouterr().out
    assert said.startswith(f"{run} has val/accuracy {row['val/accuracy']:.4f} in cycle 0")
    assert f"mean {table['val/accuracy'].mean():.4f} of 6 runs" in said


@pytest.mark.parametrize("stacked", [True, False])
def test_all_runs_of_a_study_begin_with_it(
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stacked: bool,
) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    first = nearest(models, capsys)
    grid = {**GRID, "seeds": [3, 4], "stacked": stacked, "strategies": STRATEGIES}
    config = write(tmp_path / "study.yaml", cycles=2, grid=grid)
    command = ["study", "--config", config, "--run_dir", str(tmp_path / "study"), "--initial_run", str(first)]
    if not stacked:
        command += ["--grid.seeds", "[3]"]
    cli.main(command)
    runs = StudyDirectory(tmp_path / "study").runs()
    assert len(runs) == (4 if stacked else 2)
    assert {tuple(initial(run.path)) for run in runs} == {tuple(initial(first))}
    assert {best(run.path) for run in runs} == {best(first)}
    metrics = (first / "cycles" / "00" / "metrics.json").read_text()
    assert {run.cycle(0).metrics.read_text() for run in runs} == {metrics}
    assert len({tuple(Ledger(run.ledger).labelled()) for run in runs}) == len(runs) - (1 if stacked else 0)
    assert {len(Ledger(run.ledger).labelled()) for run in runs} == {35}
    assert pd.read_csv(tmp_path / "study" / "study.csv").groupby("cycle")["labelled_units"].max().tolist() == [30, 35]


def history(run_dir: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(run_dir / "ledger.sqlite") as connection:
        return connection.execute("SELECT cycle, kind, unit_id, score, rank FROM events ORDER BY id").fetchall()


@pytest.mark.parametrize("moment", ["before", "between"])
def test_killed_while_it_is_copied_a_run_goes_on(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    first = nearest(models, capsys)
    command = ["fit", "--config", write(tmp_path / "fit.yaml", cycles=2), "--initial_run", str(first), "--run_dir"]
    cli.main([*command, str(tmp_path / "whole")])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "before":
            patch.setattr(initial_models.shutil, "copyfile", killed)
        else:
            patch.setattr(initial_models, "record_copy", killed)
        with pytest.raises(KeyboardInterrupt):
            cli.main([*command, str(tmp_path / "killed")])
    assert not (tmp_path / "killed" / "cycles" / "00" / "metrics.json").exists()
    cli.main([*command, str(tmp_path / "killed")])
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    assert best(tmp_path / "killed") == best(tmp_path / "whole") == best(first)
    curves = [pd.read_csv(tmp_path / name / "learning_curve.csv") for name in ("killed", "whole")]
    pd.testing.assert_frame_equal(*curves)
    # once it is copied nothing is read of it any more
    away = first.rename(first.with_name("away"))
    try:
        cli.main([*command, str(tmp_path / "killed")])
    finally:
        away.rename(first)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--initial_run", "nowhere"], "expected a run at initial_run, got nowhere"),
        (["--model.network.width", "16"], "belongs to another network"),
        (["--data.source.num_train", "20"], "which is not a unit with a label"),
        (["--initial_models", "shared"], "a run has one first model"),
    ],
)
def test_what_cannot_be_taken_is_said(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    first = nearest(models, capsys)
    command = ["fit", "--config", write(tmp_path / "fit.yaml"), "--run_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit):
        cli.main([*command, "--initial_run", str(first), *arguments])
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run" / "cycles").exists()
    # a first try with a mistake does not stand in the way of the second
    cli.main([*command, "--initial_run", str(first), "--cycles", "1"])


def test_a_run_that_is_not_fitted_or_was_fitted_on_more_is_refused(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "fit.yaml")
    first = nearest(models, capsys)
    unfitted = tmp_path / "unfitted"
    unfitted.mkdir()
    Ledger(unfitted / "ledger.sqlite").start([(u, 64) for u in initial(first)])
    fit = ["fit", "--config", config, "--cycles", "1", "--run_dir", str(tmp_path / "run"), "--initial_run"]
    with pytest.raises(SystemExit):
        cli.main([*fit, str(unfitted)])
    assert "whose cycle 0 has not been trained" in capsys.readouterr().err
    for name in ("best.ckpt", "metrics.json"):
        (unfitted / "cycles" / "00").mkdir(parents=True, exist_ok=True)
        text = (first / "cycles" / "00" / name).read_bytes()
        (unfitted / "cycles" / "00" / name).write_bytes(text.replace(b'"labelled_units": 30', b'"labelled_units": 31'))
    with pytest.raises(SystemExit):
        cli.main([*fit, str(unfitted)])
    assert "was trained on 31 units, its ledger has 30 initial ones" in capsys.readouterr().err


def test_a_model_of_right_labels_is_none_for_wrong_ones(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = nearest(models, capsys)
    noise = "datamodules.corruptions.SymmetricNoise"
    command = ["fit", "--config", write(tmp_path / "fit.yaml"), "--cycles", "1", "--run_dir", str(tmp_path / "run")]
    wrong = ["--data.oracle", "datamodules.oracle.HiddenTruth", "--data.oracle.corruption", noise]
    with pytest.raises(SystemExit):
        cli.main([*command, "--initial_run", str(first), *wrong, "--data.oracle.corruption.rate", "0.2"])
    said = capsys.readouterr().err
    assert "says nothing wrong, but data.oracle gives labels SymmetricNoise(rate=0.2) here" in said


def test_nearest_needs_a_whole_study(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["nearest", "--run_dir", str(tmp_path)])
    assert "expected a finished study at" in capsys.readouterr().err
    (tmp_path / "jobs.csv").write_text("name,state,reason\nbase/random/seed-0,failed,\n")
    with pytest.raises(SystemExit):
        cli.main(["nearest", "--run_dir", str(tmp_path)])
    assert "1 of the 1 runs of" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["nearest", "--run_dir", str(models), "--score", "val/nothing"])
    assert "expected a metric among" in capsys.readouterr().err
