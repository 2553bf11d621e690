"""What tiny runs of the program give, as tables: recorded once, and compared with what later versions give.

Files are found and read by plain means, so that a rebuild of the program cannot change both sides at once. Times,
machine paths and pictures are left out. Everything runs on one thread: more of them sum in an order of their own.
"""

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

import cli
from tests.conftest import ROOT, TINY, TINY_DIGITS, in_this_process
from tests.pipelines.test_ensemble import write_config

HERE = Path(__file__).parent
RTOL, ATOL = 1e-4, 1e-6
NEAR_TIE = "near tie"
"""Stands for the rank of a score that another machine may well exchange with its neighbour's."""

Table = dict[str, list[Any]]
"""`columns`, and `rows` of values."""


def _ledger(path: Path) -> pd.DataFrame:
    columns = "cycle, kind, unit_id, strategy, rank, score, pixels"
    with closing(sqlite3.connect(path)) as connection:
        return pd.read_sql(f"SELECT {columns} FROM events ORDER BY id", connection)


def _scores(path: Path) -> pd.DataFrame:
    """Score tables in the order of unit ids; refused where the choice hangs on less than another machine's rounding."""
    table = pd.read_parquet(path)[["unit_id", "score", "rank", "selected"]].sort_values("rank")
    scores = table["score"].to_numpy()
    near = np.isclose(scores[1:], scores[:-1], rtol=2 * RTOL, atol=2 * ATOL)
    table["rank"] = table["rank"].astype(object).mask(np.r_[near, False] | np.r_[False, near], NEAR_TIE)
    return table.sort_values("unit_id")


def _queried(path: Path) -> pd.DataFrame:
    return pd.read_csv(path).drop(columns="path", errors="ignore")


READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "ledger.sqlite": _ledger,
    "scores.parquet": _scores,
    "queried.csv": _queried,
    **dict.fromkeys(["learning_curve.csv", "study.csv", "images.csv", "annotators.csv"], pd.read_csv),
}


def _value(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        # 7 digits are more than the comparison needs; whole numbers in a column with gaps are floats to pandas
        return None if math.isnan(value) else float(f"{value:.7g}")
    return value.item() if isinstance(value, np.generic) else value


def tables(run_dir: Path) -> dict[str, Table]:
    """Every table that is recorded of a run directory, under its path in there."""
    found = {p.relative_to(run_dir).as_posix(): READERS[p.name](p) for p in run_dir.rglob("*") if p.name in READERS}
    return {
        path: {
            "columns": list(table.columns),
            "rows": [[_value(v) for v in row] for row in table.itertuples(index=False, name=None)],
        }
        for path, table in sorted(found.items())
    }


@contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _run(folder: Path, name: str, verb: str, settings: dict[str, Any], *arguments: str) -> Path:
    """The command line here, unless it did this already; returns the run directory."""
    run_dir = folder / name
    if not run_dir.exists():
        config = folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump(settings))
        with one_thread(), in_this_process():
            cli.main([verb, "--config", str(config), "--run_dir", str(run_dir), *arguments])
    return run_dir


# Adam makes whole steps of the rounding in gradients that are all but zero, as those of biases before batch norm
_SGD = ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.05"]


def segmentation(folder: Path) -> Path:
    return _run(folder, "segmentation", "fit", TINY, *_SGD, "--trainer.max_epochs", "2")


def digits(folder: Path) -> Path:
    epochs = ["--trainer.max_epochs", "6", "--trainer.check_val_every_n_epoch", "3"]
    return _run(folder, "digits", "fit", TINY_DIGITS, *epochs)


def _study(folder: Path, name: str, stacked: bool) -> Path:
    strategies = {s.lower(): {"acquisition": {"class_path": s}} for s in ("Random", "BALD")}
    grid = {"seeds": 1, "at_once": 1, "keep_scores": True, "stacked": stacked, "strategies": strategies}
    epochs = ["--trainer.max_epochs", "5", "--trainer.check_val_every_n_epoch", "5"]
    return _run(folder, name, "study", TINY_DIGITS | {"grid": grid}, *epochs)


def study_stacked(folder: Path) -> Path:
    return _study(folder, "study_stacked", stacked=True)


def study_single(folder: Path) -> Path:
    return _study(folder, "study_single", stacked=False)


def ensemble(folder: Path) -> Path:
    settings = yaml.safe_load(write_config(folder / "people.yaml").read_text())
    # nobody's network but the two annotators' own: two fits less
    single = ["--members.single", "careful"]
    run_dir = _run(folder, "ensemble", "ensemble", settings, *single)
    with one_thread(), in_this_process():
        cli.main(["difficulty", "--config", str(folder / "ensemble.yaml"), "--run_dir", str(run_dir), *single])
    return run_dir


def _weights(folder: Path) -> list[str]:
    return ["--ckpt_path", str(segmentation(folder) / "cycles" / "00" / "best.ckpt")]


def query(folder: Path) -> Path:
    return _run(folder, "query", "query", TINY, *_SGD, *_weights(folder))


def query_two_processes(folder: Path) -> Path:
    """As `query`, by two processes with gloo between them, which start as a user's do."""
    run_dir = folder / "query_two_processes"
    command = [
        "query",
        "--config",
        str(folder / "segmentation.yaml"),
        "--run_dir",
        str(run_dir),
        *_SGD,
        *_weights(folder),
    ]
    devices = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "cli.py", *command, *devices], cwd=ROOT, env=environment, check=True, timeout=300)
    return run_dir


LIVE = [segmentation, digits, study_stacked, study_single, ensemble, query]
"""The runs that the suite does again: folder to run directory."""


def read(name: str) -> dict[str, Table]:
    """What was recorded of a run."""
    record: dict[str, Table] = json.loads((HERE / f"{name}.json").read_text())
    return record


def write(name: str, run_dir: Path) -> None:
    """Record a run, a line for each row.

    Raises:
        ValueError: If a choice hangs on less than another machine's rounding.

    """
    found = tables(run_dir)
    for path, table in found.items():
        if Path(path).name == "scores.parquet" and any(r[2] == NEAR_TIE and r[3] for r in table["rows"]):
            raise ValueError(f"{name}: in {path} scores are nearly equal where units are chosen; take another seed")
    text = json.dumps(found).replace("], [", "],\n[").replace("[[", "[\n[").replace("}, ", "},\n")
    (HERE / f"{name}.json").write_text(text + "\n")


def _differ(recorded: Any, got: Any) -> bool:
    if recorded == NEAR_TIE:
        return False
    if isinstance(recorded, float) and isinstance(got, float | int):
        return not math.isclose(recorded, got, rel_tol=RTOL, abs_tol=ATOL)
    return bool(recorded != got)


def differences(recorded: dict[str, Table], got: dict[str, Table]) -> list[str]:
    """Where a run is not what was recorded, in words; files and columns that were not recorded may be there, too."""
    found = []
    for path, table in recorded.items():
        if path not in got:
            found.append(f"{path} is not there")
            continue
        if len(table["rows"]) != len(got[path]["rows"]):
            found.append(f"{path} has {len(got[path]['rows'])} rows, {len(table['rows'])} were recorded")
            continue
        rows = [dict(zip(got[path]["columns"], row, strict=True)) for row in got[path]["rows"]]
        for number, (expected, row) in enumerate(zip(table["rows"], rows, strict=True)):
            for column, value in zip(table["columns"], expected, strict=True):
                if column not in row or _differ(value, row[column]):
                    found.append(f"{path}, row {number}, {column}: recorded {value!r}, got {row.get(column)!r}")
    return found
