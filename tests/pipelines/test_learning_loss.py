"""Learning loss from the command line: fit, query, resume, warm start, two processes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import cli
from lightning_modules.networks import FCN8s, LossPrediction
from records.ledger import Ledger
from records.run_directory import RunDirectory
from tests.conftest import TINY, TINY_DIGITS, in_this_process

LAYERS = ["stages.3", "fc7", "score_fc7"]
LEARNING_LOSS = {"class_path": "acquisition.functions.LearningLoss"}


def settings() -> dict[str, Any]:
    made: dict[str, Any] = copy.deepcopy(TINY)
    model = made["model"]["init_args"]
    model["network"] = {
        "class_path": "lightning_modules.networks.LossPrediction",
        "init_args": {"network": model["network"], "layers": LAYERS, "width": 8},
    }
    model["ranking"] = {
        "class_path": "lightning_modules.learning_loss.RankingLoss",
        "init_args": {"weight": 0.1, "from_epoch": 1, "detach_epoch": 2},
    }
    made["strategy"] |= {"acquisition": LEARNING_LOSS, "pictures": 1}
    made["cycles"] = 2
    return made


def fit(made: dict[str, Any], run_dir: Path, *more: str) -> RunDirectory:
    config = run_dir.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(made))
    cli.main(["fit", "--config", str(config), "--run_dir", str(run_dir), *more])
    return RunDirectory(run_dir)


def test_a_fit_and_its_query(tmp_path: Path) -> None:
    run = fit(settings(), tmp_path / "run")
    curve = pd.read_csv(run.learning_curve)
    assert curve["labelled_units"].tolist() == [5, 9]
    assert curve["val/ranking_accuracy"].between(0, 1).all()
    assert {e.strategy for e in Ledger(run.ledger).events() if e.kind == "queried"} == {"LearningLoss-Mean-TopK"}
    table = run.cycle(0).read_scores()
    assert table["score"].nunique() == len(table) == 19
    assert len(list(run.cycle(0).maps.glob("*.png"))) == 2
    # the weights of the head are kept, and load
    state = torch.load(run.cycle(0).best, weights_only=True)["state_dict"]
    network = LossPrediction(FCN8s(5, width=0.03, batch_norm=True), LAYERS, width=8)
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items()})


def test_a_warm_start_keeps_the_head(tmp_path: Path) -> None:
    still = ["--model.optimizer.lr", "1e-12", "--trainer.max_epochs", "1"]
    run = fit(settings(), tmp_path / "run", "--warm_start", "true", *still)
    first, second = (torch.load(run.cycle(n).best, weights_only=True)["state_dict"] for n in (0, 1))
    head = [k for k in first if k.startswith(("network.squeeze", "network.predict"))]
    assert len(head) == 8
    assert all(torch.allclose(first[k], second[k], atol=1e-6) for k in head)


def test_bald_of_a_network_that_predicts_its_loss(tmp_path: Path) -> None:
    run = fit(settings(), tmp_path / "run", "--strategy.acquisition", "BALD", "--cycles", "1")
    best = str(run.cycle(0).best)
    config = str(tmp_path / "run.yaml")
    for name, acquisition in (("bald", "BALD"), ("loss", "LearningLoss")):
        arguments = ["--run_dir", str(tmp_path / name), "--strategy.acquisition", acquisition]
        cli.main(["query", "--config", config, "--ckpt_path", best, "--doctor", "true", *arguments])
        cli.main(["query", "--config", config, "--ckpt_path", best, *arguments])
        assert RunDirectory(tmp_path / name).cycle(0).read_scores()["selected"].sum() == 4


def test_a_query_that_cannot_be_answered_is_refused_before_the_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = settings()
    parts["data"]["partition"] = {
        "class_path": "datamodules.partitions.Grid",
        "init_args": {"height": 16, "width": 16},
    }
    plain = copy.deepcopy(TINY)
    plain["strategy"]["acquisition"] = LEARNING_LOSS
    for made, words in ((parts, "needs whole images as units"), (plain, "needs a network that predicts its own loss")):
        with pytest.raises(SystemExit):
            fit(made, tmp_path / "run")
        assert words in capsys.readouterr().err
        assert not RunDirectory(tmp_path / "run").metrics()


def test_two_processes(dropquery: Callable[..., Any], tmp_path: Path) -> None:
    """Every parameter has a gradient from the first epoch on, when ranking and noise layer have a weight of 0."""
    config = tmp_path / "config.yaml"
    made = settings()
    noise = {"class_path": "lightning_modules.noise_losses.DropoutNoise", "init_args": {"num_classes": 5}}
    plain = {"class_path": "lightning_modules.losses.CrossEntropy"}
    made["model"]["init_args"]["loss"] = {
        "class_path": "lightning_modules.losses.FadeIn", "init_args": {"first": plain, "then": noise, "epochs": 1},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(made))
    ddp = ["--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.batch_size", 2]
    dropquery("fit", "--config", config, "--run_dir", tmp_path / "run", *ddp)
    curve = pd.read_csv(RunDirectory(tmp_path / "run").learning_curve)
    weights = torch.load(RunDirectory(tmp_path / "run").cycle(1).best, weights_only=True)["state_dict"]
    assert not torch.equal(weights["loss.then.weight"], torch.eye(5))
    assert curve["labelled_units"].tolist() == [5, 9]
    assert curve["val/ranking_accuracy"].between(0, 1).all()


def test_runs_of_a_study_are_not_trained_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made: dict[str, Any] = copy.deepcopy(TINY_DIGITS)
    model = made["model"]["init_args"]
    model["network"] = {
        "class_path": "lightning_modules.networks.LossPrediction",
        "init_args": {"network": model["network"], "layers": ["head"], "width": 8},
    }
    made["strategy"] = {"acquisition": LEARNING_LOSS, "budget": 4, "pictures": 1}
    made["trainer"] |= {"max_epochs": 2, "check_val_every_n_epoch": 2}
    made["grid"] = {"seeds": 1, "strategies": {"loss": {"acquisition": LEARNING_LOSS}}}
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(made))
    command = ["study", "--config", str(config), "--run_dir", str(tmp_path / "run")]
    with in_this_process():
        with pytest.raises(SystemExit):
            cli.main([*command, "--grid.stacked", "true"])
        assert "stacked fits do not train a prediction of the loss" in capsys.readouterr().err
        cli.main(command)
    table = pd.read_csv(tmp_path / "run" / "study.csv")
    assert table["labelled_units"].tolist() == [20, 24]
    assert table["val/ranking_accuracy"].between(0, 1).all()
