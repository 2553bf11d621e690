"""Weights & Biases, offline: what is logged is read back from what `wandb sync` would upload."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wandb
import yaml
from PIL import Image
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from acquisition.annotation import VOID
from callbacks import tracking
from callbacks.tracking import WandbSettings, log_cycles, log_study, open_run
from pipelines.experiment_settings import MAY_CHANGE
from pipelines.settings import difference
from reports.study_table import mean_curves
from tests import forked
from tests.callbacks import tracked
from tests.callbacks.tracked import CLASSES, artifacts, history, summary, tables
from tests.conftest import TINY


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cycles of which the last is not queried, logged with three pictures each."""
    run_dir = tmp_path_factory.mktemp("tracked") / "run"
    run = tracked.write_run(run_dir, 3)
    run.cycle(2).queried.unlink()
    tracked.log(run_dir, {"alc": 4.5}, images=3, tags=["bald"], job_type="fit", group="all")
    return run_dir


def test_tables_hold_what_was_queried(logged: Path) -> None:
    found = tables(logged, "queried")
    assert len(found) == 2
    for number, table in enumerate(found):
        queried = pd.read_csv(logged / "cycles" / f"{number:02d}" / "queried.csv")
        rows = pd.DataFrame(table["data"], columns=table["columns"])
        assert rows[queried.columns].values.tolist() == queried.values.tolist()
        # the highest ranks, and no control unit
        assert rows["image"].notna().tolist() == [True] * 3 + [False] * 2
        assert rows["uncertainty"].notna().tolist() == [True] * 3 + [False] * 2
        masks = [set(image["masks"]) for image in rows["image"][:3]]
        assert masks == [{"predictions", "ground_truth"}, {"predictions"}, {"predictions", "ground_truth"}]


def test_masks_are_classes(logged: Path) -> None:
    artifact = next(a for a in artifacts(logged) if a["name"].endswith("-queried"))
    files = {entry["path"]: Path(entry["local_path"]) for entry in artifact["manifest"]["contents"]}
    image = tables(logged, "queried")[0]["data"][0][-2]
    with Image.open(files[image["masks"]["predictions"]["path"]]) as opened:
        shown = np.asarray(opened)
    with Image.open(logged / "cycles/00/gallery/00000_prediction.png") as opened:
        drawn = np.asarray(opened)
    assert (shown == np.where(drawn < len(CLASSES), drawn, VOID)).all()
    assert shown[0, 0] == VOID
    assert files[image["path"]].read_bytes() == (logged / "cycles/00/gallery/00000_image.jpg").read_bytes()
    classes = files[image["classes"]["path"]].read_text()
    assert all(name in classes for name in (*CLASSES, "void"))
    # what is to be uploaded stands in the run directory
    assert all(path.is_relative_to(logged) for path in files.values())


def test_curve_scores_and_counts_of_every_class(logged: Path) -> None:
    rows = history(logged)
    curve = [(r["cycle"], r["labelled_units"], r["curve/miou"]) for r in rows if "curve/miou" in r]
    assert curve == [(0, 10, 0.3), (1, 15, 0.6), (2, 20, 0.5)]
    assert [r["labelled/road"] for r in rows if "labelled/road" in r] == [500, 501, 502]
    scores = tables(logged, "class_scores")
    assert [s["columns"] for s in scores] == [["class", "iou"]] * 3
    assert scores[1]["data"] == [["road", 0.6], ["car", 0.61], ["sky", 0.62]]
    counts = tables(logged, "labelled_classes")
    assert counts[2]["data"] == [["road", 502, 9], ["car", 300, 5], ["sky", 200, 4]]


def test_artifacts_and_their_aliases(logged: Path) -> None:
    of_kind = {kind: [a for a in artifacts(logged) if a["type"] == kind] for kind in ("model", "ledger")}
    aliases = [set(a["aliases"]) for a in of_kind["model"]]
    assert aliases == [{"latest", "cycle-00", "best"}, {"latest", "cycle-01", "best"}, {"latest", "cycle-02"}]
    assert len({a["name"] for a in of_kind["model"]}) == 1
    weights = [Path(a["manifest"]["contents"][0]["local_path"]).read_text() for a in of_kind["model"]]
    assert weights == ["weights of 0", "weights of 1", "weights of 2"]
    # a later cycle's ledger is not that of an earlier one
    (ledger,) = of_kind["ledger"]
    assert set(ledger["aliases"]) == {"latest", "cycle-02"}
    kept = Path(ledger["manifest"]["contents"][0]["local_path"])
    assert kept.read_bytes() == (logged / "ledger.sqlite").read_bytes()


def test_summary_and_settings(logged: Path) -> None:
    assert summary(logged)["alc"] == 4.5
    (run,) = [r["run"] for r in tracked.records(logged) if r["type"] == "run"]
    assert (run["run_group"], run["job_type"], run["tags"]) == ("all", "fit", ["bald"])
    assert run["config"]["update"]["seed_everything"] == 3


def test_a_longer_run_logs_what_is_new(tmp_path: Path) -> None:
    run = tracked.write_run(tmp_path, 1, pictures=False)
    tracked.log(tmp_path)
    tracked.write_cycle(run, 1, pictures=False)
    tracked.log(tmp_path)
    assert_each_once(tmp_path, 2)
    assert [len(a["aliases"]) for a in artifacts(tmp_path) if a["type"] == "ledger"] == [2, 2]
    # starts of a run are uploaded one after another, and W&B knows a row by its number
    numbers = [row["_step"] for row in history(tmp_path)]
    assert numbers == list(range(8))
    # what was uploaded and removed is known
    for folder in (tmp_path / "wandb").glob("offline-run-*"):
        shutil.rmtree(folder)
    tracked.log(tmp_path)
    assert history(tmp_path) == artifacts(tmp_path) == []


@pytest.mark.parametrize(("pieces", "seconds"), [(5, 1.5), (6, 0.0)])
def test_killed_while_logging_nothing_comes_twice_and_nothing_is_lost(
    tmp_path: Path, pieces: int, seconds: float
) -> None:
    tracked.write_run(tmp_path, 1, pictures=False)
    process = forked.run([tmp_path, pieces, seconds], timeout=60, target="tests.callbacks.tracked:main")
    assert process.returncode < 0
    tracked.log(tmp_path)
    assert_each_once(tmp_path, 1)


def assert_each_once(run_dir: Path, cycles: int) -> None:
    rows = history(run_dir)
    for key in ("curve/miou", "queried._type", "class_scores._type", "labelled_classes._type"):
        assert [r["cycle"] for r in rows if key in r] == list(range(cycles)), key
    kinds = Counter(a["type"] for a in artifacts(run_dir))
    assert kinds == {"run_table": 3 * cycles, "model": cycles, "ledger": cycles}


def test_disabled_writes_nothing(tmp_path: Path) -> None:
    tracked.write_run(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    tracked.log(tmp_path, mode="disabled")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "value"), [("images", -1), ("target", 1.5)])
def test_settings_that_cannot_be(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"wandb.{name} must be .*, got {value}"):
        open_run(WandbSettings(**{name: value}), tmp_path, {})


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "wandb").write_text("no folder")
    with pytest.warns(UserWarning, match="Weights & Biases: no run could be opened"):
        assert open_run(WandbSettings(), tmp_path, {}) is False


def test_what_cannot_be_logged_is_a_warning_and_comes_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tracked.write_run(tmp_path, 1)
    monkeypatch.setenv("WANDB_DATA_DIR", str(run.ledger))
    with pytest.warns(UserWarning, match="queried of cycle 0 was not logged"):
        tracked.log(tmp_path)
    monkeypatch.undo()
    tracked.log(tmp_path)
    assert_each_once(tmp_path, 1)


def test_without_a_network_a_run_is_logged_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.write_run(tmp_path, 1, pictures=False)
    monkeypatch.setattr(tracking, "CONNECTING", 1.0)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.warns(UserWarning, match="could not be reached .* the run is logged offline: upload it later with wan"):
        tracked.log(tmp_path, mode="online")
    assert_each_once(tmp_path, 1)


def test_other_processes_log_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracked.write_run(tmp_path, 1)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = open_run(WandbSettings(), tmp_path, {})
    log_cycles(logger, {"alc": 1.0})
    assert isinstance(logger, WandbLogger)
    logger.log_metrics({"train/loss": 1.0}, 0)
    assert sorted(tmp_path.rglob("*")) == before


def test_runs_of_a_study_are_grouped_by_strategy_and_may_do_without_pictures_and_weights(tmp_path: Path) -> None:
    study = tmp_path / "moons"
    study.mkdir()
    (study / "config.yaml").write_text("{}")
    for variant, group in (("base", "moons/bald"), ("rate=0.1", "moons/rate=0.1/bald")):
        run_dir = study / "runs" / variant / "bald" / "seed-4"
        tracked.write_run(run_dir, 1)
        tracked.log(run_dir, images=0, checkpoints=False)
        (run,) = [r["run"] for r in tracked.records(run_dir) if r["type"] == "run"]
        assert run["run_group"] == group
        assert run["display_name"] == ("bald-seed-4" if variant == "base" else "rate=0.1-bald-seed-4")
        config = run["config"]["update"]
        place = [config[f"{name}_name"] for name in ("study", "variant", "strategy", "seed")]
        assert place == ["moons", "" if variant == "base" else variant, "bald", "seed-4"]
        (table,) = tables(run_dir, "queried")
        assert [row[-4:] for row in table["data"]] == [[None] * 4] * tracked.UNITS
        assert "model" not in {a["type"] for a in artifacts(run_dir)}


def test_a_study_shows_its_strategies_without_a_click(tmp_path: Path) -> None:
    """Also one whose runs were fitted together and have no W&B runs of their own; and once."""
    rows = [
        {"variant": "", "strategy": s, "seed": seed, "cycle": c, "labelled_units": 10 + 5 * c}
        | {"val/miou": 0.1 * c + 0.01 * seed + (0.2 if s == "bald" else 0), "monitor": "val/miou"}
        for s in ("bald", "random")
        for seed in range(2)
        for c in range(3)
    ]
    table = pd.DataFrame(rows)
    for _ in range(2):
        log_study(WandbSettings(), tmp_path, {"cycles": 3}, table, mean_curves(table))
        wandb.teardown()
    (row,) = history(tmp_path)
    assert row["study._type"] == "table-file"
    assert tables(tmp_path, "study")[0]["data"] == table.to_numpy().tolist()
    (points,) = tables(tmp_path, "learning_curves_table")
    chart = pd.DataFrame(points["data"], columns=points["columns"])
    drawn = chart.groupby("lineKey")["lineVal"].apply(list).to_dict()
    assert drawn["bald"] == pytest.approx([0.205, 0.305, 0.405])
    assert drawn["random"] == pytest.approx([0.005, 0.105, 0.205])
    assert chart["step"].tolist() == [10, 15, 20] * 2
    (run,) = [r["run"] for r in tracked.records(tmp_path) if r["type"] == "run"]
    assert (run["job_type"], run["display_name"]) == ("study", tmp_path.name)


def test_a_fit_that_was_killed_logs_no_step_twice(tmp_path: Path, dropquery: Callable[..., object]) -> None:
    config, run_dir = tmp_path / "tiny.yaml", tmp_path / "run"
    settings = TINY | {"cycles": 2, "full_score": 0.9, "wandb": {"target": 0.01}}
    config.write_text(yaml.safe_dump(settings))
    command = ["fit", "--config", str(config), "--run_dir", str(run_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with forked.start(command, environment) as process:
        while not (run_dir / "cycles/01/last.ckpt").exists():
            assert process.poll(0.01) is None, "the run ended before the moment came"
    dropquery(*command)
    rows = history(run_dir)
    steps = Counter(
        (row["cycle"], row["trainer/global_step"], name)
        for row in rows
        for name in row
        if "trainer/global_step" in row and name in ("train/loss", "val/miou")
    )
    assert set(steps.values()) == {1}
    assert len({row["_step"] for row in rows}) == len(rows)
    assert {(cycle, name) for cycle, _, name in steps} == {(c, n) for c in (0, 1) for n in ("train/loss", "val/miou")}
    assert [r["cycle"] for r in rows if "curve/miou" in r] == [0, 1]
    assert [r["cycle"] for r in rows if "queried._type" in r] == [0]
    curve = pd.read_csv(run_dir / "learning_curve.csv")
    units, scores = curve["labelled_units"], curve["val/miou"]
    area = sum((units[i + 1] - units[i]) * (scores[i] + scores[i + 1]) / 2 for i in range(len(curve) - 1))
    found = summary(run_dir)
    assert found["alc"] == pytest.approx(area)
    assert found["alc_normalised"] == pytest.approx(
        (area - scores[0] * (units.iloc[-1] - units[0])) / (0.9 - scores[0])
    )
    assert (found["target"], found["labels_to_target"]) == (0.01, units[0])


def test_how_a_run_is_shown_may_change() -> None:
    """A run directory of before there were pictures goes on."""
    before = {"wandb": {"mode": "offline", "project": "dropquery"}}
    now = {"wandb": {**before["wandb"], "images": 20, "checkpoints": True, "target": 0.5}}
    assert difference(before, now, MAY_CHANGE) == ""
    assert difference(before, {"wandb": {**now["wandb"], "project": "other"}}, MAY_CHANGE) != ""
