"""A study: many runs, paired by seed, stacked in few processes or one by one, and one table at the end."""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from pytorch_lightning.utilities import rank_zero_info
from tqdm import tqdm

from callbacks.progress import Progress
from lightning_modules.classification import ClassificationModule
from pipelines.cycles import Experiment
from pipelines.grid import StudyGrid, StudyRun, run_settings, runs_of
from pipelines.jobs import Job, run_jobs
from pipelines.processes import share
from pipelines.run_access import check_settings
from pipelines.stacked import StackedRun, run_stack, why_not_stacked
from records.files import replacing, write_json
from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory

__all__ = ["PlannedRun", "Planner", "gather", "plan", "run_part", "run_study", "study_jobs"]


@dataclass(frozen=True)
class PlannedRun:
    """A run with its folder, its settings, and the stack it belongs to (runs that differ in seed and strategy only)."""

    run: StudyRun
    run_dir: Path
    settings: dict[str, Any]
    stack: str

    @property
    def cycles(self) -> int:
        """How many, the first included."""
        return int(self.settings["cycles"])

    @property
    def last(self) -> Path:
        """The scores of its last cycle."""
        return RunDirectory(self.run_dir).cycle(self.cycles - 1).metrics

    @property
    def is_done(self) -> bool:
        """Whether its last cycle has its scores."""
        return self.last.is_file()


@dataclass(frozen=True)
class Planner:
    """What the command line knows about settings.

    Args:
        complete: Settings as a dict to the same with every default, as YAML.
        parts: From those, a cycle's number, and whether it is the last, to what a fit of that cycle begins with.
        may_change: Settings that may differ from those with which a run was begun.
    """

    complete: Callable[[dict[str, Any]], str]
    parts: Callable[[dict[str, Any], int, bool], Experiment]
    may_change: tuple[str, ...] = ()


def plan(settings: dict[str, Any], grid: StudyGrid, root: Path) -> list[PlannedRun]:
    """All runs of a study."""
    planned = []
    for run in runs_of(grid):
        own = run_settings(settings, grid, run, root)
        common = {k: v for k, v in own.items() if k not in ("seed_everything", "run_dir", "strategy")}
        planned.append(PlannedRun(run, root / run.folder, own, json.dumps(common, sort_keys=True, default=str)))
    folders = [str(p.run_dir) for p in planned]
    if len(set(folders)) < len(folders):
        again = next(f for f in folders if folders.count(f) > 1)
        raise ValueError(f"two runs of the study have one folder, {again}; give grid.vary values with other names")
    return planned


def run_study(settings: dict[str, Any], grid: StudyGrid, root: Path, planner: Planner) -> list[str]:
    """Do what is missing of a study and gather study.csv and jobs.csv; a run that fails costs the others nothing.

    Returns the names of those that failed.
    """
    planned = _checked(plan(settings, grid, root), planner)
    seeds = len(grid.seed_list)
    rank_zero_info(
        f"Study: {len(planned)} runs ({len(grid.strategies)} strategies, {seeds} seed{'s' if seeds > 1 else ''})"
        + ("; one seed gives no intervals, set grid.seeds to 4 or more for them" if seeds == 1 else "")
    )
    stacked, single = _divided(planned, grid, planner)
    failed: dict[Path, str] = {}
    if any(not p.is_done for p in stacked):
        failed |= _run_stacked(stacked, grid, root, planner)
    if jobs := _single_jobs(single, root, planner):
        outcomes = run_jobs(jobs, StudyDirectory(root).jobs, grid.at_once, grid.retries)
        failed |= {o.job.run_dir: o.reason for o in outcomes if o.state == "failed"}
    rows = [_state(p, failed.get(p.run_dir, "")) for p in planned]
    with replacing(StudyDirectory(root).states) as beside:
        pd.DataFrame(rows).to_csv(beside, index=False)
    lost = {row["name"]: row["reason"] for row in rows if row["state"] == "failed"}
    for name, reason in lost.items():
        rank_zero_info(f"{name} failed: {reason}")
    # last, because it refuses a study of which nothing is done
    gather(planned, root)
    return list(lost)


def study_jobs(settings: dict[str, Any], grid: StudyGrid, root: Path, planner: Planner) -> list[Job]:
    """What is missing of a study as independent jobs: parts of the stacked runs, and a fit for each of the others.

    The parts read their settings from root/config.yaml; their number is grid.at_once, or what makes sense on a machine
    like this.
    """
    stacked, single = _divided(_checked(plan(settings, grid, root), planner), grid, planner)
    parts, _ = share(len(stacked), grid.at_once)
    return _part_jobs(stacked, parts, root) + _single_jobs(single, root, planner)


def run_part(settings: dict[str, Any], grid: StudyGrid, root: Path, planner: Planner) -> None:
    """Do one of several parts of a study's stacked runs; PART/done.json, written last, names those that failed."""
    assert grid.part is not None
    number, parts = map(int, grid.part.split("/"))
    if number >= parts:
        raise ValueError(f"grid.part counts from 0: expected 0/{parts} to {parts - 1}/{parts}, got {grid.part}")
    part = StudyDirectory(root).part(number, parts)
    stacked, _ = _divided(plan(settings, grid, root), grid, planner)
    failed = _run_here(_missing(stacked[number::parts]), grid, planner, _progress_file(part.progress))
    write_json(part.done, {str(run_dir): error for run_dir, error in failed.items()})


def gather(planned: Sequence[PlannedRun], root: Path) -> pd.DataFrame:
    """Write study.csv: a row per run and cycle, with the varied settings, strategy, seed and the cycle's scores."""
    rows = []
    for p in planned:
        who = {"variant": p.run.variant, **dict(p.run.values), "strategy": p.run.strategy, "seed": p.run.seed}
        rows += [who | row for row in RunDirectory(p.run_dir).metrics()]
    if not rows:
        raise ValueError(f"no run below {root} has finished a cycle; its jobs.csv and jobs/*.log say why")
    table = pd.DataFrame(rows)
    with replacing(StudyDirectory(root).table) as beside:
        table.to_csv(beside, index=False)
    return table


def _checked(planned: list[PlannedRun], planner: Planner) -> list[PlannedRun]:
    """The runs, none of which has left anything with other settings: what is done would count under a wrong name."""
    for p in planned:
        if p.run_dir.is_dir():
            check_settings(p.run_dir, planner.complete(p.settings), planner.may_change)
    return planned


def _divided(
    planned: Sequence[PlannedRun], grid: StudyGrid, planner: Planner
) -> tuple[list[PlannedRun], list[PlannedRun]]:
    """Runs to be stacked, those of one stack together, and runs to be done one by one."""
    if grid.stacked is False:
        return [], list(planned)
    stacked: list[PlannedRun] = []
    single: list[PlannedRun] = []
    for stack in dict.fromkeys(p.stack for p in planned):
        runs = [p for p in planned if p.stack == stack]
        complete = yaml.safe_load(planner.complete(runs[0].settings))
        parts = planner.parts(runs[0].settings, 0, True)
        why_not = why_not_stacked(complete, parts)
        if why_not and grid.stacked:
            raise ValueError(f"{why_not}, or grid.stacked to false")
        (single if why_not else stacked).extend(runs)
        # nobody can change that a segmentation is none of those that could be stacked
        if why_not and isinstance(parts.module, ClassificationModule):
            rank_zero_info(f"One fit after another: {why_not}.")
    return stacked, single


def _run_stacked(planned: Sequence[PlannedRun], grid: StudyGrid, root: Path, planner: Planner) -> dict[Path, str]:
    parts, _ = share(len(planned), grid.at_once)
    if parts == 1:
        with tqdm(
            total=planned[0].cycles, desc="cycles of all runs", bar_format="{l_bar}{bar}| {elapsed}<{remaining}",
            leave=False, disable=None,
        ) as bar:  # fmt: skip
            return _run_here(_missing(planned), grid, planner, _bar_progress(bar))
    failed: dict[Path, str] = {}
    for outcome in run_jobs(_part_jobs(planned, parts, root), StudyDirectory(root).jobs, parts, grid.retries):
        if outcome.state == "failed":
            number = int(outcome.job.arguments[-1].partition("/")[0])
            failed |= {p.run_dir: outcome.reason for p in _missing(planned[number::parts])}
        else:
            done = json.loads(outcome.job.finished.read_text())
            failed |= {Path(run_dir): error for run_dir, error in done.items()}
    return failed


def _part_jobs(planned: Sequence[PlannedRun], parts: int, root: Path) -> list[Job]:
    """A job for each part of the stacked runs that has something to do; what it once said of itself is forgotten."""
    jobs, study = [], StudyDirectory(root)
    for number in range(parts):
        if _missing(planned[number::parts]):
            part = study.part(number, parts)
            part.done.unlink(missing_ok=True)
            arguments = ("study", "--config", str(study.config), "--grid.part", f"{number}/{parts}")
            jobs.append(Job(part.path.name, arguments, part.path, part.done))
    return jobs


def _run_here(
    planned: Sequence[PlannedRun], grid: StudyGrid, planner: Planner, progress: Callable[[Progress], None]
) -> dict[Path, str]:
    failed: dict[Path, str] = {}
    for stack in dict.fromkeys(p.stack for p in planned):
        runs = [p for p in planned if p.stack == stack]
        stacked = [_stacked_run(p, planner) for p in runs]
        epochs = yaml.safe_load(stacked[0].config)["trainer"]["max_epochs"]
        run_stack(stacked, runs[0].cycles, epochs, planner.may_change, grid.keep_scores, progress)
        failed |= {run.run_dir: run.error for run in stacked if run.error}
    return failed


def _stacked_run(planned: PlannedRun, planner: Planner) -> StackedRun:
    return StackedRun(
        planned.run_dir,
        lambda cycle, last: planner.parts(planned.settings, cycle, last),
        name=str(planned.run_dir),
        seed=planned.run.seed,
        config=planner.complete(planned.settings),
    )


def _single_jobs(planned: Sequence[PlannedRun], root: Path, planner: Planner) -> list[Job]:
    jobs = []
    for p in _missing(planned):
        # commas and brackets may stand in folders' names, not in jobs'
        name = re.sub(r"[^\w.=+-]", "_", "_".join(p.run.folder.parts[1:]))
        config = StudyDirectory(root).job_config(name)
        with replacing(config) as beside:
            beside.write_text(planner.complete(p.settings))
        jobs.append(Job(name, ("fit", "--config", str(config)), p.run_dir, p.last))
    return jobs


def _missing(planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [p for p in planned if not p.is_done]


def _state(planned: PlannedRun, reason: str) -> dict[str, Any]:
    state = "failed" if reason else "finished" if planned.is_done else "stopped"
    stopped = RunDirectory(planned.run_dir).stopped
    if state == "stopped" and stopped.is_file():
        said = json.loads(stopped.read_text())
        reason = f"{said['criterion']}: {said['reason']}"
    return {"name": "/".join(planned.run.folder.parts[1:]), "state": state, "reason": reason}


def _progress_file(path: Path, every: float = 2.0) -> Callable[[Progress], None]:
    """How far the part is, where `pipelines.jobs` looks for it."""
    written = -every

    def write(progress: Progress) -> None:
        nonlocal written
        if time.monotonic() - written >= every:
            written = time.monotonic()
            write_json(path, asdict(progress))

    return write


def _bar_progress(bar: tqdm) -> Callable[[Progress], None]:
    def show(progress: Progress) -> None:
        bar.update(round(progress.cycle + progress.step / (progress.steps or 1), 3) - bar.n)

    return show
