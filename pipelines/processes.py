"""Child processes of the command line, which end with their parent, and their share of the machine."""

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

__all__ = ["DROPQUERY", "cores", "gpus", "share", "start_process", "stop_processes", "why_it_ended", "without_slurm"]

DROPQUERY = (sys.executable, str(Path(__file__).resolve().parent.parent / "cli.py"))
"""The command that starts this dropquery; cli.py lies beside the packages in a checkout and when installed."""

_SET_PDEATHSIG = 1
_GIB_EACH = 2


def cores() -> int:
    """Number of CPU cores that this process may use; a scheduler may have restricted them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """Names of the usable GPUs, as in CUDA_VISIBLE_DEVICES; does not initialise CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    import torch  # takes a second, and verbs without a network start processes too

    return [str(i) for i in range(torch.cuda.device_count())]


def share(jobs: int, at_once: int | None = None) -> tuple[int, int]:
    """Divide the machine among jobs.

    Args:
        jobs: Number of jobs.
        at_once: Most jobs side by side. Unless given: one per GPU; without a GPU one per core, because small networks
            gain more from that than from threads, but at most one per 2 GiB of memory.

    Returns:
        The number of jobs side by side, and the number of threads of each.

    Raises:
        ValueError: `at_once` is below 1.
    """
    if at_once is not None and at_once < 1:
        raise ValueError(f"at_once must be at least 1, got {at_once}")
    if at_once is None:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (_GIB_EACH * 2**30)
        at_once = len(gpus()) or min(cores(), max(1, memory))
    running = max(1, min(jobs, at_once))
    return running, max(1, cores() // running)


def without_slurm(environment: Mapping[str, str]) -> dict[str, str]:
    """Remove the variables by which Slurm and submitit describe the surrounding job.

    Otherwise a process that is no task of that job would behave like one, and sbatch would apply that job's settings to
    a new job.
    """
    return {k: v for k, v in environment.items() if not k.startswith(("SLURM_", "SUBMITIT_")) or k == "SLURM_CONF"}


def start_process(command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, so that it can be stopped together with its children.

    On Linux the kernel kills the process when this one ends for any reason. Elsewhere it continues, and its run
    directory stays locked until it ends. It ignores the warning signals that schedulers send to all processes of a job.

    Args:
        command: Program and arguments.
        environment: The process's environment variables.
        output: Binary file for standard output and errors.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    parent = os.getpid()

    def prepare() -> None:
        for warning in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(warning, signal.SIG_IGN)
        if libc is not None:
            libc.prctl(_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:  # the parent ended before the request
                os.kill(os.getpid(), signal.SIGKILL)

    return subprocess.Popen(
        list(command), env=dict(environment), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        start_new_session=True, preexec_fn=prepare,
    )  # fmt: skip


def stop_processes(processes: Sequence[subprocess.Popen[bytes]], patience: float = 10.0) -> None:
    """End processes and their children: first by SIGTERM, then by SIGKILL.

    Args:
        processes: Processes from `start_process`.
        patience: Seconds between the two signals at most.
    """
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while any(p.poll() is None for p in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in processes:
        _signal_group(process, signal.SIGKILL)
        process.wait()


def why_it_ended(log: Path, code: int) -> str:
    """Explain why a process ended: by its error message, a signal, or the last line of its log.

    Args:
        log: The file with its output.
        code: Its exit status; negative for the signal that killed it.
    """
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("(set DROPQUERY_TRACEBACK=1")]
    errors = [line.removeprefix("dropquery: error: ") for line in lines if line.startswith("dropquery: error: ")]
    return (errors or lines or ["it printed nothing"])[-1]


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
