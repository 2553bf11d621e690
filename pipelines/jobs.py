"""Independent jobs of the command line, side by side on one machine."""

import csv
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from pipelines.jobs_view import JobsView
from pipelines.processes import DROPQUERY, gpus, share, start_process, stop_processes, why_it_ended, without_slurm
from records.files import replacing
from records.study_directory import JobsDirectory

__all__ = ["Job", "Outcome", "check_jobs", "outcome_summary", "run_jobs", "say_outcomes"]

_POLL = 0.1
_PAUSE = 1.0  # before another attempt


@dataclass(frozen=True)
class Job:
    """One call of the command line.

    Args:
        name: Name of its log and in tables, of letters, digits and ._=+-
        arguments: The words that follow dropquery.
        run_dir: The run directory, which no other job uses.
        finished: The file whose presence means that the job is done,
        anew: unless it is to be done again: what an earlier one has left there does not count.

    Raises:
        ValueError: The name has other characters.
    """

    name: str
    arguments: tuple[str, ...]
    run_dir: Path
    finished: Path
    anew: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w=+-][\w.=+-]*", self.name):
            raise ValueError(
                f"a job's name is also a file name: expected letters, digits and ._=+-, got {self.name!r}; rename it"
            )

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to do."""
        return self.finished.exists() and not self.anew


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Args:
        job: The job.
        state: finished; skipped, because it was done before; or failed.
        attempts: How often it was started.
        seconds: Wall time of all attempts.
        log: The file with its output.
        reason: Why it failed, else "".
    """

    job: Job
    state: Literal["finished", "skipped", "failed"]
    attempts: int
    seconds: float
    log: Path
    reason: str


@dataclass
class _Running:
    job: Job
    slot: int
    attempt: int
    started: float
    process: subprocess.Popen[bytes]


def run_jobs(
    jobs: Sequence[Job],
    log_dir: Path,
    at_once: int | None = None,
    retries: int = 1,
    program: Sequence[str] = DROPQUERY,
) -> list[Outcome]:
    """Run jobs as separate processes.

    A failed job does not affect the others. Each job sees one GPU, if there are any, and an equal share of the CPU's
    cores, unless OMP_NUM_THREADS is set. Ctrl-C and SIGTERM end all jobs; started again, they go on where they were.

    Args:
        jobs: The jobs; those whose `finished` file exists are skipped.
        log_dir: Folder of NAME.log, each job's output, and of jobs.csv, the table of outcomes.
        at_once: How many run side by side; see `pipelines.processes.share` unless given.
        retries: How often a failed job is started again.
        program: The command that is started with a job's arguments.

    Returns:
        One outcome per job, in the order of `jobs`.

    Raises:
        ValueError: There is no job, two jobs share a name or a run directory, or a number is too small.
    """
    from callbacks.progress import read_progress  # imports Lightning, which whoever only names jobs does without

    check_jobs(jobs)
    if retries < 0:
        raise ValueError(f"retries must be 0 or more, got {retries}")
    log_dir.mkdir(parents=True, exist_ok=True)
    outcomes = {j.name: Outcome(j, "skipped", 0, 0.0, _log(j, log_dir), "") for j in jobs if j.is_done}
    waiting = [(0.0, 1, job) for job in jobs if job.name not in outcomes]
    slots, threads = share(len(waiting), at_once)
    spent = {job.name: 0.0 for job in jobs}
    running: dict[int, _Running] = {}
    with _stopping(running), JobsView(len(jobs), slots) as view:
        while waiting or running:
            for slot in set(range(slots)) - set(running):
                ready = next((w for w in waiting if w[0] <= time.monotonic()), None)
                if ready is not None:
                    waiting.remove(ready)
                    running[slot] = _start(*ready[1:], slot, _environment(slot, slots, threads), log_dir, program)
                    view.start(slot, ready[2].name)
            view.counts(Counter(o.state for o in outcomes.values()))
            time.sleep(_POLL)
            for slot, one in list(running.items()):
                view.step(slot, read_progress(one.job.run_dir))
                code = one.process.poll()
                if code is None:
                    continue
                stop_processes([one.process])  # also ends processes that it left behind
                del running[slot]
                view.end(slot)
                spent[one.job.name] += time.monotonic() - one.started
                reason = _failure(one.job, code, _log(one.job, log_dir))
                if reason and one.attempt <= retries:
                    view.say(f"{one.job.name} failed, is tried again: {reason}")
                    waiting.append((time.monotonic() + _PAUSE, one.attempt + 1, one.job))
                    continue
                if reason:
                    view.say(f"{one.job.name} failed: {reason}")
                outcomes[one.job.name] = Outcome(
                    one.job, "failed" if reason else "finished", one.attempt, spent[one.job.name],
                    _log(one.job, log_dir), reason,
                )  # fmt: skip
                _write_table([outcomes[j.name] for j in jobs if j.name in outcomes], JobsDirectory(log_dir).table)
    ordered = [outcomes[job.name] for job in jobs]
    _write_table(ordered, JobsDirectory(log_dir).table)
    return ordered


def check_jobs(jobs: Sequence[Job]) -> None:
    """Check that there are jobs, and that each has a name and a run directory of its own.

    Raises:
        ValueError: It is not so.
    """
    if not jobs:
        raise ValueError("expected at least one job, got none; nothing to run")
    for what, values in (("name", [j.name for j in jobs]), ("run directory", [str(j.run_dir) for j in jobs])):
        value, count = Counter(values).most_common(1)[0]
        if count > 1:
            raise ValueError(f"expected a {what} of its own for every job, got {count} with {value}; change the others")


def outcome_summary(outcomes: Sequence[Outcome]) -> str:
    """Summarise outcomes for a terminal: a line of counts, and a line per failed job with its log."""
    counts = Counter(o.state for o in outcomes)
    lines = [f"{len(outcomes)} jobs: " + ", ".join(f"{counts[s]} {s}" for s in ("finished", "skipped", "failed"))]
    lines += [
        f"  {o.job.name} failed {o.attempts} times: {o.reason} (log: {o.log})" for o in outcomes if o.state == "failed"
    ]
    return "\n".join(lines)


def say_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print how jobs ended, and end the program with 1 if one failed.

    Args:
        outcomes: Of `run_jobs`.

    Raises:
        SystemExit: One failed.
    """
    print(outcome_summary(outcomes))
    if any(o.state == "failed" for o in outcomes):
        raise SystemExit(1)


def _log(job: Job, log_dir: Path) -> Path:
    return JobsDirectory(log_dir).log(job.name)


def _environment(slot: int, slots: int, threads: int) -> dict[str, str]:
    environment = without_slurm(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    if slots > 1:
        environment["OMP_WAIT_POLICY"] = "PASSIVE"  # threads that spin while waiting take cores from the other jobs
    devices = gpus()
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
    return environment


def _start(
    attempt: int, job: Job, slot: int, environment: Mapping[str, str], log_dir: Path, program: Sequence[str]
) -> _Running:
    with _log(job, log_dir).open("wb" if attempt == 1 else "ab") as output:
        output.write(f"# attempt {attempt}: dropquery {' '.join(job.arguments)}\n".encode())
        output.flush()
        process = start_process([*program, *job.arguments], environment, output)
    return _Running(job, slot, attempt, time.monotonic(), process)


def _failure(job: Job, code: int, log: Path) -> str:
    if code:
        return why_it_ended(log, code)
    return "" if job.finished.exists() else f"it ended without {job.finished}: {why_it_ended(log, code)}"


@contextmanager
def _stopping(running: Mapping[int, _Running]) -> Iterator[None]:
    """End the running jobs when this process ends; SIGTERM raises an exception, as Ctrl-C does."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, leave) if main else None
    try:
        yield
    finally:
        stop_processes([one.process for one in running.values()])
        if main:
            signal.signal(signal.SIGTERM, before)


def _write_table(outcomes: Sequence[Outcome], path: Path) -> None:
    with replacing(path) as beside, beside.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "state", "attempts", "seconds", "run_dir", "log", "reason"])
        for o in outcomes:
            table.writerow([o.job.name, o.state, o.attempts, round(o.seconds, 1), o.job.run_dir, o.log, o.reason])
