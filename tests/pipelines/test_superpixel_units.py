"""Superpixels and random crops as units, from the command line."""

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import cli
from datamodules.superpixels import Superpixels
from records.ledger import Ledger
from records.run_directory import RunDirectory
from tests.conftest import TINY


def settings(class_path: str, **arguments: Any) -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(TINY)
    made["cycles"] = 1
    made["data"]["partition"] = {"class_path": class_path, "init_args": arguments}
    made["data"]["initial"]["init_args"]["size"] = 12
    made["strategy"] |= {"budget": 8, "pictures": 2}
    made["trainer"]["max_epochs"] = 1
    return made


def fit(made: dict[str, Any], run_dir: Path, *more: str) -> None:
    config = run_dir.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(made))
    cli.main(["fit", "--config", str(config), "--run_dir", str(run_dir), *more])


def test_superpixels_are_queried_and_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, run = settings("datamodules.superpixels.Superpixels", count=12), RunDirectory(tmp_path / "run")
    fit(made, run.path)
    assert len(list(run.label_maps.glob("*.npz"))) == 24

    def nobody(*args: object) -> None:
        raise AssertionError("an image was divided again")

    monkeypatch.setattr(Superpixels, "segment", nobody)
    fit(made, run.path, "--cycles", "2")
    table = run.cycle(0).read_scores()
    assert table["unit_id"].str.fullmatch(r"train_\d{6}#sp=\d+").all()
    assert len(set(table["score"])) > 100, "superpixels of one image have scores of their own"
    curve = pd.read_csv(run.learning_curve)
    assert curve["labelled_units"].tolist() == [12, 20]
    ledger = Ledger(run.ledger)
    assert [e.unit_id for e in ledger.events() if e.kind == "queried"] == table["unit_id"].head(8).tolist()
    # another partition is another experiment
    with pytest.raises(SystemExit):
        fit(settings("datamodules.superpixels.Superpixels", count=13), run.path, "--cycles", "2")
    assert "other settings (data.partition" in capsys.readouterr().err


def test_random_crops_are_queried_and_paid(tmp_path: Path) -> None:
    made, run = settings("datamodules.partitions.RandomCrops", height=16, width=16), RunDirectory(tmp_path / "run")
    fit(made, run.path, "--cycles", "2")
    table = run.cycle(0).read_scores()
    assert len(table) == 12, "one of each image"
    assert table["unit_id"].str.fullmatch(r"train_\d{6}#crop=\d+,\d+,16,16").all()
    assert pd.read_csv(run.learning_curve)["labelled_pixels"].tolist() == [12 * 256, 20 * 256]
