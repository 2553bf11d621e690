"""The verb status: where a run stands, for whom it waits and what to type next, from its files alone."""

import csv
import fcntl
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet
import yaml

from records.files import read_json
from records.ledger import Ledger
from records.reviews import ReviewEvent, Reviews
from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory

__all__ = ["improvement", "status"]

_LAST = 2
_GAIN = 0.005
_SHOWN = 3
_TO_DO = {
    "assigned": "to draw",
    "annotated": "to be reviewed",
    "corrected": "to be reviewed",
    "rejected": "to correct",
}

Line = tuple[str, str]


def status(run_dir: Path) -> None:
    """Say where a run stands, for whom it waits, whether it still improves, and what to type next.

    Reads files alone: a run may be at work meanwhile. `dropquery status RUN_DIR` is enough.

    Args:
        run_dir: The directory of a fit; of a study or an ensemble it says how much is done. It may stand without
            --run_dir.

    Raises:
        ValueError: It is no such directory.
    """
    run, study = RunDirectory(run_dir), StudyDirectory(run_dir)
    if not run_dir.is_dir():
        raise ValueError(f"expected a run directory at {run_dir}, got no folder; check --run_dir")
    if study.states.is_file() or study.table.is_file() or study.jobs.is_dir():
        lines, steps = _study(study)
    elif run.members.is_dir():
        lines, steps = _ensemble(run)
    elif run.config.is_file() or run.queries.is_file() or run.ledger.is_file():
        found = _Run(run, _settings(run))
        lines, steps = found.lines(), found.steps()
    elif run.start_list.is_file():
        lines, steps = (
            [("state", f"not begun; {_listed(run)}")],
            [f"draw what {run.start_list} lists, then dropquery fit --config FILE, as for start"],
        )
    else:
        raise ValueError(
            f"expected a run directory at {run_dir}, got a folder without {run.config.name}, {run.queries.name} or "
            f"{run.ledger.name}; give the --run_dir of a fit, a query, a study or an ensemble"
        )
    width = max(len(name) for name, _ in lines)
    print("\n".join(f"{name:<{width}}  {said}" for name, said in lines))
    print("\n".join(["", "Next:", *(f"  {step}" for step in steps)]))


def improvement(scores: Sequence[float]) -> str:
    """Whether a curve still rises: the best of the last 2 cycles is at least 0.005 above the best of those before.

    Args:
        scores: Of the fitted cycles, oldest first; larger is better.

    Returns:
        A sentence with the numbers.
    """
    if len(scores) <= _LAST:
        return (
            f"too early to tell: {len(scores)} fitted cycles, and the rule compares the last {_LAST} with those before"
        )
    gain = max(scores[-_LAST:]) - max(scores[:-_LAST])
    rule = f"best of the last {_LAST} cycles against the best before: {gain:+.4f}"
    return f"{'yes' if gain >= _GAIN else 'no'}, {rule} ({_GAIN} counts as improvement)"


@dataclass
class _Run:
    """What the files of one run say."""

    run: RunDirectory
    settings: Mapping[str, Any]
    cycle: int = 0
    labelled: list[str] = field(default_factory=list)
    usable: int = 0
    rejected: list[str] = field(default_factory=list)
    queried: int = 0
    waiting: list[str] = field(default_factory=list)
    drawings: list[ReviewEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.run.ledger.is_file():
            with closing(Ledger(self.run.ledger)) as ledger:
                self.cycle, self.labelled = ledger.cycle, ledger.labelled()
                self.usable, rejected = len(ledger.training()), ledger.rejected()
                self.queried, self.waiting = len(ledger.queried(self.cycle)), ledger.waiting(self.cycle)
            with closing(Reviews(self.run.ledger)) as reviews:
                self.drawings = reviews.latest()
            self.rejected = sorted(rejected & {*self.labelled, *self.waiting})
        self.rows = self.run.metrics()
        self.wanted = int(self.settings.get("cycles") or 1)
        self.busy = _is_locked(self.run.lock)
        oracle = (self.settings.get("data") or {}).get("oracle") or {}
        self.oracle = str(oracle.get("class_path", "")).rpartition(".")[2]
        self.answers = {k: v for k, v in (oracle.get("init_args") or {}).items() if k in ("folder", "path")}

    def lines(self) -> list[Line]:
        """The report."""
        return [
            ("state", self._state()),
            ("cycle", f"{self.cycle} is open; {len(self.rows)} of {self.wanted} fits are done"),
            ("labelled", f"{self.usable} units to train on{self._left_out()}"),
            ("pool", self._pool()),
            *self._waits(),
            *self._scores(),
        ]

    def steps(self) -> list[str]:
        """What to type next."""
        run = self.run
        fit = f"dropquery fit --config {shlex.quote(str(run.config))} --run_dir {shlex.quote(str(run.path))}"
        if not run.config.is_file():
            fit = "dropquery fit --config YAML" + f" --run_dir {shlex.quote(str(run.path))}"
        if self.busy:
            return ["nothing: it is at work; dropquery status again"]
        steps = []
        if self.rejected:
            steps.append(
                f"correct what was rejected, then dropquery review --run_dir {run.path} --events EVENTS.csv (state "
                "corrected)"
            )
        if not self.labelled and not self.rows:
            steps.append(f"{fit.replace(' fit ', ' start ', 1)}   (what to draw first)")
        if self.waiting and len(self._drawn()) < len(self.waiting):
            steps.append(f"{self._where()}, for each of {run.cycle(self.cycle).queried}")
        elif self._is_over():
            steps.append(f"dropquery report {shlex.quote(str(run.path))}")
            if not self._is_empty():
                more = " --stop null" if run.stopped.is_file() else f" --cycles {self.wanted + 1}"
                steps.append(f"{fit}{more}   (to go on)")
            return steps
        return [*steps, fit]

    def _state(self) -> str:
        run, last = self.run, self.run.cycle(self.cycle)
        if self.busy:
            return f"at work, in another process{_progress(run)}"
        if run.stopped.is_file():
            content = read_json(run.stopped, "delete it", cycle=int, criterion=str, reason=str)
            return f"stopped after cycle {content['cycle']} by {content['criterion']}: {content['reason']}"
        if self.waiting:
            return "waits for people"
        if self._is_empty():
            return "finished: every unit is labelled"
        if self._is_over():
            return "finished"
        if last.last.is_file() and not last.is_fitted:
            return f"interrupted in the fit of cycle {self.cycle}{_progress(run)}"
        if last.is_fitted and not self.queried:
            return f"interrupted: cycle {self.cycle} is fitted and not queried"
        if not self.labelled:
            listed = f"; {_listed(run)}" if run.start_list.is_file() else ""
            return ("nothing is labelled yet" if run.config.is_file() else "only queried, never fitted") + listed
        if not run.config.is_file():
            return "only queried, never fitted"
        return f"ready for the fit of cycle {self.cycle}"

    def _is_over(self) -> bool:
        done = self.run.stopped.is_file() or len(self.rows) >= self.wanted or self._is_empty()
        return not self.waiting and done

    def _is_empty(self) -> bool:
        """Whether the open cycle is fitted and nothing is left to query."""
        fitted = self.run.cycle(self.cycle).is_fitted
        return fitted and not self._candidates and not self.waiting and self._left == 0

    def _left_out(self) -> str:
        labelled = [u for u in self.rejected if u in set(self.labelled)]
        if not labelled:
            return ""
        return f"; {len(labelled)} rejected in review and left out until corrected: {_some(labelled)}"

    def _pool(self) -> str:
        left = self._left
        if left is None:
            return "not known before the first query"
        among = f" of the {self._candidates} candidates of the last query" if self._candidates else ""
        asked = f", of which {len(self.waiting)} are queried" if self.waiting else ""
        return f"{left} units{among} are not labelled{asked}"

    @cached_property
    def _left(self) -> int | None:
        """How many units of those that the last query scored are not labelled; None before the first query."""
        scored = [cycle for cycle in self.run.cycles() if cycle.scores.is_file()]
        if not scored:
            return None
        names = pyarrow.parquet.read_table(scored[-1].scores, columns=["unit_id"]).column("unit_id").to_pylist()
        return len(set(names) - set(self.labelled))

    @property
    def _candidates(self) -> int | None:
        return (self.settings.get("strategy") or {}).get("candidates")

    def _waits(self) -> Iterator[Line]:
        if not self.queried:
            return
        cycle, waiting = self.cycle, set(self.waiting)
        yield "queried", f"{self.queried} in cycle {cycle}: {self.queried - len(waiting)} labelled, {len(waiting)} wait"
        if not waiting:
            return
        yield "waiting", f"{_some(self.waiting)}; {len(self._drawn())} have a drawing{self._place()}"
        of = [drawing for drawing in self.drawings if drawing.unit_id in waiting]
        counts = Counter((d.annotator, _TO_DO[d.state]) for d in of if d.state in _TO_DO)
        for (annotator, what), number in sorted(counts.items()):
            yield "", f"{annotator}: {number} {what}"
        if nobody := waiting - {d.unit_id for d in of}:
            yield "", f"{len(nobody)} assigned to nobody (dropquery assign)" if self.drawings else "assigned to nobody"

    def _scores(self) -> Iterator[Line]:
        if not self.rows:
            return
        row = self.rows[-1]
        monitor = str(row.get("monitor", ""))
        values = [float(r[monitor]) for r in self.rows if monitor in r]
        if not values:
            return
        curve = ", ".join(f"{value:.4f}" for value in values[-5:])
        yield "score", f"{monitor} {curve} (cycle {row['cycle']}, {row['labelled_units']} units)"
        yield "improves", improvement(values)

    def _drawn(self) -> list[str]:
        """The waiting units that have a file or a row: whether it is complete, the fit finds out."""
        rejected, answered = set(self.rejected), self._answered()
        return [u for u in self.waiting if u not in rejected and u in answered]

    def _answered(self) -> set[str]:
        if "folder" in self.answers:
            folder = Path(self.answers["folder"])
            return {u for u in self.waiting if (folder / f"{u.partition('#')[0]}.png").is_file()}
        if "path" in self.answers and (path := Path(self.answers["path"])).is_file():
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = list(csv.DictReader(file))
            return {str(r.get("unit_id")).removeprefix("'") for r in rows if (r.get("label") or "").strip()}
        return set()

    def _place(self) -> str:
        return "".join(f" in {place}" for place in self.answers.values())

    def _where(self) -> str:
        if "folder" in self.answers:
            return f"draw masks as {self.answers['folder']}/IMAGE_ID.png"
        if "path" in self.answers:
            return f"write classes into {self.answers['path']} (columns unit_id and label)"
        return f"let {self.oracle or 'data.oracle'} answer"


def _study(study: StudyDirectory) -> tuple[list[Line], list[str]]:
    runs = study.runs()
    lines = [("study", f"{len(runs)} runs have a fitted cycle{', at work' if _is_locked(study.lock) else ''}")]
    if study.states.is_file():
        with study.states.open(newline="") as file:
            states = Counter(row["state"] for row in csv.DictReader(file))
        lines.append(("jobs", ", ".join(f"{number} {state}" for state, number in states.items())))
    waiting = [run for run in runs if run.ledger.is_file() and _waiting(run)]
    lines += (
        [("waiting", f"{len(waiting)} runs wait for people: {_some([str(r.path) for r in waiting])}")]
        if waiting
        else []
    )
    where = shlex.quote(str(study.path))
    again = f"dropquery study --config {shlex.quote(str(study.config))} --run_dir {where}   (does what is missing)"
    return lines, [again, f"dropquery report {where}"]


def _ensemble(run: RunDirectory) -> tuple[list[Line], list[str]]:
    folders = [path for path in run.members.glob("*/*") if path.is_dir() and path.parent != run.member_logs]
    done = [path for path in folders if RunDirectory(path).cycle(0).is_fitted]
    busy = ", at work" if _is_locked(run.lock) else ""
    lines = [("ensemble", f"{len(done)} of {len(folders)} members that were begun are fitted{busy}")]
    if run.images.is_file():
        lines.append(("compared", f"{run.images} says what they predict"))
    config = f"--config {shlex.quote(str(run.config))} --run_dir {shlex.quote(str(run.path))}"
    return lines, [f"dropquery ensemble {config}   (does what is missing)", f"dropquery difficulty {config}"]


def _waiting(run: RunDirectory) -> bool:
    with closing(Ledger(run.ledger)) as ledger:
        return bool(ledger.waiting(ledger.cycle))


def _settings(run: RunDirectory) -> Mapping[str, Any]:
    path = run.config if run.config.is_file() else run.queries
    if not path.is_file():
        return {}
    try:
        content = yaml.load(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not readable YAML; restore its earlier content") from error
    return content if isinstance(content, dict) else {}


def _is_locked(lock: Path) -> bool:
    """Whether a live process works there; asked by a shared lock, which is given back at once."""
    if not lock.is_file():
        return False
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _progress(run: RunDirectory) -> str:
    try:
        said = json.loads(run.progress.read_text())
        of = f" of {said['steps']}" if said.get("steps") else ""
        return f": cycle {said['cycle']}, step {said['step']}{of}"
    except (OSError, ValueError, KeyError, AttributeError):
        return ""


def _listed(run: RunDirectory) -> str:
    with run.start_list.open(encoding="utf-8", newline="") as file:
        counts = Counter(row.get("split") for row in csv.DictReader(file))
    return f"{run.start_list} lists {counts['train']} to draw for training, {counts['val']} for validation"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f", ... ({len(names)})" if len(names) > _SHOWN else "")
