"""On a real Slurm: an array as local processes, a fit that is interrupted, one trainer on two nodes."""

import os
import sqlite3
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipelines.jobs import Job, run_jobs
from pipelines.submit import slurm_answers, submit
from tests.conftest import ROOT, TINY

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.xdist_group("slurm"),  # one after another
    pytest.mark.skipif(not slurm_answers(), reason="no Slurm answers here"),
]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    monkeypatch.chdir(ROOT)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "cycles": 1}))
    return path


def fit(config: Path, run_dir: Path, *extra: str) -> tuple[str, ...]:
    return ("fit", "--config", str(config), "--run_dir", str(run_dir), *extra)


def wait_for(what: str, done: object, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"waited in vain for {what}: {squeue()}"
        time.sleep(0.02)


def squeue() -> str:
    return subprocess.run(["squeue", "--array", "--noheader"], capture_output=True, text=True, check=True).stdout


def logs(folder: Path) -> str:
    return "\n".join(f"{p.name}: {p.read_text()}" for p in sorted((folder / "slurm").glob("*_log.*")))


def test_an_array_with_an_interruption_ends_as_local_processes_do(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = {"short": ("4", "--trainer.max_epochs", "3"), "long": ("5", "--trainer.max_epochs", "25")}

    def jobs(where: str) -> list[Job]:
        folders = {name: tmp_path / where / name for name in seeds}
        return [
            Job(n, fit(config, folders[n], "--seed_everything", *extra), folders[n], folders[n] / "learning_curve.csv")
            for n, extra in seeds.items()
        ]

    closing = fit(config, tmp_path / "closing")
    submit(list(closing), cluster="slurm", time=60, expand=lambda command, dry: jobs("slurm"))
    array = capsys.readouterr().out.split("slurm job ")[1].split("_")[0]
    long = tmp_path / "slurm" / "long"
    wait_for("the first checkpoint", (long / "cycles" / "00" / "last.ckpt").is_file)
    assert not (long / "cycles" / "00" / "metrics.json").exists(), "the fit was over before it could be interrupted"
    subprocess.run(["scancel", "--signal=USR1", f"{array}_1"], check=True)
    wait_for("the job to be queued again", lambda: "PD" in squeue() or " R " not in squeue(), 30)
    assert not (long / "cycles" / "00" / "metrics.json").exists()

    # meanwhile the same as local processes
    outcomes = run_jobs(jobs("local"), tmp_path / "logs", at_once=1)
    assert [o.state for o in outcomes] == ["finished", "finished"]
    wait_for("the closing job", (tmp_path / "closing" / "learning_curve.csv").is_file)
    text = logs(tmp_path / "closing")
    assert "Requeued job" in text, text
    for here, there in zip(jobs("local"), jobs("slurm"), strict=True):
        assert there.finished.read_text() == here.finished.read_text(), here.name
    submit(list(closing), cluster="slurm", dry_run=True, expand=lambda command, dry: jobs("slurm"))
    assert "--array" not in capsys.readouterr().out, "what is finished is not submitted again"


def test_one_trainer_on_two_nodes(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # as from inside a job, whose settings must not become the new one's
    monkeypatch.setenv("SLURM_NTASKS", "7")
    monkeypatch.setenv("SLURM_JOB_ID", "123456")
    run_dir = tmp_path / "run"
    submit(
        [*fit(config, run_dir, "--cycles", "2", "--data.batch_size", "2"), "-v"],
        cluster="slurm", time=60, nodes=2, wait=True,
    )  # fmt: skip
    assert os.environ["SLURM_NTASKS"] == "7"
    assert "Starting with 2 processes" in logs(run_dir)
    assert pd.read_csv(run_dir / "learning_curve.csv")["labelled_units"].tolist() == [5, 9]
    with sqlite3.connect(run_dir / "ledger.sqlite") as connection:
        kinds = dict(connection.execute("SELECT kind, COUNT(*) FROM events GROUP BY kind").fetchall())
    assert kinds["initial"] == 5
    assert kinds["queried"] == kinds["labelled"] == 4, "written once"


def test_a_job_that_fails_is_said(config: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"1 of 1 jobs failed"):
        submit(list(fit(config, tmp_path / "run", "--cycles", "0")), cluster="slurm", time=60, wait=True)
    assert "--cycles must be at least 1, got 0" in logs(tmp_path / "run")
