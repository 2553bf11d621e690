"""Files that are no checkpoint, or more than one."""

import os
import pickle
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import cli
from tests.hostile.table import Row, prepare, run_in_process, table

VERB = "validate --config tiny.yaml --run_dir run --ckpt_path"
BEST = "run/cycles/01/best.ckpt"
OTHER_NETWORK = "belongs to another network than model.network describes"


class Touch:
    """What a pickle does when it is read without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def changed(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """The trained checkpoint with something done to it, as a file of its own."""

    def make(path: Path) -> None:
        saved = torch.load(BEST, weights_only=True)
        saved = change(saved) or saved
        torch.save(saved, path)

    return make


def with_weight(value: float) -> Callable[[dict[str, Any]], None]:
    def change(saved: dict[str, Any]) -> None:
        next(iter(saved["state_dict"].values())).view(-1)[0] = value

    return change


def half(path: Path) -> None:
    whole = Path(BEST).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Touch()))


ROWS = [
    Row(f"{VERB} none.ckpt", "expected a checkpoint at none.ckpt"),
    Row(f"{VERB} run", "expected a checkpoint at run"),
    Row(f"{VERB} best", "expected a checkpoint at best"),
    Row("validate --config tiny.yaml --run_dir run", "validate needs trained weights"),
    Row("query --config tiny.yaml --run_dir run", "got no --ckpt_path; give one, such as run/cycles/01/best"),
    *[
        Row(f"{verb} --config tiny.yaml --run_dir run --ckpt_path {address}", f"on this machine, got {address}")
        for verb, address in (
            ("query", "http://127.0.0.1:1/x.ckpt"),
            ("predict", "https://127.0.0.1:1/x.ckpt"),
            ("validate", "s3://bucket/x.ckpt"),
            ("test", "memory://x.ckpt"),
            ("test", "file:///x.ckpt"),
        )
    ],
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": b""}),
    Row(f"{VERB} {BEST}", "best.ckpt is not a readable checkpoint (EOFError); give another file", {BEST: b""}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": b"text\n"}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": half}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": pickle.dumps(Touch())}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": zipped}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": lambda p: torch.save(Touch(), p)}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": lambda p: torch.save([1], p)}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": changed(lambda s: s["state_dict"])}),
    Row(f"{VERB} a.ckpt", "a.ckpt is not a readable checkpoint", {"a.ckpt": changed(lambda s: {"state_dict": 3})}),
    Row(
        f"{VERB} a.ckpt",
        "a.ckpt is not a readable checkpoint",
        {"a.ckpt": changed(lambda s: {"state_dict": {"a": 1}})},
    ),
    Row(f"{VERB} a.ckpt", OTHER_NETWORK, {"a.ckpt": changed(lambda s: {"state_dict": {}})}),
    Row(f"{VERB} {BEST} --model.network.width 0.06", OTHER_NETWORK),
    Row(f"{VERB} {BEST} --model.loss lightning_modules.crowd.CrowdLayer --model.loss.num_annotators 2",
        "belongs to another loss than model.loss describes (1 tensors differ, loss.learned first)"),
    *[
        Row(f"{verb} --config tiny.yaml --run_dir run --ckpt_path a.ckpt", "a.ckpt has weights that are not numbers",
            {"a.ckpt": changed(with_weight(value))})
        for verb, value in (("validate", float("nan")), ("predict", float("nan")), ("query", float("inf")))
    ],
    Row(f"query --config tiny.yaml --run_dir new --ckpt_path {BEST} "
        f"--strategy.predictor Ensemble --strategy.predictor.checkpoints [a.ckpt,{BEST}]",
        "a.ckpt is not a readable checkpoint", {"a.ckpt": pickle.dumps(Touch())}),
]  # fmt: skip


@table(ROWS)
def test_one_sentence_and_nothing_else(row: Row, run_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(row, here, capsys)


def test_settings_come_from_the_command_line_whatever_a_checkpoint_says(run_dir: Path, here: Path) -> None:
    """Hyper-parameters name another dropout rate, and a class that does not exist."""

    def told(saved: dict[str, Any]) -> None:
        network = {"class_path": "lightning_modules.networks.FCN8s", "init_args": {"num_classes": 5, "dropout": 0.05}}
        saved["hyper_parameters"] = {"_class_path": "no.such.Module", "network": network}

    changed(told)(here / "told.ckpt")
    prepare(ROWS[0], here)
    tables = []
    for name in (BEST, "told.ckpt"):
        new = f"of-{Path(name).stem}"
        cli.main(shlex.split(f"query --config tiny.yaml --run_dir {new} --ckpt_path {name}"))
        tables.append(pd.read_parquet(Path(new) / "cycles" / "00" / "scores.parquet"))
    pd.testing.assert_frame_equal(*tables)


def test_a_file_whose_name_lightning_would_take_for_a_word_or_an_address(run_dir: Path, here: Path) -> None:
    for name in ("last", "http.ckpt"):
        prepare(Row("", "", {name: Path(BEST).read_bytes()}), here)
        cli.main(["validate", "--config", "tiny.yaml", "--run_dir", "run", "--ckpt_path", name])
