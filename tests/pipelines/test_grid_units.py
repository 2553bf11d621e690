"""Cells of a grid as units, through fit, query, label, kills, two processes and a study, from the command line."""

import copy
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

import cli
from acquisition.annotation import UNANSWERED, VOID
from datamodules.sources.synthetic import SyntheticRoads
from records.gallery import GalleryDirectory
from records.ledger import Ledger
from records.run_directory import RunDirectory
from tests import forked
from tests.conftest import TINY
from tests.pipelines.test_cycles import history

pytestmark = pytest.mark.xdist_group("grid")  # they share a trained run

SETTINGS: dict[str, Any] = copy.deepcopy(TINY)
SETTINGS["cycles"] = 2
SETTINGS["data"]["partition"] = {"class_path": "datamodules.partitions.Grid", "init_args": {"height": 16, "width": 16}}
SETTINGS["data"]["initial"]["init_args"]["size"] = 12
SETTINGS["strategy"] |= {"budget": 8, "pictures": 2}
IMAGES, CELLS = 24, 6


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grid") / "grid.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """The run directory of two cycles, never interrupted."""
    cli.main(["fit", "--config", str(config), "--run_dir", str(config.parent / "run")])
    return config.parent / "run"


def test_cells_are_scored_queried_and_paid(whole: Path) -> None:
    table = pd.read_parquet(whole / "cycles" / "00" / "scores.parquet")
    assert len(table) == IMAGES * CELLS - 12
    assert table["unit_id"].is_unique
    assert table["unit_id"].str.fullmatch(r"train_\d{6}#crop=(0|16),(0|16|32),16,16").all()
    assert len(set(table["score"])) > 100, "cells of one image have scores of their own"

    curve = pd.read_csv(whole / "learning_curve.csv")
    assert curve["labelled_units"].tolist() == [12, 20]
    assert curve["labelled_pixels"].tolist() == [12 * 256, 20 * 256]
    queried = [e for e in Ledger(whole / "ledger.sqlite").events() if e.kind == "queried"]
    assert [e.unit_id for e in queried] == table["unit_id"].head(8).tolist()
    assert len(list((whole / "cycles" / "00" / "maps").glob("*.png"))) == 4


@pytest.mark.parametrize("moment", ["cycles/00/last.ckpt", "cycles/00/metrics.json", "cycles/00/scores.parquet"])
def test_killed_and_started_again_ends_as_if_never_interrupted(
    whole: Path, config: Path, tmp_path: Path, moment: str
) -> None:
    killed = tmp_path / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    deadline = time.monotonic() + 200
    with forked.start(["fit", "--config", config, "--run_dir", killed], environment) as process:
        while not (killed / moment).exists():
            assert process.poll() is None, "the run ended before the moment came"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    cli.main(["fit", "--config", str(config), "--run_dir", str(killed)])
    assert history(killed) == history(whole)
    assert (killed / "learning_curve.csv").read_text() == (whole / "learning_curve.csv").read_text()


def test_two_processes_choose_the_same_cells_as_one(
    dropquery: Callable[..., subprocess.CompletedProcess[str]], whole: Path, config: Path, tmp_path: Path
) -> None:
    query = ["query", "--config", config, "--ckpt_path", whole / "cycles" / "00" / "best.ckpt"]
    query += ["--strategy.routing", '{"budget": 2, "prices": {"guidelines": 1}}', "--strategy.gallery", "3"]
    dropquery(*query, "--run_dir", tmp_path / "one")
    dropquery(*query, "--run_dir", tmp_path / "two", "--trainer.devices", 2, "--trainer.strategy", "ddp")
    # other batches round to other scores, by less than 1e-6
    one, two_processes = (
        pd.read_parquet(tmp_path / run / "cycles" / "00" / "scores.parquet").sort_values("unit_id")
        for run in ("one", "two")
    )
    assert len(one) == IMAGES * CELLS
    assert one["unit_id"].tolist() == two_processes["unit_id"].tolist()
    assert one["selected"].tolist() == two_processes["selected"].tolist()
    np.testing.assert_allclose(one["score"], two_processes["score"], rtol=0, atol=1e-6)
    routed = [
        pd.read_csv(tmp_path / run / "cycles" / "00" / "queried.csv")["action"].tolist() for run in ("one", "two")
    ]
    assert routed[0] == routed[1]
    galleries = [GalleryDirectory(RunDirectory(tmp_path / run).cycle(0).gallery) for run in ("one", "two")]
    shown = [files.read_units().drop(columns="score") for files in galleries]
    assert len(shown[0]) == 9
    assert shown[0].equals(shown[1])
    assert [len(list(files.path.glob("*_region.png"))) for files in galleries] == [9, 9]
    assert len({p.name for files in galleries for p in files.path.iterdir()}) == len(list(galleries[0].path.iterdir()))
    first = shown[0].iloc[0]
    edge = np.asarray(Image.open(galleries[0].region(0)).convert("RGBA"))[..., 3] > 0
    rows, columns = np.nonzero(edge)
    # layers are twice as large as these images; the black line is around the cell, unless the image ends there
    assert (rows.min(), columns.min()) == (max(2 * first["top"] - 1, 0), max(2 * first["left"] - 1, 0))


def test_people_draw_parts_of_an_image(config: Path, tmp_path: Path) -> None:
    """The run waits until the queried cells are drawn, and goes on with those alone."""
    masks, run_dir, source = tmp_path / "masks", tmp_path / "run", SyntheticRoads(num_train=24, size=(32, 48))
    masks.mkdir()

    def draw(unit_id: str) -> None:
        image_id, _, box = unit_id.partition("#crop=")
        y, x, h, w = map(int, box.split(","))
        path = masks / f"{image_id}.png"
        mask = np.array(Image.open(path)) if path.is_file() else np.full((32, 48), UNANSWERED, dtype=np.uint8)
        mask[y : y + h, x : x + w] = source.read_annotation(image_id)[y : y + h, x : x + w]
        Image.fromarray(mask).save(path)

    drawn = [f"train_{i:06d}#crop=0,{16 * (i % 3)},16,16" for i in range(6)]
    for unit_id in drawn:
        draw(unit_id)
    command = ["fit", "--config", str(config), "--run_dir", str(run_dir), "--data.oracle", "FolderOracle"]
    command += ["--data.oracle.folder", str(masks), "--data.initial", "AllAnswered", "--strategy.gallery", "2"]
    cli.main(command)
    files = GalleryDirectory(RunDirectory(run_dir).cycle(0).gallery)
    assert files.read_about()["truth_name"] == "annotation"
    assert not list(files.path.glob("*_truth.png")), "nobody has drawn these units"
    ledger = Ledger(run_dir / "ledger.sqlite")
    assert sorted(ledger.labelled()) == sorted(drawn)
    waiting = ledger.waiting(0)
    assert len(waiting) == 8
    for unit_id in waiting[:-1]:
        draw(unit_id)
    cli.main(command)
    assert ledger.waiting(0) == waiting[-1:]
    assert ledger.cycle == 0
    assert files.read_units()["unit_id"].tolist()[:2] == waiting[:2]
    shown = np.asarray(Image.open(files.truth(0)).convert("RGBA"))[..., 3] > 0
    image_id = waiting[0].partition("#")[0]
    drawn_now = np.array(Image.open(masks / f"{image_id}.png")) < UNANSWERED
    np.testing.assert_array_equal(shown, np.kron(drawn_now, np.ones((2, 2), dtype=bool)))
    # whoever corrects a mask sees the correction
    again = np.array(Image.open(masks / f"{image_id}.png"))
    again[again == again[drawn_now][0]] = VOID
    Image.fromarray(again).save(masks / f"{image_id}.png")
    draw(waiting[-1])
    cli.main(command)
    assert sorted(ledger.labelled()) == sorted([*drawn, *waiting])
    assert pd.read_csv(run_dir / "learning_curve.csv")["labelled_pixels"].tolist() == [6 * 256, 14 * 256]
    corrected = np.asarray(Image.open(files.truth(0)).convert("RGBA"))[..., 3] > 0
    drawn_now = np.array(Image.open(masks / f"{image_id}.png")) < UNANSWERED
    np.testing.assert_array_equal(corrected, np.kron(drawn_now, np.ones((2, 2), dtype=bool)))
    counts = pd.read_csv(RunDirectory(run_dir).cycle(0).labelled_classes)
    assert list(counts.columns) == ["class", "pixels", "images"]
    assert counts["pixels"].sum() <= 6 * 256
    assert counts["images"].max() <= 6


def test_whole_objects_are_counted_in_the_curve(config: Path, tmp_path: Path) -> None:
    cli.main(["fit", "--config", str(config), "--run_dir", str(tmp_path / "run"), "--data.oracle", "WholeObjects"])
    curve = pd.read_csv(tmp_path / "run" / "learning_curve.csv")
    assert curve["labelled_units"].tolist() == [12, 20]
    assert curve["labelled_objects"].is_monotonic_increasing
    assert (curve["labelled_objects"] >= 12).all()
    assert curve["labelled_pixels"].iloc[0] > 12 * 256, "objects reach out of their cells"
    events = Ledger(tmp_path / "run" / "ledger.sqlite").events()
    assert sum(e.objects or 0 for e in events) == curve["labelled_objects"].iloc[-1]


@pytest.mark.real
def test_a_study_of_cells_on_camvid(camvid: Path, tmp_path: Path) -> None:
    settings = copy.deepcopy(SETTINGS)
    settings["model"]["init_args"]["network"]["init_args"]["num_classes"] = 11
    settings["data"] = {
        "source": {"class_path": "datamodules.sources.camvid.CamVid", "init_args": {"root": str(camvid)}},
        "partition": {"class_path": "datamodules.partitions.Grid", "init_args": {"height": 60, "width": 80}},
        "initial": {"class_path": "datamodules.initial.RandomSubset", "init_args": {"size": 30}},
        "image_size": [48, 64],
        "crop_size": [32, 48],
        "batch_size": 8,
        "eval_batch_size": 32,
    }
    settings["strategy"] |= {"budget": 20, "pictures": 0}
    settings["trainer"] |= {"max_epochs": 1, "limit_val_batches": 1}
    strategies = {s.lower(): {"acquisition": {"class_path": s}} for s in ("Random", "BALD")}
    settings["grid"] = {"seeds": 1, "at_once": 1, "strategies": strategies}
    config, run_dir = tmp_path / "study.yaml", tmp_path / "study"
    config.write_text(yaml.safe_dump(settings))
    cli.main(["study", "--config", str(config), "--run_dir", str(run_dir)])
    table = pd.read_csv(run_dir / "study.csv")
    assert table.groupby("strategy")["labelled_units"].apply(list).to_dict() == {"bald": [30, 50], "random": [30, 50]}
    assert (table["labelled_pixels"] == table["labelled_units"] * 60 * 80).all()
