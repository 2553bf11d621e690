"""What runs inside a scheduler's job: one command of dropquery, stopped and queued again when its time is up."""

import os
import signal
import sys
import time
from types import FrameType

from submitit.helpers import DelayedSubmission

from pipelines.processes import DROPQUERY, start_process, stop_processes

__all__ = ["Task"]

_UNTIL_KILLED = 600.0


class Task:
    """One command of dropquery as submitit's jobs want it: called, and asked for what to call when queued again.

    The command is a process of its own, as everywhere else. Its trainer never sees the scheduler's warning, so it
    is not Lightning that queues the job again: it would write a checkpoint between two batches, which cannot be gone
    on from exactly. The same command is started again and goes on from the last checkpoint of its cycle.
    """

    def __init__(self, arguments: list[str], requeue: bool = True) -> None:
        self.arguments = arguments
        self.requeue = requeue
        self._ending = False

    def __call__(self) -> None:
        """Run the command; ends with an exception where it failed or is to be queued again."""
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", environment.get("SLURM_CPUS_PER_TASK", str(os.cpu_count())))
        # submitit queues again on USR2; users and clusters that know Lightning send USR1
        warned = signal.getsignal(signal.SIGUSR2)
        if self.requeue:
            signal.signal(signal.SIGUSR1, warned)
        else:
            signal.signal(signal.SIGUSR2, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, self._end)
        process = start_process([*DROPQUERY, *self.arguments], environment, sys.stdout.buffer)
        try:
            code = process.wait()
        finally:
            stop_processes([process], patience=0)
        if self._ending and "SLURM_JOB_ID" in os.environ:
            # Slurm queues again what it had to kill when pre-empting, but not what ended by itself
            time.sleep(_UNTIL_KILLED)
        if code:
            raise ChildProcessError(f"dropquery {self.arguments[0]} ended with status {code}; see the log")

    def checkpoint(self) -> DelayedSubmission:
        """The same again."""
        return DelayedSubmission(Task(self.arguments, self.requeue))

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        if "SLURM_JOB_ID" not in os.environ:
            raise SystemExit(128 + number)
