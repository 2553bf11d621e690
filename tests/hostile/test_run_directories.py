"""Run directories that belong to something else, or have been damaged."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import cli
from tests.hostile.table import FIT, Row, listing, prepare, run_in_process, table

QUERY = "query --config tiny.yaml --run_dir run --ckpt_path run/cycles/01/best.ckpt"
THREE = f"{FIT} --cycles 3"


def swap(old: str, new: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text().replace(old, new))


def of_before(path: Path) -> None:
    """The settings as they were written when the data set was the data module."""
    settings = yaml.safe_load(path.read_text())
    source = settings["data"].pop("source")
    settings["data"] = {
        "class_path": "datamodules.synthetic.SyntheticRoads",
        "init_args": {**source["init_args"], **settings["data"]},
    }
    path.write_text(yaml.safe_dump(settings))


SETTINGS = [
    Row(f"{THREE} --strategy.budget 7", "strategy.budget: 4 then, 7 now"),
    Row(f"{THREE} --data.batch_size 2", "data.batch_size: 4 then, 2 now"),
    Row(f"{THREE} --data.crop_size null", "data.crop_size.0: 32 then, None now"),
    Row(
        f"{THREE} --data.partition Grid --data.partition.height 16 --data.partition.width 16",
        "data.partition.class_path: 'datamodules.partitions.WholeImages' then, 'datamodules.partitions.Grid' now",
    ),
    Row(f"{THREE} --model.scheduler.power 0.5", "model.init_args.scheduler.init_args.power: 0.9 then, 0.5 now"),
    Row(f"{THREE} --seed_everything 4", "seed_everything: 3 then, 4 now"),
    Row(f"{THREE} --warm_start true", "warm_start: False then, True now"),
    Row(f"{THREE} --trainer.max_epochs 2", "trainer.max_epochs: 1 then, 2 now"),
    Row(f"{THREE} --wandb.project other", "wandb.project: 'dropquery' then, 'other' now"),
    Row(f"{QUERY} --strategy.budget 7", "strategy.budget: 4 then, 7 now"),
    Row(f"{QUERY} --data.source.num_train 30", "data.source.init_args.num_train: 24 then, 30 now"),
    Row(f"{QUERY} --strategy.acquisition Entropy", "acquisition.functions.Entropy' now"),
    Row(f"{QUERY} --seed_everything 9", "seed_everything: 3 then, 9 now"),
]

DAMAGE = [
    Row(THREE, "run/config.yaml is not readable YAML", {"run/config.yaml": "a: [1"}),
    Row(THREE, "run/config.yaml is not readable YAML", {"run/config.yaml": b"\xff\xfe"}),
    Row(THREE, "run/config.yaml is not readable YAML", {"run/config.yaml": ""}),
    Row(QUERY, "run/config.yaml is not readable YAML", {"run/config.yaml": "a: [1"}),
    Row(THREE, "model.class_path: None then", {"run/config.yaml": swap("model:", "models:")}),
    Row(FIT, "run/config.yaml was written for dropquery before data.source", {"run/config.yaml": of_before}),
    Row(QUERY, "run/config.yaml was written for dropquery before data.source", {"run/config.yaml": of_before}),
    Row(FIT, "tiny.yaml was written for dropquery before data.source", {"tiny.yaml": of_before}),
    Row(FIT, "the ledger run/ledger.sqlite cannot be used", {"run/ledger.sqlite": b"no database" * 99}),
    Row(FIT, "run/ledger.sqlite is lost or empty", {"run/ledger.sqlite": b""}),
    Row(FIT, "run/ledger.sqlite is lost or empty", {"run/ledger.sqlite": Path.unlink}),
    Row(QUERY, "run/ledger.sqlite is lost or empty", {"run/ledger.sqlite": Path.unlink}),
    Row(FIT, "run/cycles/01/metrics.json", {"run/cycles/01/metrics.json": "{"}),
    Row(FIT, "run/cycles/01/metrics.json", {"run/cycles/01/metrics.json": "[]"}),
    Row(FIT, "run/cycles/00/metrics.json", {"run/cycles/00/metrics.json": b"\xff"}),
    Row("report --run_dir run", "run/cycles/01/metrics.json", {"run/cycles/01/metrics.json": "{}"}),
    Row(THREE, "run/cycles/01/best.ckpt is not a readable checkpoint",
        {"run/cycles/01/best.ckpt": b"PK", "run/config.yaml": swap("cycles: 2", "cycles: 3")}),
    Row(f"{THREE} --data.source.num_train 10", "num_train: 24 then, 10 now"),
    Row(QUERY, "cycle 1 of run has not been trained", {"run/cycles/01/metrics.json": Path.unlink}),
]  # fmt: skip


@table([*SETTINGS, *DAMAGE])
def test_one_sentence_and_nothing_else(row: Row, run_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(row, here, capsys)


def test_a_run_goes_on_where_it_was_moved_to_however_it_is_spelled(
    run_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(Row("", ""), here)
    run_dir.rename(here / "moved")
    for spelled in ("moved", "moved/", "moved/../moved", str(here / "moved")):
        cli.main(["fit", "--config", "tiny.yaml", "--run_dir", spelled])
    assert not run_dir.exists()
    assert len((here / "moved" / "learning_curve.csv").read_text().splitlines()) == 3
    cli.main(["fit", "--config", "moved/config.yaml", "--trainer.enable_progress_bar", "false", "--wandb.group", "x"])


def test_queries_without_a_fit_keep_their_settings(
    run_dir: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(Row("", ""), here)
    query = ["query", "--config", "tiny.yaml", "--run_dir", "new", "--ckpt_path", "run/cycles/01/best.ckpt"]
    cli.main(query)
    cli.main(query)
    before = listing(here / "new")
    assert {"query.yaml", "cycles/00/queried.csv", "cycles/01/queried.csv"} <= before.keys()
    for command in (query, ["fit", *query[1:5]]):
        with pytest.raises(SystemExit):
            cli.main([*command, "--strategy.budget", "7"])
        assert "strategy.budget: 4 then, 7 now" in capsys.readouterr().err
    assert listing(here / "new") == before
    # a query reads nothing of how long fits are
    cli.main(["fit", *query[1:5], "--cycles", "3", "--trainer.max_epochs", "2"])
    cli.main([*query[:5], "--doctor", "true", "--strategy.budget", "7", *query[5:]])
