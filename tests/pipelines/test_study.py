"""Studies: stacked runs against ordinary fits, pairing, resuming, failures."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

import cli
from datamodules.sources.digits import Digits
from lightning_modules.networks import TwoLayerNet
from pipelines import study
from records.ledger import Ledger
from records.run_directory import CycleDirectory
from tests.conftest import one_after_another

pytestmark = pytest.mark.xdist_group("study")  # they share trained runs

SETTINGS: dict[str, Any] = {
    "cycles": 3,
    "model": {
        "class_path": "lightning_modules.classification.ClassificationModule",
        "init_args": {
            "network": {
                "class_path": "lightning_modules.networks.TwoLayerNet",
                "init_args": {"width": 8, "image_shape": [1, 8, 8], "dropout": 0.5},
            },
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.01}},
        },
    },
    "data": {
        "source": {"class_path": "datamodules.sources.digits.Digits"},
        "initial": {"class_path": "datamodules.initial.RandomSubset", "init_args": {"size": 60}},
        "batch_size": 16,
    },
    "strategy": {"acquisition": {"class_path": "acquisition.functions.Margin"}, "budget": 20, "pictures": 0},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "check_val_every_n_epoch": 2,
        "enable_model_summary": False,
        "enable_progress_bar": False,
    },
    "wandb": {"mode": "disabled"},
    "grid": {
        "seeds": 2,
        "at_once": 1,
        "strategies": {
            "random": {"acquisition": {"class_path": "acquisition.functions.Random"}},
            "margin": {"acquisition": {"class_path": "acquisition.functions.Margin"}},
            "bald": {
                "acquisition": {"class_path": "acquisition.functions.BALD"},
                "predictor": {"class_path": "acquisition.predictors.MCDropout", "init_args": {"num_samples": 3}},
            },
        },
    },
}


def run(tmp_path: Path, name: str, *arguments: str, **grid: Any) -> Path:
    settings = SETTINGS | {"grid": SETTINGS["grid"] | grid}
    config = tmp_path / f"{name}.yaml"
    config.write_text(yaml.safe_dump(settings))
    cli.main(["study", "--config", str(config), "--run_dir", str(tmp_path / name), *arguments])
    return tmp_path / name


def events(run_dir: Path) -> list[tuple]:
    columns = ("cycle", "kind", "unit_id", "strategy", "rank", "pixels")
    return [tuple(getattr(e, c) for c in columns) for e in Ledger(run_dir / "ledger.sqlite").events()]


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("study"), "stacked", "--grid.keep_scores", "true")


def test_stacked_runs_equal_ordinary_fits(stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    single = run(tmp_path, "single", stacked=False, seeds=[1])
    for strategy in ("random", "margin", "bald"):
        mine, its = (root / "runs/base" / strategy / "seed-1" for root in (stacked, single))
        assert events(mine) == events(its)
        table, other = (pd.read_csv(d / "learning_curve.csv") for d in (mine, its))
        pd.testing.assert_frame_equal(table, other, check_like=True, rtol=1e-4, atol=1e-6)
        for cycle in ("00", "01"):
            scores, others = (
                pd.read_parquet(d / "cycles" / cycle / "scores.parquet").set_index("unit_id").sort_index()
                for d in (mine, its)
            )
            # rounding may exchange the ranks of scores that are nearly equal
            columns = ["score", "selected"]
            pd.testing.assert_frame_equal(scores[columns], others[columns], rtol=1e-4, atol=1e-6)
            chosen, asked = (pd.read_csv(d / "cycles" / cycle / "queried.csv") for d in (mine, its))
            pd.testing.assert_frame_equal(chosen, asked, rtol=1e-4, atol=1e-6)
        names, others = ({p.relative_to(d).as_posix() for p in d.rglob("*") if p.is_file()} for d in (mine, its))
        # a fit of its own goes on where it was cut, and says how far it is
        drawn = {"learning_curve.png", "index.html"}
        extra = {Path(name) for name in others - names}
        pictures = {path for path in extra if path.parent.parent.name == "pictures" or path.parent.name == "gallery"}
        assert {path.name for path in extra - pictures} == {"last.ckpt", "progress.json", *drawn}
        assert pictures
        assert names <= others


def test_strategies_are_paired_by_seed(stacked: Path) -> None:
    table = pd.read_csv(stacked / "study.csv")
    assert len(table) == 3 * 2 * 3
    first = table[table["cycle"] == 0]
    assert (first.groupby("seed")["val/loss"].nunique() == 1).all()
    assert first["val/loss"].nunique() == 2
    later = table[table["cycle"] == 2]
    assert later["val/loss"].nunique() == 6
    assert (later["labelled_units"] == 100).all()
    starts = [
        [e[2] for e in events(stacked / "runs/base" / s / "seed-0") if e[1] == "initial"] for s in ("random", "bald")
    ]
    assert starts[0] == starts[1]
    assert (stacked / "report" / "report.md").is_file()


@pytest.mark.parametrize("moment", ["a label is written", "a fit is written"])
def test_a_killed_study_goes_on_and_ends_the_same(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    owner, name = (Ledger, "query") if moment == "a label is written" else (CycleDirectory, "write_metrics")
    original = getattr(owner, name)
    calls = 0

    def killed(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, "killed")
    root = run(tmp_path, "killed")
    table, whole = (pd.read_csv(d / "study.csv") for d in (root, stacked))
    pd.testing.assert_frame_equal(table, whole, rtol=1e-5)
    for path in sorted(p.parent.relative_to(stacked) for p in stacked.glob("runs/*/*/*/ledger.sqlite")):
        assert events(root / path) == events(stacked / path)


def test_parts_do_what_the_whole_does(stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    root = run(tmp_path, "parts", at_once=2)
    pd.testing.assert_frame_equal(pd.read_csv(root / "study.csv"), pd.read_csv(stacked / "study.csv"), rtol=1e-5)
    assert {p.name for p in (root / "jobs").iterdir()} == {"part-0-of-2", "part-1-of-2"}


def test_a_study_may_grow_but_what_is_done_keeps_its_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategies = {"random": SETTINGS["grid"]["strategies"]["random"]}
    run(tmp_path, "grows", strategies=strategies, seeds=1)
    root = run(tmp_path, "grows", "--cycles", "4", strategies=SETTINGS["grid"]["strategies"], seeds=2)
    table = pd.read_csv(root / "study.csv")
    assert len(table) == 4 * 3 * 2
    with pytest.raises(SystemExit):
        run(tmp_path, "grows", "--cycles", "4", "--model.network.width", "9", seeds=2)
    wrong = {"random": {"acquisition": {"class_path": "acquisition.functions.Entropy"}}}
    with pytest.raises(SystemExit):
        run(tmp_path, "grows", "--cycles", "4", strategies=wrong, seeds=2)
    assert capsys.readouterr().err.count("belongs to an experiment with other settings") == 2
    pd.testing.assert_frame_equal(pd.read_csv(root / "study.csv"), table)


def test_a_run_that_fails_is_reported_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {
        "acquisition": {"class_path": "acquisition.functions.BALD"},
        "predictor": {"class_path": "acquisition.predictors.MCDropout", "init_args": {"rate": 0.0}},
    }
    strategies = {"random": SETTINGS["grid"]["strategies"]["random"], "wrong": wrong}
    root = tmp_path / "gap"
    with pytest.raises(SystemExit) as stop:
        run(tmp_path, "gap", strategies=strategies, seeds=1)
    assert stop.value.code == 1
    jobs = pd.read_csv(root / "jobs.csv").set_index("name")["state"].to_dict()
    assert jobs == {"base/random/seed-0": "finished", "base/wrong/seed-0": "failed"}
    assert (pd.read_csv(root / "study.csv")["strategy"] == "random").sum() == 3
    out = capsys.readouterr()
    assert "wrong/seed-0" in out.out + out.err


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("check_val_every_n_epoch", "1", "keep the last epoch"),
        ("gradient_clip_val", "1.0", "do not know trainer.gradient_clip_val 1.0"),
        ("limit_train_batches", "2", "do not know trainer.limit_train_batches 2"),
        ("max_steps", "1", "do not know trainer.max_steps 1"),
        ("devices", "2", "do not know trainer.devices 2"),
        ("max_epochs", "0", "keep the last epoch"),
        ("logger", "{class_path: CSVLogger, init_args: {save_dir: logs}}", "do not know trainer.logger"),
    ],
)
def test_what_cannot_be_stacked_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], setting: str, value: str, words: str
) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "no", f"--trainer.{setting}", value, stacked=True)
    assert words in capsys.readouterr().err


def test_a_study_that_reports_online_is_not_stacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "online", "--wandb.mode", "online", stacked=True)
    assert "send nothing to Weights & Biases" in capsys.readouterr().err


def test_a_study_with_mc_evaluation_is_not_stacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "mc", "--mc_evaluation", "MCDropout", stacked=True)
    assert "scored with dropout off: leave out mc_evaluation" in capsys.readouterr().err


@pytest.mark.parametrize("classes", [5, 12])
def test_stacked_networks_have_the_classes_of_the_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], classes: int
) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "classes", "--model.network.num_classes", str(classes), seeds=1)
    assert f"the network predicts {classes} classes but the data has 10" in capsys.readouterr().err


def test_a_study_of_no_cycle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "none", "--cycles", "0")
    assert "--cycles must be at least 1, got 0" in capsys.readouterr().err


def test_where_every_run_fails_jobs_csv_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "failed", "--data.initial.size", "3", seeds=1)
    assert "its jobs.csv and jobs/*.log say why" in capsys.readouterr().err
    jobs = pd.read_csv(tmp_path / "failed" / "jobs.csv")
    assert (jobs["state"] == "failed").all()
    assert jobs["reason"].str.contains("the initial set of 3 has no image of").all()


def test_ordinary_fits_are_paired_by_initial_weights_whatever_networks_a_strategy_brings(
    stacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    network = {"class_path": "lightning_modules.networks.TwoLayerNet", "init_args": {"image_shape": [1, 8, 8]}}
    # one that the wrong network could not read
    checkpoint = {f"network.{k}": v for k, v in TwoLayerNet(image_shape=(1, 8, 8)).state_dict().items()}
    torch.save({"state_dict": checkpoint}, tmp_path / "expert.ckpt")
    arguments = {"checkpoint": str(tmp_path / "expert.ckpt"), "acquisition": "Entropy", "network": network}
    expert = {"acquisition": {"class_path": "acquisition.functions.Expert", "init_args": arguments}}
    root = run(tmp_path, "expert", "--cycles", "2", stacked=False, seeds=1, strategies={"expert": expert})
    losses = [
        json.loads((r / "runs/base" / s / "seed-0/cycles/00/metrics.json").read_text())["val/loss"]
        for r, s in ((stacked, "random"), (root, "expert"))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert {e[3] for e in events(root / "runs/base/expert/seed-0") if e[3]} == {"oracle:Expert(Entropy)-Mean-TopK"}


@pytest.mark.parametrize("stacked", [True, False])
def test_a_run_that_a_criterion_ends_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacked: bool) -> None:
    monkeypatch.setattr(study, "run_jobs", one_after_another)
    stop = json.dumps([{"class_path": "pipelines.stopping.Budget", "init_args": {"units": 60}}])
    strategies = {"random": SETTINGS["grid"]["strategies"]["random"]}
    root = run(tmp_path, "stop", "--stop", stop, seeds=1, strategies=strategies, stacked=stacked)
    (job,) = pd.read_csv(root / "jobs.csv").to_dict("records")
    assert job["state"] == "stopped"
    assert job["reason"] == "Budget: 60 units are labelled and the budget is 60"
    assert not (root / "runs/base/random/seed-0/cycles/00/queried.csv").exists(), "what is not used is not queried"


def test_runs_whose_criterion_needs_predictions_are_not_stacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = json.dumps([{"class_path": "pipelines.stopping.StabilisingPredictions"}])
    with pytest.raises(SystemExit):
        run(tmp_path, "stop", "--stop", stop, seeds=1, stacked=True)
    assert "stacked fits keep no predictions" in capsys.readouterr().err


def test_people_may_label_for_stacked_runs_but_their_truth_is_not_looked_at(tmp_path: Path) -> None:
    classes = dict(zip(*(Digits().tensors("train")[i] for i in (2, 1)), strict=True))
    table = tmp_path / "labels.csv"

    def label(unit_ids: list[str]) -> None:
        table.write_text("unit_id,label\n" + "".join(f"{u},{int(classes[u])}\n" for u in unit_ids))

    def labelled() -> list[int]:
        rows = pd.read_csv(tmp_path / "people" / "study.csv")
        return rows[rows["strategy"] == "random"]["labelled_units"].tolist()

    people = {"class_path": "datamodules.oracle.LabelTable", "init_args": {"path": str(table), "others": False}}
    arguments = ["--cycles", "2", "--data.oracle", json.dumps(people), "--data.allow_missing_classes", "true"]
    incorrect = {"acquisition": {"class_path": "acquisition.truth.Incorrect"}}
    strategies = {"random": SETTINGS["grid"]["strategies"]["random"], "incorrect": incorrect}
    label(list(classes)[:60])
    root = tmp_path / "people"
    with pytest.raises(SystemExit):
        run(tmp_path, "people", *arguments, strategies=strategies, seeds=1)
    assert labelled() == [60]
    with pytest.raises(SystemExit):  # nobody has labelled anything in the meantime
        run(tmp_path, "people", *arguments, strategies=strategies, seeds=1)
    jobs = pd.read_csv(root / "jobs.csv").set_index("name")
    assert jobs["state"].to_dict() == {"base/random/seed-0": "stopped", "base/incorrect/seed-0": "failed"}
    assert "looks at the truth" in jobs["reason"]["base/incorrect/seed-0"]
    label(list(classes))
    with pytest.raises(SystemExit):
        run(tmp_path, "people", *arguments, strategies=strategies, seeds=1)
    assert labelled() == [60, 80]


def test_a_study_is_submitted_as_an_array_of_its_parts_and_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strategies = {
        f"ODIN(T={t})": {"acquisition": {"class_path": "acquisition.functions.ODIN", "init_args": {"temperature": t}}}
        for t in (0.1, 10)
    }

    def submitted(**grid: Any) -> str:
        config = tmp_path / "submitted.yaml"
        config.write_text(yaml.safe_dump(SETTINGS | {"grid": {**SETTINGS["grid"], "strategies": strategies, **grid}}))
        where = ["--config", str(config), "--run_dir", str(tmp_path / "submitted"), "--cycles", "1"]
        cli.main(["submit", "--cluster", "slurm", "--dry_run", "study", *where])
        return capsys.readouterr().out

    kept = tmp_path / "submitted" / "config.yaml"
    printed = submitted(at_once=2)
    assert "#SBATCH --array=0-1" in printed
    assert [f"dropquery study --config {kept} --grid.part {i}/2" in printed for i in (0, 1)] == [True, True]
    cli.main(["study", "--config", str(kept), "--grid.part", "0/2"])
    capsys.readouterr()
    printed = submitted(at_once=2)
    assert "--array" not in printed
    assert "--grid.part 0/2" not in printed
    assert "--grid.part 1/2" in printed
    # the rest as ordinary fits, whose folders have brackets in their names
    printed = submitted(stacked=False)
    assert printed.count("dropquery fit --config") == 2
    assert "base_ODIN_T=10_" in printed


def test_varied_settings_are_stacks_and_columns(tmp_path: Path) -> None:
    root = run(tmp_path, "vary", "--cycles", "1", seeds=1, vary={"model.network.width": [4, 6]})
    table = pd.read_csv(root / "study.csv")
    assert sorted(table["variant"].unique()) == ["width=4", "width=6"]
    assert sorted(table["model.network.width"].unique()) == [4, 6]
    assert table.groupby("variant")["val/loss"].nunique().tolist() == [1, 1]
    row = json.loads((root / "runs/width=4/random/seed-0/cycles/00/metrics.json").read_text())
    assert row["labelled_units"] == 60
