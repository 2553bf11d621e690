"""The loop: killed, continued, shared, refused, distributed."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import yaml
from filelock import FileLock

import cli
from callbacks.cycle import StepSeed
from pipelines import trainer_options
from pipelines.run_access import run_directory, working_in
from records.files import RunDirectoryError, write_json
from records.ledger import Ledger, Queried
from records.reviews import Reviews
from records.run_directory import RunDirectory
from tests import forked
from tests.conftest import TINY

Dropquery = Callable[..., subprocess.CompletedProcess[str]]


pytestmark = pytest.mark.xdist_group("cycles")  # they share trained runs


def history(run_dir: Path) -> list[tuple[object, ...]]:
    """Everything in the ledger but the times."""
    columns = "cycle, kind, unit_id, strategy, score, rank, pixels"
    with sqlite3.connect(run_dir / "ledger.sqlite") as connection:
        return connection.execute(f"SELECT {columns} FROM events ORDER BY id").fetchall()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of the tiny experiment, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    cli.main(["fit", "--config", str(folder / "tiny.yaml"), "--run_dir", str(folder / "run")])
    return folder / "run"


@pytest.mark.parametrize(
    "moment",
    [
        "cycles/00/last.ckpt",  # in the middle of a fit
        "cycles/00/metrics.json",  # after the fit, before or in the query
        "cycles/00/scores.parquet",  # files written, ledger not moved
        "cycles/01/last.ckpt",
    ],
)
def test_killed_and_started_again_ends_as_if_never_interrupted(
    whole: Path, tiny_config: Path, tmp_path: Path, moment: str
) -> None:
    killed = tmp_path / "killed"
    # as many threads as this process has: sums in another order round to other scores
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    deadline = time.monotonic() + 200
    with forked.start(["fit", "--config", tiny_config, "--run_dir", killed], environment) as process:
        while not (killed / moment).exists():
            assert process.poll() is None, "the run ended before the moment came"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    assert not (killed / "learning_curve.csv").exists() or len(pd.read_csv(killed / "learning_curve.csv")) < 3

    cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(killed)])
    assert history(killed) == history(whole)
    assert (killed / "learning_curve.csv").read_text() == (whole / "learning_curve.csv").read_text()


def test_a_second_process_is_refused(tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with FileLock(run_dir / ".lock"), pytest.raises(SystemExit):
        cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(run_dir)])
    assert "another process is working in" in capsys.readouterr().err
    assert [p.name for p in run_dir.iterdir()] == [".lock"]


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc").is_dir(), reason="root may write anywhere")
def test_a_run_directory_that_cannot_be_made_is_said(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(SystemExit):
        cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "file" / "run")])
    assert "cannot be written to" in capsys.readouterr().err


def test_strategies_share_the_initial_model(tiny_config: Path, tmp_path: Path) -> None:
    shared = tmp_path / "initial"
    for strategy in ("BALD", "Entropy"):
        cli.main(
            [
                "fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / strategy), "--cycles", "2",
                "--strategy.acquisition", strategy, "--initial_models", str(shared),
            ]
        )  # fmt: skip
    (key,) = shared.iterdir()
    models = [tmp_path / s / "cycles" / "00" / "best.ckpt" for s in ("BALD", "Entropy")]
    assert models[0].read_bytes() == models[1].read_bytes() == (key / "best.ckpt").read_bytes()
    assert not (tmp_path / "Entropy" / "cycles" / "00" / "last.ckpt").exists(), "the second did not train it again"
    queried = [set(pd.read_csv(m.parent / "queried.csv")["unit_id"]) for m in models]
    assert queried[0] != queried[1]

    other = ["fit", "--config", str(tiny_config), "--cycles", "1", "--initial_models", str(shared)]
    cli.main([*other, "--run_dir", str(tmp_path / "other"), "--model.optimizer.lr", "0.02"])
    assert len(list(shared.iterdir())) == 2, "other settings have another initial model"


def test_reviews_are_not_thrown_away_with_a_first_try(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with run_directory(run_dir, "budget: 4"):
        Ledger(run_dir / "ledger.sqlite").start([("u", 10)])
    with run_directory(run_dir, "budget: 5"):
        assert not (run_dir / "ledger.sqlite").exists(), "an initial set by other settings is chosen again"
    Reviews(run_dir / "ledger.sqlite").assign([("u", "ann")], by="eve")
    with pytest.raises(RunDirectoryError, match="other settings"), run_directory(run_dir, "budget: 6"):
        pass
    assert Reviews(run_dir / "ledger.sqlite").state("u", "ann") == "assigned"


def a_run(run_dir: Path) -> Path:
    """Two finished cycles and a query under way; returns its ledger."""
    ledger = Ledger(run_dir / "ledger.sqlite")
    ledger.start([("a", 10)])
    for cycle in (0, 1):
        folder = run_dir / "cycles" / f"{cycle:02d}"
        write_json(
            folder / "metrics.json", {"cycle": cycle, "labelled_units": 1 + cycle, "labelled_pixels": 10 + 10 * cycle}
        )
        (folder / "queried.csv").write_text("name\n")
        (folder / "shards").mkdir()
        if cycle == 0:
            (folder / "shards").rmdir()
            ledger.query(0, "s", [Queried("b", 1.0, 1)], [("b", 10)])
    ledger.close()
    return run_dir / "ledger.sqlite"


def older(ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("DELETE FROM events WHERE kind != 'initial'")


def unlabelled(ledger: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("DELETE FROM events WHERE kind = 'labelled'")


def begun_anew(ledger: Path) -> None:
    ledger.unlink()
    Ledger(ledger).start([("a", 10)])


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (Path.unlink, "is lost or empty"),
        (lambda ledger: ledger.write_bytes(b""), "is lost or empty"),
        (older, "has 1 labelled units and does not know of what stands in .*00, a fit on 1;"),
        (unlabelled, "has 1 labelled units and does not know of what stands in .*01, a fit on 2;"),
        (begun_anew, "has 1 labelled units"),
    ],
)
def test_a_ledger_that_knows_less_than_the_cycles_is_refused(
    tmp_path: Path, lose: Callable[[Path], object], words: str
) -> None:
    ledger = a_run(tmp_path)
    with working_in(tmp_path):
        pass
    lose(ledger)
    before = ledger.read_bytes() if ledger.exists() else None
    with pytest.raises(RunDirectoryError, match=f"ledger.sqlite {words}"), working_in(tmp_path):
        pass
    assert (ledger.read_bytes() if ledger.exists() else None) == before, "nothing was changed"
    with working_in(tmp_path / "new"):
        pass


def test_a_ledger_lost_while_the_first_query_waits_is_refused(tmp_path: Path) -> None:
    queried = tmp_path / "cycles" / "00" / "queried.csv"
    queried.parent.mkdir(parents=True)
    queried.write_text("name\n")
    with pytest.raises(RunDirectoryError, match=r"ledger\.sqlite is lost or empty"), working_in(tmp_path):
        pass


def test_a_ledger_that_does_not_know_of_a_query_is_refused_unless_the_query_was_cut(tmp_path: Path) -> None:
    cycle = tmp_path / "cycles" / "00"
    (cycle / "shards").mkdir(parents=True)
    (cycle / "queried.csv").write_text("name\n")
    Ledger(tmp_path / "ledger.sqlite").close()
    with working_in(tmp_path):
        pass
    (cycle / "shards").rmdir()
    with (
        pytest.raises(RunDirectoryError, match=r"ledger\.sqlite has 0 labelled units and does not know"),
        working_in(tmp_path),
    ):
        pass


def test_shards_of_a_query_that_the_ledger_knows_are_removed(tmp_path: Path) -> None:
    ledger = a_run(tmp_path)
    closed, cut = (RunDirectory(tmp_path).cycle(number) for number in (0, 1))
    closed.shards.mkdir()
    (closed.shards / "fingerprint").touch()
    with working_in(tmp_path):
        assert not closed.shards.exists()
        assert cut.shards.exists(), "the ledger does not know of it, so it goes on"
    assert closed.is_queried
    # and the ledger must go on knowing it
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE events SET cycle = 1 WHERE kind = 'queried'")
    with pytest.raises(RunDirectoryError, match=r"does not know of what stands in .*00"), working_in(tmp_path):
        pass


def test_who_takes_a_run_directory_clears_what_a_killed_one_left(tmp_path: Path) -> None:
    a_run(tmp_path)
    dead = subprocess.Popen(["true"])
    dead.wait()
    folders = [tmp_path, tmp_path / "cycles" / "01", tmp_path / "cycles" / "01" / "maps"]
    folders[-1].mkdir()
    for folder in folders:
        (folder / f".half.{dead.pid}~.png").touch()
    with working_in(tmp_path):
        assert not list(tmp_path.rglob(".half*"))


def weights(run_dir: Path, cycle: int) -> torch.Tensor:
    """One layer's, of a cycle's best validation."""
    saved = torch.load(RunDirectory(run_dir).cycle(cycle).best, weights_only=True)
    found: torch.Tensor = saved["state_dict"]["network.fc6.0.weight"]
    return found


def test_warm_start_goes_on_from_the_cycle_before(tiny_config: Path, tmp_path: Path) -> None:
    command = ["fit", "--config", str(tiny_config), "--warm_start", "true", "--cycles", "2"]
    cli.main([*command, "--run_dir", str(tmp_path / "run"), "--model.optimizer.lr", "1e-12"])
    assert torch.allclose(weights(tmp_path / "run", 0), weights(tmp_path / "run", 1), atol=1e-6)


def test_warm_start_begins_from_scratch_after_a_query_without_a_fit(tiny_config: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    same = [
        "--config", str(tiny_config), "--run_dir", str(run_dir), "--model.optimizer.lr", "1e-12",
        "--strategy.acquisition", "Random",
    ]  # fmt: skip
    cli.main(["query", *same])
    cli.main(["fit", *same, "--warm_start", "true", "--cycles", "3", "--trainer.max_epochs", "1"])
    assert [row["cycle"] for row in RunDirectory(run_dir).metrics()] == [1, 2]
    assert torch.allclose(weights(run_dir, 1), weights(run_dir, 2), atol=1e-6)


def test_two_processes_choose_the_same_units_as_one(dropquery: Dropquery, tiny_config: Path, tmp_path: Path) -> None:
    # the same weights for both: what differs is who scores and who writes
    cli.main(["fit", "--config", str(tiny_config), "--run_dir", str(tmp_path / "trained"), "--cycles", "1"])
    best = tmp_path / "trained" / "cycles" / "00" / "best.ckpt"
    tables = []
    for run, extra in (("one", []), ("two", ["--trainer.devices", 2, "--trainer.strategy", "ddp"])):
        dropquery("query", "--config", tiny_config, "--run_dir", tmp_path / run, "--ckpt_path", best, *extra)
        tables.append(pd.read_parquet(tmp_path / run / "cycles" / "00" / "scores.parquet"))
    assert len(tables[0]) == 24
    assert tables[0]["unit_id"].tolist() == tables[1]["unit_id"].tolist()
    assert tables[0]["selected"].tolist() == tables[1]["selected"].tolist()
    np.testing.assert_allclose(tables[0]["score"], tables[1]["score"], rtol=0, atol=1e-6)


def test_cycles_under_two_processes(dropquery: Dropquery, tiny_config: Path, tmp_path: Path) -> None:
    command = [
        "fit",
        "--config",
        tiny_config,
        "--trainer.devices",
        2,
        "--trainer.strategy",
        "ddp",
        "--data.batch_size",
        2,
    ]
    dropquery(*command, "--run_dir", tmp_path / "run")
    curve = pd.read_csv(tmp_path / "run" / "learning_curve.csv")
    assert curve["labelled_units"].tolist() == [5, 9, 13]
    # each epoch saw the same batches of 4 as one process does
    assert len([e for e in history(tmp_path / "run") if e[1] == "labelled"]) == 8
    before = history(tmp_path / "run")
    dropquery(*command, "--run_dir", tmp_path / "run")
    assert history(tmp_path / "run") == before, "starting a finished run again changes nothing"


class Crash(StepSeed):
    """Ends the process's work just before a step, as a kill would: nothing is saved."""

    step = 0

    def on_train_batch_start(self, trainer: pl.Trainer, *rest: Any) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("crashed")
        super().on_train_batch_start(trainer, *rest)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_fit_of_so_many_steps_goes_on_in_the_middle_of_an_epoch(
    tiny_config: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 17 units in batches of 4 are epochs of 5 steps; validation and checkpoint after steps 3, 6 and 9
    command = [
        "fit", "--config", str(tiny_config), "--cycles", "1", "--data.initial.size", "17", "--trainer.max_epochs", "-1",
        "--trainer.max_steps", "11", "--trainer.val_check_interval", "3", "--trainer.check_val_every_n_epoch", "null",
        "--data.num_workers", str(workers),
    ]  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    cli.main([*command, "--run_dir", str(whole)])
    for step in (5, 8):
        monkeypatch.setattr(trainer_options, "StepSeed", Crash)
        monkeypatch.setattr(Crash, "step", step)
        with pytest.raises(RuntimeError, match="crashed"):
            cli.main([*command, "--run_dir", str(cut)])
        monkeypatch.undo()
        assert torch.load(cut / "cycles" / "00" / "last.ckpt", weights_only=True)["global_step"] == step // 3 * 3
    cli.main([*command, "--run_dir", str(cut)])
    saved = [torch.load(run / "cycles" / "00" / "last.ckpt", weights_only=True) for run in (whole, cut)]
    assert saved[0]["global_step"] == saved[1]["global_step"] == 11, "the last checkpoint has the final weights"
    for name, weights in saved[0]["state_dict"].items():
        assert torch.equal(weights, saved[1]["state_dict"][name]), name
    assert (whole / "learning_curve.csv").read_text() == (cut / "learning_curve.csv").read_text()
