"""What a study consists of: strategies x seeds x values of any settings, each of them one run."""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["StudyGrid", "StudyRun", "run_settings", "runs_of"]


@dataclass
class StudyGrid:
    """The runs of a study, and how they are done.

    Args:
        strategies: Name of each strategy to what it changes in `strategy`, and under the key `data` in `data`: what
            else a unit is, who answers, and which set is the first (partition, oracle, initial).
        seeds: A list, or how many, counted from 0.
        vary: Dotted name of a setting to the values that it takes; several settings are crossed.
        stacked: Train networks of one architecture together, in few processes, instead of one process per run; None for
            wherever the data and the network allow it.
        at_once: Processes that work at the same time; as many as the machine has cores (or GPUs) unless given.
        retries: Of a process that failed.
        keep_scores: Write every cycle's scores.parquet in stacked runs.
        part: Do only the i-th of n parts ("i/n", from 0) of the stacked runs, without a report.
    """

    strategies: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: int | list[int] = 1
    vary: dict[str, list[Any]] = field(default_factory=dict)
    stacked: bool | None = None
    at_once: int | None = None
    retries: int = 1
    keep_scores: bool = False
    part: str | None = None

    def __post_init__(self) -> None:
        if (isinstance(self.seeds, int) and self.seeds < 1) or self.seeds == []:
            raise ValueError(f"a study needs at least one seed, got {self.seeds}; set grid.seeds")
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"grid.at_once must be at least 1 process, got {self.at_once}")
        if self.retries < 0:
            raise ValueError(f"grid.retries must be 0 or more, got {self.retries}")
        if self.part is not None and not re.fullmatch(r"\d+/[1-9]\d*", self.part):
            raise ValueError(f"grid.part must look like 0/2, the first of two parts, got {self.part!r}")
        for key, values in self.vary.items():
            if not isinstance(values, list) or not values:
                raise ValueError(f"grid.vary needs a list of values for each setting, got {values!r} for {key}")
        for name in self.strategies:
            if not re.fullmatch(r"[\w.=()+-]+", name):
                raise ValueError(f"names of strategies become folders: letters, digits and _.=()+- only, got {name!r}")

    @property
    def seed_list(self) -> list[int]:
        """The seeds, each once."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(dict.fromkeys(self.seeds))


@dataclass(frozen=True)
class StudyRun:
    """One run of a study; `variant` names the values of the varied settings and is "" where there are none."""

    variant: str
    values: tuple[tuple[str, Any], ...]
    strategy: str
    seed: int

    @property
    def folder(self) -> Path:
        """Where it stands below the study's run directory."""
        return Path("runs") / (self.variant or "base") / self.strategy / f"seed-{self.seed}"


def runs_of(grid: StudyGrid) -> Iterator[StudyRun]:
    """All runs, seeds innermost, so that the first ones done can be compared."""
    if not grid.strategies:
        raise ValueError("a study needs strategies, got none; set grid.strategies to {NAME: {acquisition: ...}, ...}")
    for values in itertools.product(*grid.vary.values()):
        pairs = tuple(zip(grid.vary, values, strict=True))
        name = ",".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in pairs)
        for strategy in grid.strategies:
            for seed in grid.seed_list:
                yield StudyRun(name, pairs, strategy, seed)


def run_settings(study: dict[str, Any], grid: StudyGrid, run: StudyRun, root: Path) -> dict[str, Any]:
    """The settings of an ordinary fit that is this run.

    A strategy replaces whole entries of `strategy` (acquisition, selection, budget ...), and of `data`. Keys
    of `vary` may leave out init_args, as on the command line.

    Args:
        study: The study's settings.
        grid: What varies.
        run: One of its runs.
        root: The study's run directory.
    """
    settings = copy.deepcopy({key: value for key, value in study.items() if key != "grid"})
    settings |= {"seed_everything": run.seed, "run_dir": str(root / run.folder)}
    changes = copy.deepcopy(grid.strategies[run.strategy])
    if data := changes.pop("data", None):
        settings["data"] = {**settings.get("data", {}), **data}
    settings["strategy"] = {**settings.get("strategy", {}), **changes}
    for key, value in run.values:
        _put(settings, key, value)
    return settings


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    place = settings
    *parents, last = key.split(".")
    for name in parents:
        place = _inside(place, name)
        if not isinstance(place.get(name), dict):
            raise ValueError(f"grid.vary names {key!r}, but the settings have nothing at {name!r} to change")
        place = place[name]
    _inside(place, last)[last] = copy.deepcopy(value)


def _inside(place: dict[str, Any], name: str) -> dict[str, Any]:
    """The init_args of a class where they are meant."""
    arguments = place.get("init_args")
    return arguments if name not in place and isinstance(arguments, dict) else place


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        listed = ",".join(f"{name}={_short(given)}" for name, given in (value.get("init_args") or {}).items())
        return _short(value["class_path"]) + (f"({listed})" if listed else "")
    text = str(value)
    if re.fullmatch(r"[A-Za-z_][\w.]*\.[A-Za-z_]\w*", text):
        text = text.rpartition(".")[2]
    return re.sub(r"[^\w.+-]+", "_", text).strip("_")
