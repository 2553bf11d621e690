"""The verb submit: any verb as a job of Slurm or in the background of this machine, by submitit."""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import submitit
from submitit.slurm.slurm import SlurmExecutor

from pipelines.command import distributed, run_dir_of
from pipelines.jobs import Job, check_jobs
from pipelines.processes import DROPQUERY, gpus, without_slurm
from pipelines.settings import checked_name
from pipelines.task import Task
from pipelines.verbosity import VERBOSE
from records.run_directory import RunDirectory

__all__ = ["slurm_answers", "submit"]

_WARNING = 90  # seconds between the warning signal and the end of the job
_TIME_OUTS = 1000  # how often a job may run out of time and be continued
_LEAST_MINUTES = 11


def submit(
    command: list[str],
    cluster: Literal["slurm", "local"] | None = None,
    time: int = 1440,
    partition: str | None = None,
    nodes: int = 1,
    tasks_per_node: int | None = None,
    gpus_per_node: int | None = None,
    cpus_per_task: int = 1,
    memory_gb: float | None = None,
    at_once: int = 100,
    requeue: bool = True,
    dry_run: bool = False,
    wait: bool = False,
    expand: Callable[[list[str], bool], list[Job]] | None = None,
) -> None:
    """Run any verb as a job of Slurm or in the background: dropquery submit [options] VERB ...

    A job that runs out of time or is pre-empted is queued again and goes on from its last checkpoint. Scripts and
    logs are in RUN_DIR/slurm.

    Args:
        command: The verb and its arguments; on the command line, everything after submit's own options.
        cluster: slurm, or local for the background of this machine; slurm if it answers, unless given.
        time: Minutes after which a job is interrupted and queued again, at least 11.
        partition: Slurm's partition; its default unless given.
        nodes: Machines for one fit (DDP).
        tasks_per_node: Processes per machine for one fit (DDP); one per GPU unless given.
        gpus_per_node: GPUs per machine.
        cpus_per_task: CPU cores per process.
        memory_gb: Memory per machine, in GiB; the cluster's default unless given.
        at_once: Most jobs of an array that run side by side.
        requeue: Whether an interrupted job is queued again.
        dry_run: Print the script and the commands instead of submitting them.
        wait: Wait until the job is done, and fail if it failed.
        expand: Given a command and whether its jobs are only listed, returns the jobs that the verb consists of; an
            empty list for a verb that is one job.

    Raises:
        ValueError: The verb is missing, or the options contradict each other.
        ChildProcessError: With `wait`, a job failed.

    """
    if not command:
        raise ValueError("expected a verb after submit's options, got none; for example: dropquery submit fit --config")
    if time < _LEAST_MINUTES:
        raise ValueError(
            f"--time must be at least {_LEAST_MINUTES} minutes, got {time}: submitit takes every interruption of a "
            "shorter job for a time-out"
        )
    if partition is not None:
        checked_name("--partition", partition)
    checked_name("the verb", command[0])
    folder = Path(checked_name("--run_dir", str((RunDirectory(run_dir_of(command)).slurm).absolute())))
    cluster = cluster or ("slurm" if slurm_answers() else "local")
    tasks = tasks_per_node or gpus_per_node or 1
    if cluster == "local" and (nodes > 1 or tasks > 1):
        raise ValueError(
            f"--cluster local has one machine and one task, got --nodes {nodes} and {tasks} tasks; leave them out: "
            "there --trainer.devices alone says how many processes a fit starts"
        )
    # a verb of many jobs runs them side by side by itself on this machine
    said = [word for word in command if word in VERBOSE][:1]
    jobs = expand([word for word in command if word not in VERBOSE], dry_run) if expand and cluster == "slurm" else []
    if jobs:
        check_jobs(jobs)
    jobs = [job for job in jobs if not job.is_done]
    commands = [[*job.arguments, *said] for job in jobs] or [command]
    if cluster == "slurm":
        commands = [distributed(c, nodes, tasks) for c in commands]
    executor = _Script(folder, _TIME_OUTS) if cluster == "slurm" else submitit.LocalExecutor(folder, _TIME_OUTS)
    options: dict[str, Any] = {"nodes": nodes, "gpus_per_node": gpus_per_node, "signal_delay_s": _WARNING}
    if cluster == "local":
        options |= {"timeout_min": time, "gpus_per_node": len(gpus()) if gpus_per_node is None else gpus_per_node}
    else:
        options |= {
            "job_name": f"dropquery-{command[0]}", "time": time, "partition": partition, "ntasks_per_node": tasks,
            "cpus_per_task": cpus_per_task, "mem": f"{round(memory_gb * 1024)}MB" if memory_gb else None,
            "array_parallelism": at_once, "setup": [f"export PYTHONPATH={shlex.quote(_python_path())}"],
            # without it, the other tasks would wait for one that failed
            "srun_args": ["--kill-on-bad-exit=1"],
            "additional_parameters": {"requeue" if requeue else "no_requeue": True},
        }  # fmt: skip
    executor.update_parameters(**{k: v for k, v in options.items() if v is not None})
    if dry_run:
        if isinstance(executor, _Script):
            print(executor.text(len(commands)))
        print("\n".join(f"dropquery {shlex.join(c)}" for c in commands))
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _outside_of_jobs():
        sent: list[Any] = executor.submit_array([Task(c, requeue) for c in commands])
        if jobs and isinstance(executor, _Script):
            # the verb itself comes last: it repeats failed jobs and collects the results
            executor.update_parameters(dependency=f"afterany:{sent[0].job_id.split('_')[0]}")
            sent.append(executor.submit(Task(command, requeue)))
    print(f"{cluster} job {', '.join(j.job_id for j in sent)}: dropquery {shlex.join(command)}\nlogs: {folder}")
    if wait:
        _follow(sent)


class _Script(SlurmExecutor):
    """submitit's Slurm executor, which can also show its script without a Slurm."""

    @classmethod
    def affinity(cls) -> int:
        return 2

    def text(self, count: int) -> str:
        """The script that sbatch would be given for `count` jobs."""
        shown = _Script(self.folder)
        shown.parameters = {**self.parameters, **({"map_count": count} if count > 1 else {})}
        return shown._make_submission_file_text(shown._submitit_command_str, "dry_run")


def slurm_answers() -> bool:
    """Whether jobs can be submitted: Slurm's clients are installed and its controller answers."""
    if shutil.which("sbatch") is None or shutil.which("sinfo") is None:
        return False
    try:
        return subprocess.run(["sinfo", "--noheader"], capture_output=True, timeout=30).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _python_path() -> str:
    """PYTHONPATH of a job: dropquery's packages, and then the path of this process."""
    return os.pathsep.join(filter(None, [str(Path(DROPQUERY[1]).parent), os.environ.get("PYTHONPATH")]))


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Hide a surrounding job's environment variables, whose settings sbatch would apply to the new job."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(without_slurm(before), PYTHONPATH=_python_path())
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _follow(jobs: Sequence[Any]) -> None:
    states = [""] * len(jobs)
    while True:
        done = [job.done() for job in jobs]
        for i, job in enumerate(jobs):
            if job.state != states[i]:
                states[i] = job.state
                print(f"{job.job_id}: {states[i]}", flush=True)
        if all(done):
            break
        time.sleep(1)
    failed = [job for job in jobs if job.exception() is not None]
    if failed:
        raise ChildProcessError(
            f"{len(failed)} of {len(jobs)} jobs failed, {failed[0].job_id} first; its log is {failed[0].paths.stdout}"
        )
