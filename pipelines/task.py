"""The content of a scheduler's job: one command of dropquery, queued again when its time is up."""

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
    """One command of dropquery as a job of submitit, which calls it and asks for a `checkpoint` to queue again.

    The command runs as a child process that ignores the scheduler's warning signals. Otherwise Lightning would write a
    checkpoint between two batches, from which a fit cannot continue exactly. The same command is started again instead
    and continues from the last checkpoint of its cycle.

    Args:
        arguments: The words that follow dropquery.
        requeue: Whether an interrupted job is queued again.
    """

    def __init__(self, arguments: list[str], requeue: bool = True) -> None:
        self.arguments = arguments
        self.requeue = requeue
        self._ending = False

    def __call__(self) -> None:
        """Run the command.

        Raises:
            ChildProcessError: The command failed.
        """
        environment = dict(os.environ)
        environment.setdefault("OMP_NUM_THREADS", environment.get("SLURM_CPUS_PER_TASK", str(os.cpu_count())))
        # submitit queues again on USR2; clusters that are set up for Lightning send USR1
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
            # a pre-empted job is queued again only if Slurm had to kill it, so wait for that
            time.sleep(_UNTIL_KILLED)
        if code:
            raise ChildProcessError(f"dropquery {self.arguments[0]} ended with status {code}; see the log")

    def checkpoint(self) -> DelayedSubmission:
        """Return the same task, to be queued again."""
        return DelayedSubmission(Task(self.arguments, self.requeue))

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        if "SLURM_JOB_ID" not in os.environ:
            raise SystemExit(128 + number)
