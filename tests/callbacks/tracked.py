"""A run directory as fits leave it, with a gallery, and the transaction logs that W&B has written about it."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from callbacks.tracked_run import TrackedRun
from callbacks.tracking import WandbSettings, log_cycles, open_run
from records.gallery import COLUMNS, GalleryDirectory
from records.ledger import Labelled, Ledger, Queried
from records.run_directory import CycleDirectory, RunDirectory

CLASSES = ("road", "car", "sky")
SCORES = (0.3, 0.6, 0.5)
UNITS = 5


def write_run(run_dir: Path, cycles: int = 2, pictures: bool = True) -> RunDirectory:
    """Cycles that are fitted and queried, each with a checkpoint and a gallery."""
    run = RunDirectory(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    for number in range(cycles):
        write_cycle(run, number, pictures)
    return run


def write_cycle(run: RunDirectory, number: int, pictures: bool = True) -> None:
    """One more of them; its ledger knows all cycles so far."""
    cycle, ledger = run.cycle(number), Ledger(run.ledger)
    ledger.start([Labelled(f"first-{i}", 100) for i in range(10)]) if number == 0 else None
    units = [f"c{number}-{i}" for i in range(UNITS)]
    cycle.path.mkdir(parents=True)
    cycle.best.write_bytes(f"weights of {number}".encode())
    iou = {f"val/iou/{name}": SCORES[number] + 0.01 * i for i, name in enumerate(CLASSES)}
    counts = {"labelled_units": 10 + UNITS * number, "labelled_pixels": 1000 + 100 * UNITS * number}
    cycle.write_metrics(
        {"cycle": number, **counts, "epoch": 1, "val/miou": SCORES[number], **iou, "monitor": "val/miou"}
    )
    ranks = np.arange(1, UNITS + 1)
    cycle.write_queried(
        pd.DataFrame(
            {"name": units, "priority": 1 - (ranks - 1) / UNITS, "unit_id": units, "rank": ranks, "score": 1 / ranks}
        )
    )
    ledger.query(
        number,
        "BALD",
        [Queried(u, 1.0 / r, int(r)) for u, r in zip(units, ranks, strict=True)],
        [Labelled(u, 100) for u in units],
    )
    amounts = pd.DataFrame({"class": CLASSES, "pixels": [500 + number, 300, 200], "images": [9, 5, 4]})
    amounts.to_csv(cycle.labelled_classes, index=False)
    if pictures:
        write_gallery(cycle, units)


def write_gallery(cycle: CycleDirectory, units: list[str], size: tuple[int, int] = (16, 24)) -> None:
    """The layers of the queried units, of which every second has no truth, and of two control units."""
    gallery = GalleryDirectory(cycle.gallery)
    gallery.path.mkdir()
    generator = np.random.default_rng(cycle.number)
    palette = [0, 0, 0, *(80, 0, 0), *(0, 80, 0)] + [0] * 759
    rows = []
    for number, unit in enumerate([*units, "control-0", "control-1"]):
        queried = number < len(units)
        rows.append(
            dict.fromkeys(COLUMNS)
            | {"number": number, "unit_id": unit, "image_id": unit, "kind": "queried" if queried else "control"}
            | {"score": 1.0, "rank": number + 1, "values_name": "BALD"}
        )
        Image.fromarray(generator.integers(0, 255, (*size, 3), dtype=np.uint8)).save(gallery.image(number))
        Image.fromarray(generator.integers(0, 255, (*size, 4), dtype=np.uint8)).save(gallery.uncertainty(number))
        for layer in (gallery.prediction(number), *([gallery.truth(number)] if number % 2 == 0 else [])):
            mask = generator.integers(0, len(CLASSES), size, dtype=np.uint8)
            mask[0, 0] = len(CLASSES)
            picture = Image.fromarray(mask)
            picture.putpalette(palette)
            picture.save(layer, transparency=len(CLASSES))
    about = {"values_name": "BALD", "max_value": 1.0, "classes": [{"name": n, "colour": "#000000"} for n in CLASSES]}
    gallery.write_about(about | {"truth_name": "truth"})
    gallery.write_units(pd.DataFrame(rows))


def log(run_dir: Path, summary: dict[str, Any] | None = None, **settings: Any) -> None:
    """Log what is there, in a process that comes to its end."""
    import wandb

    logger = open_run(WandbSettings(**settings), run_dir, {"seed_everything": 3})
    log_cycles(logger, summary or {})
    if not isinstance(logger, bool):
        logger.experiment.finish()
    wandb.teardown()


def log_and_die(run_dir: str, pieces: str, seconds: str) -> None:
    """Log, and be killed after so many pieces and seconds: a second is what W&B takes to write them."""
    left = int(pieces)

    def counted(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                die()
            left -= 1
            return method(*args, **kwargs)

        return call

    def die() -> None:
        time.sleep(float(seconds))
        os.kill(os.getpid(), signal.SIGKILL)

    for name in ("log_metrics", "_log", "_log_file"):
        setattr(TrackedRun, name, counted(getattr(TrackedRun, name)))
    log_cycles(open_run(WandbSettings(), Path(run_dir), {}), {})
    # by now the notes say that all is logged
    die()


def main() -> None:
    """`log_and_die` with what stands in sys.argv."""
    log_and_die(*sys.argv[1:])


def records(run_dir: Path) -> list[dict[str, Any]]:
    """The records of all transaction logs, in the order of their writing."""
    paths = sorted((run_dir / "wandb").glob("*run-*/*.wandb"))
    return [record for path in paths for record in _records(path, path.stat().st_size)]


@functools.cache
def _records(path: Path, size: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def history(run_dir: Path) -> list[dict[str, Any]]:
    """The rows of the history."""
    return [r["history"]["item"] for r in records(run_dir) if r["type"] == "history"]


def artifacts(run_dir: Path) -> list[dict[str, Any]]:
    """The artifacts, tables among them."""
    return [r["artifact"] for r in records(run_dir) if r["type"] == "artifact"]


def summary(run_dir: Path) -> dict[str, Any]:
    """The last value of everything in the summary."""
    values: dict[str, Any] = {}
    for record in records(run_dir):
        values |= record.get("summary", {}).get("update", {})
    return values


def tables(run_dir: Path, key: str) -> list[dict[str, Any]]:
    """The tables of a key, as they wait for `wandb sync`."""
    found = []
    for artifact in artifacts(run_dir):
        for entry in artifact["manifest"]["contents"]:
            if entry["path"] == f"{key}.table.json":
                found.append(json.loads(Path(entry["local_path"]).read_text()))
    return found
