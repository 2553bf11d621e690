"""Superpixels and random crops as units, from the command line."""

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import cli
from datamodules.superpixels import Superpixels
from records.ledger import Ledger
from records.run_directory import RunDirectory
from tests.conftest import TINY
from tests.pipelines.test_cycles import history


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


def test_a_query_ends_where_the_clicks_or_objects_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = settings("datamodules.superpixels.Superpixels", count=12)
    made["cycles"] = 2
    made["data"] |= {
        "oracle": {"class_path": "datamodules.oracle.WholeObjects", "init_args": {"click_tolerance": 1}},
        "initial": {"class_path": "datamodules.initial.RandomImages", "init_args": {"size": 2}},
    }
    made["strategy"] |= {"budget": 1000}
    for name, limit in (("clicks", 60), ("objects", 7)):
        run = RunDirectory(tmp_path / name)
        fit(made, run.path, f"--strategy.budget_{name}", str(limit))
        first, second = pd.read_csv(run.learning_curve)[f"labelled_{name}"]
        assert 0 < second - first <= limit
        table = run.cycle(0).read_scores()
        taken = int(table["selected"].sum())
        assert 0 < taken < len(table)
        assert table["selected"].tolist() == [i < taken for i in range(len(table))]
        # the next unit would have been too much
        following = [e for e in Ledger(run.ledger).events() if e.kind == "labelled"]
        assert sum(getattr(e, name) for e in following) == second - first
        assert len(following) == taken
    for wrong, words in (
        (
            ["--strategy.budget_objects", "7", "--data.oracle", "HiddenTruth"],
            "set it to datamodules.oracle.WholeObjects",
        ),
        (["--strategy.budget_clicks", "7", "--data.oracle.click_tolerance", "null"], "counts clicks, got WholeObjects"),
        (
            ["--stop", "[{class_path: Budget, init_args: {objects: 9}}]", "--data.oracle", "HiddenTruth"],
            "needs objects to be",
        ),
        (["--strategy.budget_clicks", "1"], "budget_clicks must pay for at least one unit, got 1 where"),
        (["--strategy.budget_objects", "0"], "strategy.budget_objects must be at least 1 object, or null"),
    ):
        with pytest.raises(SystemExit):
            fit(made, tmp_path / "wrong", *wrong)
        said = capsys.readouterr().err
        assert words in said, said
        if "pay for" in words:
            # what a unit costs is known after the fit, which is not lost
            fit(made, tmp_path / "wrong", "--strategy.budget_clicks", "60")
            assert history(tmp_path / "wrong") == history(tmp_path / "clicks")
        shutil.rmtree(tmp_path / "wrong", ignore_errors=True)


def test_points_cost_a_click_each(tmp_path: Path) -> None:
    made, run = settings("datamodules.partitions.Points", spacing=6), RunDirectory(tmp_path / "run")
    made["cycles"] = 2
    made["data"]["scale"] = [1, 1]
    made["data"]["oracle"] = {"class_path": "datamodules.oracle.HiddenTruth", "init_args": {"click_tolerance": 2}}
    apart = {"selection": {"class_path": "acquisition.selection.TopK"}, "distance": 9}
    within = {"selection": {"class_path": "acquisition.limits.FarApart", "init_args": apart}, "count": 2}
    made["strategy"] |= {
        "budget": 100, "budget_clicks": 20,
        "selection": {"class_path": "acquisition.limits.AtMostPerImage", "init_args": within},
    }  # fmt: skip
    fit(made, run.path)
    curve = pd.read_csv(run.learning_curve)
    assert curve["labelled_units"].tolist() == curve["labelled_clicks"].tolist() == [12, 32]
    queried = pd.read_csv(run.cycle(0).queried)
    assert queried["unit_id"].str.fullmatch(r"train_\d{6}#point=\d+,\d+").all()
    assert queried["image_id"].value_counts().max() == 2
    for _, points in queried.groupby("image_id"):
        places = points[["row", "column"]].to_numpy(dtype=float)
        assert len(places) < 2 or np.hypot(*(places[0] - places[1])) >= 9


def test_units_that_a_resize_swallows_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = settings("datamodules.superpixels.Superpixels", count=300)
    made["cycles"] = 2
    made["data"] |= {"image_size": [16, 16], "crop_size": None}
    fit(made, tmp_path / "run")
    assert caplog.text.count("have no pixel left at data.image_size") == 1
    assert RunDirectory(tmp_path / "run").cycle(0).read_scores()["score"].notna().all()


def test_a_query_by_itself_says_before_it_scores_that_nobody_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = settings("datamodules.superpixels.Superpixels", count=12)
    fit(made, tmp_path / "run")
    best, config = tmp_path / "run" / "cycles" / "00" / "best.ckpt", tmp_path / "run.yaml"
    command = ["query", "--config", str(config), "--run_dir", str(tmp_path / "query"), "--ckpt_path", str(best)]
    with pytest.raises(SystemExit):
        cli.main([*command, "--strategy.budget_clicks", "10"])
    assert "expected a data.oracle that counts clicks, got HiddenTruth" in capsys.readouterr().err
    assert not list((tmp_path / "query").rglob("*.parquet"))


def test_a_budget_stays_once_something_was_queried_by_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = settings("datamodules.superpixels.Superpixels", count=12)
    made["cycles"] = 2
    made["data"]["oracle"] = {"class_path": "datamodules.oracle.WholeObjects", "init_args": {}}
    fit(made, tmp_path / "run", "--strategy.budget_objects", "5")
    with pytest.raises(SystemExit):
        fit(made, tmp_path / "run", "--strategy.budget_objects", "50", "--cycles", "3")
    assert "strategy.budget_objects: 5 then, 50 now" in capsys.readouterr().err


def test_wrong_labels_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, run = settings("datamodules.superpixels.Superpixels", count=12), RunDirectory(tmp_path / "run")
    made["cycles"] = 2
    rule = ["--data.oracle", "WholeObjects", "--data.oracle.corruption", "datamodules.corruptions.FlipMissing"]
    fit(made, run.path, *rule, "--data.oracle.corruption.rate", "0.3")
    asked = [e.strategy for e in Ledger(run.ledger).events() if e.kind == "queried"]
    assert len(asked) == 8
    assert all(name and name.endswith(", labels FlipMissing(rate=0.3)") for name in asked)
    with pytest.raises(SystemExit):
        fit(made, tmp_path / "wrong", *rule, "--data.oracle.corruption.rate", "1.3")
    assert "FlipMissing needs a probability from 0 to below 1, got 1.3" in capsys.readouterr().err
