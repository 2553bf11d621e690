"""End to end, through the command line."""

import json
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cli
from records.ledger import Ledger

Dropquery = Callable[..., subprocess.CompletedProcess[str]]


def test_fit_then_every_other_verb_from_one_yaml(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    common = ["--config", str(tiny_config), "--run_dir", str(run_dir), "--strategy.pictures", "1"]
    cli.main(["fit", *common])

    curve = pd.read_csv(run_dir / "learning_curve.csv")
    assert curve["cycle"].tolist() == [0, 1, 2]
    assert curve["labelled_units"].tolist() == [5, 9, 13]
    assert curve["labelled_pixels"].tolist() == [n * 32 * 48 for n in (5, 9, 13)]
    assert (run_dir / "learning_curve.png").stat().st_size > 5000
    page = (run_dir / "report" / "index.html").read_text()
    assert all(unit in page for unit in pd.read_csv(run_dir / "cycles" / "01" / "queried.csv")["unit_id"])
    assert not (run_dir / "cycles" / "02" / "scores.parquet").exists(), "the last cycle does not query"
    for cycle, pool in ((0, 19), (1, 15)):
        folder = run_dir / "cycles" / f"{cycle:02d}"
        scores = pd.read_parquet(folder / "scores.parquet")
        assert list(scores.columns) == ["unit_id", "score", "rank", "selected"]
        assert len(scores) == pool
        assert scores["selected"].sum() == 4
        assert scores["score"].is_monotonic_decreasing
        queried = pd.read_csv(folder / "queried.csv")
        assert queried["unit_id"].tolist() == scores["unit_id"].head(4).tolist()
        assert len(list((folder / "maps").glob("*.png"))) == 2
        assert not (folder / "shards").exists()
    ledger = Ledger(run_dir / "ledger.sqlite")
    assert len(ledger.labelled()) == len(set(ledger.labelled())) == 13
    labelled = [e for e in ledger.events() if e.kind == "labelled"]
    assert all(e.strategy == "BALD-Mean-TopK" and e.score is not None and e.rank for e in labelled)

    best = str(run_dir / "cycles" / "02" / "best.ckpt")
    capsys.readouterr()
    cli.main(["validate", *common, "--ckpt_path", best])
    assert "val/miou" in capsys.readouterr().out
    recorded = json.loads((run_dir / "cycles" / "02" / "metrics.json").read_text())
    assert recorded["val/miou"] == pytest.approx(curve["val/miou"][2])
    cli.main(["test", *common, "--ckpt_path", best])
    assert "test/miou" in capsys.readouterr().out
    cli.main(["predict", *common, "--ckpt_path", best])
    predicted = sorted((run_dir / "predictions").glob("*.png"))
    assert len(predicted) == 24 - 13
    assert np.asarray(Image.open(predicted[0])).shape == (32, 48)
    cli.main(["query", *common, "--ckpt_path", best])
    assert len(pd.read_parquet(run_dir / "cycles" / "02" / "scores.parquet")) == 24 - 13


def test_one_cycle_is_plain_training_and_a_longer_run_continues_it(tiny_config: Path, tmp_path: Path) -> None:
    for run, steps in (("at once", [3]), ("in steps", [1, 2, 3])):
        for cycles in steps:
            cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / run), "--cycles", str(cycles)])
            if cycles == 1:
                assert len(Ledger(tmp_path / run / "ledger.sqlite").labelled()) == 5
    assert _history(tmp_path / "at once") == _history(tmp_path / "in steps")


def test_people_answer_through_a_folder(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, drawn, run_dir = tmp_path / "mine", tmp_path / "drawn", tmp_path / "run"
    masks = _write_folder(root, drawn, labelled=4)
    command = [
        "fit", "--config", str(tiny_config), "--run_dir", str(run_dir),
        "--data.source", "datamodules.sources.folder.Folder", "--data.source.root", str(root),
        "--data.oracle", "datamodules.oracle.FolderOracle",
        "--data.oracle.folder", str(drawn), "--data.initial", "datamodules.initial.AllAnswered",
    ]  # fmt: skip
    cli.main(command)
    queried = pd.read_csv(run_dir / "cycles" / "00" / "queried.csv")["unit_id"].tolist()
    assert len(queried) == 4
    ledger = Ledger(run_dir / "ledger.sqlite")
    assert ledger.waiting(0) == queried
    assert len(pd.read_csv(run_dir / "learning_curve.csv")) == 1

    Image.fromarray(masks[queried[0]]).save(drawn / f"{queried[0]}.png")
    (run_dir / "learning_curve.csv").unlink()  # as if killed before it was written
    cli.main(command)
    assert ledger.waiting(0) == queried[1:], "what was drawn is labelled, the rest is waited for"
    assert len(pd.read_csv(run_dir / "learning_curve.csv")) == 1
    for unit_id in queried[1:]:
        Image.fromarray(masks[unit_id]).save(drawn / f"{unit_id}.png")
    cli.main(command)
    assert pd.read_csv(run_dir / "learning_curve.csv")["labelled_units"].tolist() == [4, 8]
    assert ledger.cycle == 1


def test_own_classes_are_found_where_the_user_works_and_nothing_is_said_that_helps_nobody(
    dropquery: Dropquery, tiny_config: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text("from acquisition.functions import Entropy\n\nclass Mine(Entropy):\n    pass\n")
    # what is called like one of the program's own rooms does not take its place
    for room in ("callbacks", "lightning_modules", "records"):
        (tmp_path / f"{room}.py").write_text("raise RuntimeError\n")
    run_dir = tmp_path / "run"
    done = dropquery(
        "fit", "--config", tiny_config, "--run_dir", run_dir, "--cycles", "2", "--strategy.acquisition", "mine.Mine",
        cwd=tmp_path,
    )  # fmt: skip
    queried = [e for e in Ledger(run_dir / "ledger.sqlite").events() if e.kind == "queried"]
    assert {str(e.strategy).partition("-")[0] for e in queried} == {"Mine"}
    said = done.stdout + done.stderr
    assert "Cycle 1 fit: " in said
    for hint in ("weights_only", "TPU", "Loading `train_dataloader`", "`Trainer"):
        assert hint not in said


def test_help_of_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("fit", "query", "validate", "test", "predict"):
        with pytest.raises(SystemExit) as stop:
            cli.main([verb, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "--strategy.budget" in text
        assert "--run_dir" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--model.network.dropout", "0"], "dropout"),
        (["--strategy.predictor.num_samples", "1"], "num_samples must be at least 2 for BALD, got 1"),
        (["--strategy.budgett", "3"], "budgett"),
        (["--model.network.num_classes", "4"], "set model.network.num_classes to 5"),
        (["--cycles", "0"], "--cycles must be at least 1"),
        (["--data.initial.size", "99"], "only 24 have a label"),
        (["--data.source.num_train", "0"], "at least one image in the train split"),
        (["--model.optimizer.lr", "1e30"], "lower the learning rate"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), *changes])
    assert stop.value.code not in (0, None)
    assert words in capsys.readouterr().err


def test_no_traceback_from_a_worker(dropquery: Dropquery, tiny_config: Path, tmp_path: Path) -> None:
    root = tmp_path / "mine"
    _write_folder(root, tmp_path / "drawn", labelled=0)
    # an image of the validation split is read by a worker first
    broken = root / "val" / "images" / "scene02.jpg"
    broken.write_bytes(broken.read_bytes()[:60])
    done = dropquery(
        "fit", "--config", tiny_config, "--run_dir", tmp_path / "run",
        "--data.source", "datamodules.sources.folder.Folder", "--data.source.root", root,
        "--data.oracle", "datamodules.oracle.FolderOracle",
        "--data.oracle.folder", root / "val" / "masks", "--data.initial",
        "datamodules.initial.AllAnswered", "--data.num_workers", 1, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"{broken} is not a readable image" in done.stderr
    assert "Traceback" not in done.stderr


def test_budget_larger_than_the_pool_labels_what_is_left(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), "--strategy.budget", "30"])
    assert pd.read_csv(tmp_path / "run" / "learning_curve.csv")["labelled_units"].tolist() == [5, 24]


def test_other_settings_in_a_used_run_directory_are_refused(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "run"), "--cycles", "1"]
    cli.main(command)
    before = _history(tmp_path / "run")
    with pytest.raises(SystemExit):
        cli.main([*command, "--strategy.budget", "7"])
    message = capsys.readouterr().err
    assert "other settings" in message
    assert "strategy.budget: 4 then, 7 now" in message
    assert _history(tmp_path / "run") == before


def _history(run_dir: Path) -> list[tuple[object, ...]]:
    """Everything in the ledger but the times."""
    with sqlite3.connect(run_dir / "ledger.sqlite") as connection:
        return connection.execute(
            "SELECT cycle, kind, unit_id, strategy, score, rank, pixels FROM events ORDER BY id"
        ).fetchall()


def _write_folder(root: Path, drawn: Path, labelled: int) -> dict[str, np.ndarray]:
    """24 scenes as files; validation has masks, and of the others only the first few are drawn."""
    from datamodules.sources.synthetic import _CLASSES, draw_scene

    masks = {}
    for split, count in (("train", 16), ("val", 4)):
        (root / split / "images").mkdir(parents=True)
        (root / split / "masks").mkdir()
        for i in range(count):
            image, mask = draw_scene(i + 100 * (split == "val"), 32, 48)
            Image.fromarray(image).save(root / split / "images" / f"scene{i:02d}.jpg")
            if split == "val":
                Image.fromarray(mask).save(root / split / "masks" / f"scene{i:02d}.png")
            else:
                masks[f"scene{i:02d}"] = mask
    (root / "classes.txt").write_text("\n".join(_CLASSES))
    drawn.mkdir()
    for name in list(masks)[:labelled]:
        Image.fromarray(masks[name]).save(drawn / f"{name}.png")
    return masks
