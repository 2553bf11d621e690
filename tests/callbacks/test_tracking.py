"""Weights & Biases, offline."""

import json
import shutil
import subprocess
from pathlib import Path

import cli


def test_one_offline_run_with_curves_over_labels(tiny_config: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    arguments = [
        "--wandb.mode",
        "offline",
        "--wandb.group",
        "study",
        "--wandb.job_type",
        "fit",
        "--wandb.tags",
        "[bald]",
    ]
    cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(run_dir), *arguments])
    import wandb

    wandb.teardown()
    (log,) = (run_dir / "wandb").glob("offline-run-*/*.wandb")
    binary = shutil.which("wandb") or str(Path(__import__("sys").executable).with_name("wandb"))
    printed = subprocess.run([binary, "leet", "inspect", "--json", log], capture_output=True, text=True, check=True)
    text = printed.stdout
    assert all(json.loads(line) for line in text.splitlines() if line.strip())
    assert '"study"' in text
    assert '"bald"' in text
    for curve in ("curve/miou", "curve_by_pixels/miou", "labelled_units"):
        assert curve in text
