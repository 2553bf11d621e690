"""The display of running jobs: progress bars on a terminal, occasional lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from tqdm import tqdm

if TYPE_CHECKING:
    from callbacks.progress import Progress

__all__ = ["JobsView"]


class JobsView:
    """Shows the progress of jobs: on a terminal a bar for all of them and one per running job, else lines of text.

    Args:
        total: Number of jobs.
        slots: Number of jobs that run side by side; each running job has a slot, from 0.
        stream: Where to write; standard error unless given.
        every: Seconds between two lines of text.
    """

    def __init__(self, total: int, slots: int, stream: TextIO | None = None, every: float = 30.0) -> None:
        self.total = total
        self.stream = stream or sys.stderr
        self.every = every
        self._counts: Mapping[str, int] = {}
        self._names: dict[int, str] = {}
        self._rates: dict[int, _Rate] = {}
        self._said = time.monotonic()
        self._bars: list[tqdm] = []
        if self.stream.isatty():
            self._bars = [tqdm(total=total, desc="jobs", position=0, file=self.stream, unit="job")]
            self._bars += [tqdm(position=i + 1, file=self.stream, leave=False, unit="step") for i in range(slots)]

    def __enter__(self) -> "JobsView":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for bar in reversed(self._bars):
            bar.close()

    def counts(self, counts: Mapping[str, int]) -> None:
        """Update the number of jobs by state (finished, skipped, failed)."""
        self._counts = counts
        if self._bars:
            self._bars[0].n = sum(counts.values())
            self._bars[0].set_postfix({k: v for k, v in counts.items() if k != "finished"}, refresh=False)
            self._bars[0].refresh()
        elif time.monotonic() - self._said >= self.every:
            self._said = time.monotonic()
            running = "; ".join(f"{name} {self._rates[slot]}" for slot, name in sorted(self._names.items()))
            states = ", ".join(f"{counts[s]} {s}" for s in sorted(counts))
            self.say(f"{sum(counts.values())} of {self.total} jobs done{f' ({states})' if states else ''}; {running}")

    def start(self, slot: int, name: str) -> None:
        """Show that the job of this name begins in a slot."""
        self._names[slot] = name
        self._rates[slot] = _Rate()
        if self._bars:
            self._bars[slot + 1].reset()
            self._bars[slot + 1].set_description(name)

    def step(self, slot: int, progress: "Progress | None") -> None:
        """Update the progress of the job in a slot; None if it has not reported any."""
        before = self._rates[slot].progress
        if progress is None or progress == before:
            return
        again = before is None or progress.cycle != before.cycle
        self._rates[slot].note(progress)
        if self._bars:
            bar = self._bars[slot + 1]
            if again:  # steps of an earlier process do not count towards the speed
                bar.reset(progress.steps)
                bar.initial = progress.step
            bar.n = progress.step
            bar.set_description(f"{self._names[slot]} {progress.cycle + 1}/{progress.cycles}")

    def end(self, slot: int) -> None:
        """Show that the job in a slot has ended."""
        del self._names[slot], self._rates[slot]
        if self._bars:
            self._bars[slot + 1].reset()
            self._bars[slot + 1].set_description("")

    def say(self, line: str) -> None:
        """Write a line that stays visible above the bars."""
        tqdm.write(line, file=self.stream)
        self.stream.flush()


class _Rate:
    """Steps per second, since the first progress report of the job's current cycle."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self._first = (0.0, 0)

    def note(self, progress: "Progress") -> None:
        if self.progress is None or progress.cycle != self.progress.cycle:
            self._first = (time.monotonic(), progress.step)
        self.progress = progress

    def __str__(self) -> str:
        if self.progress is None:
            return "begins"
        seconds, steps = time.monotonic() - self._first[0], self.progress.step - self._first[1]
        return (
            f"cycle {self.progress.cycle + 1}/{self.progress.cycles}, step {self.progress.step}/"
            f"{self.progress.steps or '?'}" + (f" ({steps / seconds:.1f}/s)" if steps > 0 and seconds > 0 else "")
        )
