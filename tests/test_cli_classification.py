"""Classification through the command line: cycles on digits, pictures, predictions, doctor."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import cli
from records.ledger import Ledger
from tests.conftest import TINY_DIGITS


def test_cycles_predictions_and_doctor(
    tiny_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    common = ["--config", str(tiny_digits), "--run_dir", str(run), "--strategy.pictures", "1"]
    cli.main(["fit", *common])
    assert "labelled units x val/accuracy" in caplog.text
    curve = pd.read_csv(run / "learning_curve.csv")
    assert curve["labelled_units"].tolist() == [20, 24]
    assert curve["labelled_pixels"].tolist() == [20 * 64, 24 * 64]
    assert (curve["val/accuracy"] > 0.4).all()
    assert json.loads((run / "cycles" / "00" / "metrics.json").read_text())["monitor"] == "val/accuracy"
    assert {p.name for p in (run / "cycles" / "00" / "maps").iterdir()} == {"top.png", "bottom.png"}
    scores = pd.read_parquet(run / "cycles" / "00" / "scores.parquet")
    assert len(scores) == 180
    ckpt = ["--ckpt_path", str(run / "cycles" / "01" / "best.ckpt")]
    cli.main(["predict", *common, *ckpt])
    table = pd.read_csv(run / "predictions" / "classes.csv", dtype={"class": str})
    assert sorted(table["unit_id"]) == sorted(
        u for u in scores["unit_id"] if u not in Ledger(run / "ledger.sqlite").labelled()
    )
    columns = [f"p_{c}" for c in range(10)]
    assert table[columns].sum(axis=1).round(4).eq(1).all()
    assert table[columns].idxmax(axis=1).str.removeprefix("p_").equals(table["class"])
    assert (table[columns].max(axis=1) - table["probability"]).abs().max() < 1e-6
    capsys.readouterr()
    cli.main(["query", *common, *ckpt, "--doctor", "true"])
    report = capsys.readouterr()
    assert "labels of the pool" in report.out + report.err
    cli.main(["validate", *common, *ckpt])


def test_all_begin_with_what_an_expert_queried_before_anything_was_fitted(
    tmp_path: Path,
    trained: Callable[[dict[str, Any]], Path],
    dropquery: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Chen 2020, figure 3.10: a query into a run directory of its own, then a study on its queried.csv."""
    data = {**TINY_DIGITS["data"], "initial": {"class_path": "datamodules.initial.AllAnswered"}}
    expert = trained({**TINY_DIGITS, "data": data})
    first = tmp_path / "first"
    entropy = {"class_path": "acquisition.functions.Entropy"}
    asked = {
        "class_path": "acquisition.functions.Expert",
        "init_args": {"checkpoint": str(expert), "acquisition": entropy},
    }
    listed = {"path": str(first / "cycles" / "00" / "queried.csv")}
    settings = {
        **TINY_DIGITS,
        "data": {
            **data,
            "initial": {"class_path": "datamodules.initial.FromFile", "init_args": listed},
            "allow_missing_classes": True,
        },
        "strategy": {"acquisition": asked, "budget": 30, "pictures": 1},
        "trainer": {**TINY_DIGITS["trainer"], "max_epochs": 4, "check_val_every_n_epoch": 4},
        "grid": {
            "seeds": 2,
            "at_once": 1,
            "strategies": {
                "random": {"acquisition": {"class_path": "acquisition.functions.Random"}},
                "entropy": {"acquisition": entropy},
            },
        },
    }
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(settings))
    config = ["--config", tmp_path / "bad.yaml", "--run_dir"]
    said = dropquery("study", *config, tmp_path / "study", check=False)
    assert "name the queried.csv of a query" in said.stdout + said.stderr
    dropquery("query", *config, first)
    scores = pd.read_parquet(first / "cycles" / "00" / "scores.parquet").sort_values("score", ascending=False)
    highest = scores["unit_id"].head(30).tolist()
    assert len(scores) == 200, "the whole pool, for nothing is labelled"
    assert pd.read_csv(first / "cycles" / "00" / "queried.csv")["unit_id"].tolist() == highest
    dropquery("study", *config, tmp_path / "study", "--strategy.budget", "5")
    assert pd.read_csv(tmp_path / "study" / "study.csv")["labelled_units"].tolist() == [30, 35] * 4
    ledgers = (tmp_path / "study" / "runs").rglob("ledger.sqlite")
    assert [Ledger(path).initial() for path in ledgers] == [highest] * 4
    # the learner's own weights are asked for where they matter
    said = dropquery("query", *config, tmp_path / "other", "--strategy.acquisition", "Entropy", check=False)
    assert "query needs trained weights" in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.initial", "RandomSubset", "--data.initial.size", "3"], "so the network could not learn what it is"),
        (["--model.network.image_shape", "[1,28,28]"], "expects images of 1 x 28 x 28, got 1 x 8 x 8"),
        (["--model.network.num_classes", "7"], "the network predicts 7 classes but the data has 10"),
        (["--data.source.num_train", "9999"], "expected to choose 1 to 1400 images"),
    ],
)
def test_one_sentence_for_a_users_mistake(
    arguments: list[str], message: str, tiny_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", str(tiny_digits), "--run_dir", str(tmp_path / "run"), *arguments])
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
