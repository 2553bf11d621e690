"""Processes of our own command line that end with their parent, and what each may use of the machine."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import torch

__all__ = ["DROPQUERY", "cores", "gpus", "last_words", "share", "start_process", "stop_processes", "without_slurm"]

DROPQUERY = (sys.executable, str(Path(__file__).resolve().parent.parent / "cli.py"))
"""How this dropquery is started: cli.py stands beside the rooms, in a checkout as in an installation."""

_SET_PDEATHSIG = 1
_GIB_EACH = 2


def cores() -> int:
    """CPU cores that this process may use, which a scheduler can have made fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The names of the usable GPUs as CUDA_VISIBLE_DEVICES takes them; asks without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    return [str(i) for i in range(torch.cuda.device_count())]


def share(jobs: int, at_once: int | None = None) -> tuple[int, int]:
    """How many of `jobs` run side by side, and how many threads each gets.

    Without `at_once`: one per GPU; on a machine without, one per core, because small networks gain more from that
    than from threads, but no more than one for every 2 GiB of memory. The cores are divided among those that run.
    """
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1, got {at_once}")
    if at_once is None:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (_GIB_EACH * 2**30)
        at_once = len(gpus()) or min(cores(), max(1, memory))
    running = max(1, min(jobs, at_once))
    return running, max(1, cores() // running)


def without_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what Slurm and submitit say of the job around it.

    A process that is not a task of that job must not take itself for one, and sbatch would take the outer job's
    settings for the new one's.
    """
    return {k: v for k, v in environment.items() if not k.startswith(("SLURM_", "SUBMITIT_")) or k == "SLURM_CONF"}


def start_process(command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that it can be stopped with all that it starts.

    On Linux the kernel kills it when this process ends, however it ends. Elsewhere it lives on, and its run directory
    stays locked until it is done. Warning signals for the parent, which a scheduler sends to children as well, do not
    touch it.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        for warning in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(warning, signal.SIG_IGN)
        if libc is not None:
            libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # it ended before we asked to be told
                os.kill(os.getpid(), signal.SIGKILL)

    return subprocess.Popen(
        list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=prepare,
    )  # fmt: skip


def stop_processes(processes: Sequence[subprocess.Popen[bytes]], patience: float = 10.0) -> None:
    """End processes and all that they started: asked first, killed after `patience` seconds."""
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while any(p.poll() is None for p in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def last_words(log: Path, code: int) -> str:
    """Why a process with exit status `code` ended, in a sentence: our own error, a signal, or its log's last line."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("(set DROPQUERY_TRACEBACK=1")]
    errors = [line.removeprefix("dropquery: error: ") for line in lines if line.startswith("dropquery: error: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
