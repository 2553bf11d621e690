"""The query's files, budgets and what it must not see."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cli
from acquisition.batch import CoreSet
from acquisition.functions import BALD, Inverse, Random
from acquisition.limits import AtMostPerImage, draw_candidates
from acquisition.predictors import MCDropout
from acquisition.racing import Race
from acquisition.selection import PowerSampling
from callbacks.query import QueryCallback
from tests.conftest import TINY


def fit(config: Path, run_dir: Path, *arguments: str) -> None:
    cli.main(["fit", "--config", str(config), "--run_dir", str(run_dir), "--cycles", "2", *arguments])


def scores_of(run_dir: Path) -> pd.DataFrame:
    return pd.read_parquet(run_dir / "cycles" / "00" / "scores.parquet")


def test_same_scores_whatever_the_batch_size_workers_and_pictures(ask: Callable[..., Path]) -> None:
    plain = scores_of(ask("plain", "--strategy.pictures", "1"))
    for other in (ask("batch", "--data.eval_batch_size", "7"), ask("workers", "--data.num_workers", "2")):
        scores = scores_of(other)
        assert scores["unit_id"].tolist() == plain["unit_id"].tolist()
        np.testing.assert_allclose(scores["score"], plain["score"], rtol=0, atol=1e-6)


def test_budget_in_pixels(ask: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert scores_of(ask("run", "--strategy.budget_pixels", str(3 * 32 * 48 - 1)))["selected"].sum() == 2
    with pytest.raises(SystemExit):
        ask("none", "--strategy.budget_pixels", "10")
    assert "must pay for at least one unit" in capsys.readouterr().err


def test_a_budget_in_pixels_that_pays_for_nothing_is_said_before_the_fit(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fit(tiny_config, tmp_path / "run", "--strategy.budget_pixels", "10")
    assert "whichever it is: expected 1536 or more, got 10" in capsys.readouterr().err
    assert not (tmp_path / "run" / "cycles" / "00" / "last.ckpt").exists()


def test_random_reads_no_image_and_draws_no_picture(ask: Callable[..., Path]) -> None:
    run = ask("run", "--strategy.acquisition", "Random", "--strategy.pictures", "1")
    assert scores_of(run)["score"].between(0, 1).all()
    assert not (run / "cycles" / "00" / "maps").exists()


def test_pictures_show_image_prediction_map_and_truth(ask: Callable[..., Path]) -> None:
    run = ask("run", "--strategy.pictures", "2")
    maps = sorted((run / "cycles" / "00" / "maps").glob("*.png"))
    scores = scores_of(run)
    assert [p.name for p in maps] == sorted(
        [f"top-{i + 1}_{u}.png" for i, u in enumerate(scores["unit_id"].head(2))]
        + [f"bottom-{i + 1}_{u}.png" for i, u in enumerate(scores["unit_id"].tail(2)[::-1])]
    )
    width, height = Image.open(maps[0]).size
    assert width > 3 * height, "four panels side by side"


def test_a_strategy_is_checked_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 2 for BALD, got 1"):
        QueryCallback(BALD(), predictor=MCDropout(1))
    with pytest.raises(ValueError, match="budget must be at least 1"):
        QueryCallback(Random(), budget=0)
    with pytest.raises(ValueError, match=r"strategy\.candidates must be at least the budget of 10 units, got 9"):
        QueryCallback(Random(), candidates=9)
    with pytest.raises(ValueError, match="AtMostPerImage needs a selection by scores, got CoreSet"):
        QueryCallback(Random(), selection=AtMostPerImage(CoreSet(), 2))
    with pytest.raises(ValueError, match="PowerSampling needs scores above 0"):
        QueryCallback(Inverse(BALD()), selection=AtMostPerImage(PowerSampling(), 2))
    with pytest.raises(ValueError, match="name of the column of scores"):
        QueryCallback(Random(), scores_csv="name")


def test_only_candidates_are_scored_and_queried(ask: Callable[..., Path]) -> None:
    whole = scores_of(ask("whole")).set_index("unit_id")["score"]
    run = ask("some", "--strategy.candidates", "7", "--strategy.scores_csv", "entropy_value")
    scores = scores_of(run)
    assert len(scores) == 7
    assert scores["selected"].sum() == 4
    np.testing.assert_allclose(scores["score"], whole[scores["unit_id"]], rtol=0, atol=1e-6)
    assert set(scores["unit_id"]) == set(draw_candidates(sorted(whole.index), 7, TINY["seed_everything"], 0))
    named = pd.read_csv(run / "cycles" / "00" / "scores.csv")
    assert list(named.columns) == ["name", "entropy_value"]
    assert named["name"].tolist() == scores["unit_id"].tolist()
    np.testing.assert_allclose(named["entropy_value"], scores["score"])


def test_cells_among_candidates_with_a_limit_per_image(ask: Callable[..., Path], tmp_path: Path) -> None:
    settings = copy.deepcopy(TINY)
    settings["data"]["partition"] = {
        "class_path": "datamodules.partitions.Grid", "init_args": {"height": 16, "width": 16},
    }  # fmt: skip
    settings["strategy"] |= {
        "budget": 10,
        "candidates": 40,
        "selection": {
            "class_path": "acquisition.limits.AtMostPerImage",
            "init_args": {"selection": {"class_path": "acquisition.selection.TopK"}, "count": 1},
        },
    }
    run = ask("cells", settings=settings)
    scores, queried = scores_of(run), pd.read_csv(run / "cycles" / "00" / "queried.csv")
    assert len(scores) == 40
    assert len(queried) == queried["image_id"].nunique() == 10
    assert (queried["pixels"] == 256).all()
    polygons = json.loads((run / "cycles" / "00" / "regions.json").read_text())
    assert list(polygons) == queried["image_id"].tolist()
    row, column = queried.loc[0, ["row", "column"]].tolist()
    corners = np.array(polygons[queried.loc[0, "image_id"]]["instances"][0]["points"]).reshape(-1, 2)
    assert (corners.min(axis=0).tolist(), corners.max(axis=0).tolist()) == ([column, row], [column + 16, row + 16])


def test_uncertainty_does_not_keep_picking_a_repeated_image(tiny_config: Path, tmp_path: Path) -> None:
    """Thesis 002, 3.3.2: half of the pool is one image under many names; once known it is not asked for."""
    arguments = [
        "--data.source.num_train", "60", "--data.source.repeated", "0.5", "--data.initial.size", "10",
        "--strategy.acquisition", "Entropy", "--strategy.budget", "8",
        "--cycles", "4", "--trainer.max_epochs", "25", "--trainer.check_val_every_n_epoch", "25",
    ]  # fmt: skip
    cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), *arguments])
    queried = pd.concat(pd.read_csv(p) for p in sorted((tmp_path / "run" / "cycles").glob("*/queried.csv")))
    assert len(queried) == 24
    repeated = queried["unit_id"].str.startswith("repeated").sum()
    assert repeated <= 4, f"random picking would take about 12 copies, this took {repeated}"


def test_a_race_finds_nearly_the_same_units_with_fewer_samples(ask: Callable[..., Path]) -> None:
    settings = copy.deepcopy(TINY)
    settings["data"]["source"]["init_args"]["num_train"] = 60
    settings["strategy"]["predictor"]["init_args"]["num_samples"] = 32
    settings["trainer"]["max_epochs"] = 8
    chosen = []
    for name, extra in (("full", []), ("race", ["--strategy.race", '{"first": 8, "confidence": 0.95}'])):
        run = ask(name, *extra, settings=settings)
        scores = scores_of(run)
        assert len(scores) == 60
        chosen.append(set(scores["unit_id"][scores["selected"]]))
    report = json.loads((run / "cycles" / "00" / "race.json").read_text())
    assert report["samples"] < report["samples_without_race"] == 32 * 60
    assert len(chosen[0] & chosen[1]) >= 3
    with pytest.raises(ValueError, match="a race needs an acquisition that draws MC samples and TopK"):
        QueryCallback(Random(), race=Race())


def test_the_doctor_prints_a_table_and_moves_nothing(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tiny_config, tmp_path / "run")
    ledger = (tmp_path / "run" / "ledger.sqlite").read_bytes()
    best = str(tmp_path / "run" / "cycles" / "01" / "best.ckpt")
    common = ["query", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), "--ckpt_path", best]
    capsys.readouterr()
    cli.main([*common, "--doctor", "true"])
    printed = "".join(capsys.readouterr())
    for words in ("active dropouts", "fc6.2 0.5, fc7.2 0.5", "% of the operations", "pool augmentation", "not opened"):
        assert words in printed
    assert (tmp_path / "run" / "ledger.sqlite").read_bytes() == ledger
    assert not (tmp_path / "run" / "cycles" / "01" / "scores.parquet").exists()


def test_the_approximation_at_output_stride_ranks_nearly_alike(ask: Callable[..., Path]) -> None:
    settings = copy.deepcopy(TINY)
    settings["model"]["init_args"]["network"] = {
        "class_path": "lightning_modules.networks.DeepLabV3Plus",
        "init_args": {"num_classes": 5, "encoder": "resnet18", "decoder_channels": 16},
    }
    settings["data"]["source"]["init_args"]["num_train"] = 40
    tables = []
    for name in ("false", "true"):
        table = scores_of(ask(name, "--strategy.predictor.at_output_stride", name, settings=settings))
        tables.append(table.set_index("unit_id")["score"].sort_index())
    assert not np.allclose(*tables, rtol=1e-6), "it is an approximation"
    assert tables[0].corr(tables[1], method="spearman") > 0.9
