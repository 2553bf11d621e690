"""Stopping criteria: each by hand, and one that ends a run of the command line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

import cli
from pipelines.stopping import (
    Budget,
    CurveFlat,
    CycleEnd,
    History,
    LevelReached,
    StabilisingPredictions,
    agreement,
    history_of,
    why_stop,
)
from records.run_directory import RunDirectory


def history(scores: list[float], predictions: dict[int, list[int]] | None = None) -> History:
    rows = [
        {"cycle": c, "labelled_units": 10 + 5 * c, "labelled_pixels": 100 * c, "val/miou": s, "val/loss": 1 - s}
        for c, s in enumerate(scores)
    ]
    kept = {c: np.array(p) for c, p in (predictions or {}).items()}
    return History(rows, "val/miou", kept.get)


def test_budget() -> None:
    assert Budget(units=21).reason(history([0.1, 0.2, 0.3])) is None
    assert Budget(units=20).reason(history([0.1, 0.2, 0.3])) == "20 units are labelled and the budget is 20"
    assert Budget(pixels=150).reason(history([0.1, 0.2])) is None
    assert (
        Budget(units=99, pixels=200).reason(history([0.1, 0.2, 0.3])) == "200 pixels are labelled and the budget is 200"
    )
    with pytest.raises(ValueError, match="needs units, pixels, objects or clicks, got none"):
        Budget()


def test_level() -> None:
    assert LevelReached(0.3).reason(history([0.3, 0.2])) is None, "the last cycle's"
    assert LevelReached(0.3).reason(history([0.2, 0.3])) == "val/miou is 0.3000 and the level 0.3"
    assert LevelReached(0.8, "val/loss").reason(history([0.2])) is not None
    with pytest.raises(ValueError, match=r"asks for the score 'val/iou', got only val/loss, val/miou; name one"):
        LevelReached(0.3, "val/iou").reason(history([0.2]))


def test_flat() -> None:
    criterion = CurveFlat(epsilon=0.01, cycles=2)
    assert criterion.reason(history([0.5, 0.5])) is None, "too short to say"
    assert criterion.reason(history([0.5, 0.5, 0.51])) is None
    assert "gained +0.0050 over the last 2 cycles, less than 0.01" in str(criterion.reason(history([0.5, 0.4, 0.505])))
    assert "gained -0.1000" in str(criterion.reason(history([0.5, 0.4, 0.3]))), "a curve that falls is flat"
    with pytest.raises(ValueError, match="cycles >= 1"):
        CurveFlat(cycles=0)


def test_stabilising() -> None:
    first, same, other = [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 1]
    criterion = StabilisingPredictions(0.9, cycles=2)
    assert criterion.reason(history([0.1] * 2, {0: first, 1: same})) is None, "one pair is not two"
    assert "kappa 1.0000, 1.0000, above 0.9" in str(criterion.reason(history([0.1] * 3, {0: first, 1: same, 2: same})))
    assert criterion.reason(history([0.1] * 3, {0: first, 1: same, 2: other})) is None
    assert criterion.reason(history([0.1] * 3, {1: same, 2: same})) is None, "a cycle without predictions"
    assert StabilisingPredictions(0.9, 1).reason(history([0.1] * 3, {1: same, 2: same})) is not None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_agreement_is_cohens_kappa(pairs: list[tuple[int, int]]) -> None:
    first, second = np.array(pairs).T
    found = agreement(first, second)
    assert found is not None
    if len({*first, *second}) == 1:
        assert found == 1
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second))
    assert agreement(first, second[:-1]) is None


def test_the_first_that_fires_is_told() -> None:
    criteria = [LevelReached(0.9), Budget(units=15), CurveFlat(0.5, 1)]
    assert why_stop(criteria, history([0.2])) is None
    found = why_stop(criteria, history([0.2, 0.3]))
    assert found is not None
    assert found["criterion"] == "Budget"
    assert why_stop([], history([0.2])) is None


def test_the_end_of_a_cycle_is_decided_by_the_files_of_the_run(tmp_path: Path) -> None:
    for row in history([0.2, 0.3]).rows:
        RunDirectory(tmp_path).cycle(row["cycle"]).write_metrics({**row, "monitor": "val/miou"})
    fires, sleeps = LevelReached(0.25, "val/miou"), LevelReached(0.9, "val/miou")
    assert CycleEnd(tmp_path, 1, last=False).queries()
    assert CycleEnd(tmp_path, 1, last=False, criteria=[sleeps]).queries()
    assert CycleEnd(tmp_path, 0, last=False, criteria=[fires]).queries(), "later cycles are not looked at"
    last = CycleEnd(tmp_path, 1, last=True, criteria=[fires])
    assert not last.may_query
    assert not last.queries()
    assert not (tmp_path / "stopped.json").exists(), "a run that is through was not stopped"
    assert not CycleEnd(tmp_path, 1, last=False, criteria=[sleeps, fires]).queries()
    assert json.loads((tmp_path / "stopped.json").read_text())["cycle"] == 1


@pytest.fixture
def stopping(tiny_config: Path) -> Path:
    config = yaml.safe_load(tiny_config.read_text())
    config["stop"] = [
        {"class_path": "pipelines.stopping.LevelReached", "init_args": {"level": 0.999}},
        {"class_path": "pipelines.stopping.Budget", "init_args": {"units": 9}},
    ]
    tiny_config.write_text(yaml.safe_dump(config))
    return tiny_config


def test_a_run_stops_says_why_and_goes_on_when_told(
    stopping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["fit", "--config", str(stopping), "--run_dir", str(run)]
    cli.main(command)
    stopped = json.loads((run / "stopped.json").read_text())
    reason = "9 units are labelled and the budget is 9"
    assert stopped == {"cycle": 1, "criterion": "Budget", "reason": reason}
    assert pd.read_csv(run / "learning_curve.csv")["labelled_units"].tolist() == [5, 9]
    assert (run / "cycles" / "00" / "scores.parquet").is_file()
    assert not (run / "cycles" / "01" / "scores.parquet").exists(), "what is not used is not queried"

    before = (run / "cycles" / "01" / "best.ckpt").stat().st_mtime_ns
    cli.main(command)
    assert json.loads((run / "stopped.json").read_text()) == stopped
    assert not (run / "cycles" / "02").exists()
    assert (run / "cycles" / "01" / "best.ckpt").stat().st_mtime_ns == before

    config = yaml.safe_load(stopping.read_text())
    config["stop"] = [{"class_path": "pipelines.stopping.StabilisingPredictions", "init_args": {"threshold": 0.99}}]
    stopping.write_text(yaml.safe_dump(config))
    cli.main(command)
    assert pd.read_csv(run / "learning_curve.csv")["labelled_units"].tolist() == [5, 9, 13]
    assert not (run / "stopped.json").exists()
    kept = history_of(run, 2).predictions(2)
    assert kept is not None
    assert kept.shape == (6 * 4 * 6,), "6 images of 32 x 48, every 8th row and column"
    assert set(np.unique(kept)) <= set(range(5))


def test_predictions_that_do_not_change_stop_a_run(tiny_config: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(tiny_config.read_text())
    config["stop"] = [
        {"class_path": "pipelines.stopping.StabilisingPredictions", "init_args": {"threshold": 0.5, "cycles": 1}}
    ]
    config["warm_start"] = True
    tiny_config.write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(run), "--model.optimizer.lr", "1e-12"])
    assert json.loads((run / "stopped.json").read_text())["criterion"] == "StabilisingPredictions"
    assert len(pd.read_csv(run / "learning_curve.csv")) == 2
