"""Jobs side by side: skipped, retried, shared out, stopped; and a real fit."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from callbacks.progress import Progress, read_progress
from pipelines.jobs import Job, outcome_summary, run_jobs
from pipelines.jobs_view import JobsView
from pipelines.processes import gpus, share
from tests.conftest import ROOT

SCRIPT = """
import os, sys, time
from pathlib import Path
what, run_dir = sys.argv[1], Path(sys.argv[2])
run_dir.mkdir(parents=True, exist_ok=True)
with (run_dir / "starts").open("a") as file:
    print(os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES"),
          os.environ.get("OMP_WAIT_POLICY"), os.environ.get("SLURM_NTASKS"), file=file)
if what == "sleep":
    time.sleep(60)
if what == "fail" or (what == "fail_once" and len((run_dir / "starts").read_text().splitlines()) == 1):
    print("first line"); print("dropquery: error: the disk is full", file=sys.stderr); sys.exit(1)
if what == "killed":
    os.kill(os.getpid(), 9)
if what == "meet":  # needs the others at the same time
    end = time.monotonic() + 20
    while len(list(run_dir.parent.glob("*/starts"))) < 3:
        assert time.monotonic() < end
        time.sleep(0.01)
if what != "nothing":
    (run_dir / "done").touch()
"""


@pytest.fixture
def program(tmp_path: Path) -> list[str]:
    script = tmp_path / "fake.py"
    script.write_text(SCRIPT)
    return [sys.executable, "-S", str(script)]


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[[str, str], Job]:
    def make(name: str, what: str) -> Job:
        run_dir = tmp_path / "runs" / name
        return Job(name, (what, str(run_dir)), run_dir, run_dir / "done")

    return make


def starts(job: Job) -> list[list[str]]:
    return [line.split() for line in (job.run_dir / "starts").read_text().splitlines()]


def test_each_is_done_skipped_retried_or_reported(program: list[str], make_job: Callable, tmp_path: Path) -> None:
    jobs = [make_job(w, w) for w in ("good", "fail", "fail_once", "killed", "nothing")]
    done = make_job("before", "good")
    done.run_dir.mkdir(parents=True)
    done.finished.touch()
    outcomes = run_jobs([done, *jobs], tmp_path / "logs", at_once=5, program=program)

    assert [(o.job.name, o.state, o.attempts) for o in outcomes] == [
        ("before", "skipped", 0), ("good", "finished", 1), ("fail", "failed", 2), ("fail_once", "finished", 2),
        ("killed", "failed", 2), ("nothing", "failed", 2),
    ]  # fmt: skip
    reasons = {o.job.name: o.reason for o in outcomes}
    assert reasons["fail"] == "the disk is full"
    assert "SIGKILL" in reasons["killed"]
    assert "ended without" in reasons["nothing"]
    assert reasons["good"] == reasons["fail_once"] == ""
    assert not (done.run_dir / "starts").exists()
    log = (tmp_path / "logs" / "fail.log").read_text()
    assert log.count("first line") == 2, "the log keeps both attempts"
    table = pd.read_csv(tmp_path / "logs" / "jobs.csv")
    assert table["state"].tolist() == [o.state for o in outcomes]
    text = outcome_summary(outcomes)
    assert "2 finished, 1 skipped, 3 failed" in text
    assert "the disk is full" in text

    again = run_jobs([done, *jobs], tmp_path / "logs", at_once=5, retries=0, program=program)
    assert [o.state for o in again] == ["skipped", "skipped", "failed", "skipped", "failed", "failed"]
    assert len(starts(jobs[0])) == 1, "what is finished is not done again"
    assert len(starts(jobs[1])) == 3


def test_jobs_run_at_the_same_time_and_share_the_machine(
    program: list[str], make_job: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,GPU-8")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("pipelines.processes.cores", lambda: 12)
    jobs = [make_job(n, "meet") for n in "abc"]
    assert all(o.state == "finished" for o in run_jobs(jobs, tmp_path / "logs", program=program))
    seen = [starts(j)[0][1:] for j in jobs]
    assert sorted(s[1] for s in seen) == ["3", "5", "GPU-8"], "one GPU each"
    assert {(s[0], s[2], s[3]) for s in seen} == {("4", "PASSIVE", "None")}


def test_how_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.processes.cores", lambda: 8)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_PHYS_PAGES": 2**21, "SC_PAGE_SIZE": 4096}[name])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []
    assert share(10) == (4, 2), "8 GiB hold four"
    assert share(2) == (2, 4)
    assert share(10, at_once=16) == (10, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert share(10) == (2, 4)
    with pytest.raises(ValueError, match="at_once must be at least 1, got 0"):
        share(10, at_once=0)


def test_jobs_that_cannot_be_told_apart_are_refused(make_job: Callable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name of its own"):
        run_jobs([make_job("a", "good"), make_job("a", "good")], tmp_path)
    with pytest.raises(ValueError, match="at least one job"):
        run_jobs([], tmp_path)
    with pytest.raises(ValueError, match="also a file name"):
        make_job("../a", "good")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing tells children that their parent was killed")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_job_outlives_its_parent(
    program: list[str], make_job: Callable, tmp_path: Path, number: signal.Signals
) -> None:
    jobs = [make_job(n, "sleep") for n in "ab"]
    code = "\n".join(
        [
            # a suite in the background of a script runs with Ctrl-C ignored, and its children would inherit that
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)",
            "from pathlib import Path, PosixPath",
            "from pipelines.jobs import Job, run_jobs",
            f"run_jobs({jobs!r}, {tmp_path / 'logs'!r}, at_once=2, program={program!r})",
        ]
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not all((j.run_dir / "starts").is_file() and starts(j) for j in jobs):
        assert time.monotonic() < deadline
        assert parent.poll() is None, parent.communicate()[1]
        time.sleep(0.05)
    parent.send_signal(number)
    parent.wait(timeout=120)
    deadline = time.monotonic() + 5
    while any(alive(int(starts(j)[0][0])) for j in jobs):
        assert time.monotonic() < deadline, "a job lives on"
        time.sleep(0.05)
    assert parent.returncode != 0


def test_a_log_gets_lines_and_not_bars(capsys: pytest.CaptureFixture[str]) -> None:
    with JobsView(2, 1, every=0.0) as view:
        view.start(0, "ann")
        view.counts({})
        view.step(0, Progress(0, 3, 10, 40))
        time.sleep(0.01)
        view.step(0, Progress(0, 3, 20, 40))
        view.counts({"failed": 1})
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "0 of 2 jobs done; ann begins"
    assert lines[1].startswith("1 of 2 jobs done (1 failed); ann cycle 1/3, step 20/40 (")
    assert lines[1].endswith("/s)")


def test_a_real_fit_and_one_that_is_refused(tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs = []
    for name, cycles in (("good", "1"), ("wrong", "0")):
        run_dir = tmp_path / name
        arguments = ("fit", "--config", str(tiny_config), "--run_dir", str(run_dir), "--cycles", cycles)
        jobs.append(Job(name, arguments, run_dir, run_dir / "learning_curve.csv"))
    good, wrong = run_jobs(jobs, tmp_path / "logs", at_once=2, retries=0)
    assert (good.state, wrong.state) == ("finished", "failed")
    assert wrong.reason == "--cycles must be at least 1, got 0"
    assert len(pd.read_csv(good.job.finished)) == 1
    # 5 images in batches of 4, 3 epochs
    assert read_progress(good.job.run_dir) == Progress(0, 1, 6, 6)
