"""What a study consists of: strategies x seeds x values of any settings, each of them one run."""

import copy
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["StudyGrid", "StudyRun", "run_settings", "runs_of"]

_VARIANTS = "grid.variants"
"""Stands among the varied settings for those that a variant changes."""


@dataclass
class StudyGrid:
    """The runs of a study, and how they are done.

    Args:
        strategies: Name of each strategy to what it changes in `strategy`, and under the key `data` in `data`: what
            else a unit is, who answers, and which set is the first (partition, oracle, initial). A key with a dot is
            the full name of any other setting, such as model.loss; {seed}, {strategy} and {variant} in a value's text
            are the run's own ({variant} is the name of its folder, with the values of `vary`).
        seeds: A list, or how many, counted from 0.
        variants: Name of each variant to the settings that it changes together, by their dotted names and with texts as
            of strategies; crossed with strategies and `vary`.
        vary: Dotted name of a setting to the values that it takes; several settings are crossed.
        baseline: The strategy that the others are compared with; the one that is called random unless given.
        stacked: Train networks of one architecture together, in few processes, instead of one process per run; None for
            wherever the data and the network allow it.
        at_once: Processes that work at the same time; as many as the machine has cores (or GPUs) unless given.
        retries: Of a process that failed.
        keep_scores: Write every cycle's scores.parquet in stacked runs.
        part: Do only the i-th of n parts ("i/n", from 0) of the stacked runs, without a report.
    """

    strategies: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: int | list[int] = 1
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    vary: dict[str, list[Any]] = field(default_factory=dict)
    baseline: str | None = None
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
        for what, names in (("strategies", self.strategies), ("variants", self.variants)):
            for name in names:
                if not re.fullmatch(r"[\w.=()+-]+", name):
                    raise ValueError(f"names of {what} become folders: letters, digits and _.=()+- only, got {name!r}")
        by = {
            "grid.strategies": {k for changes in self.strategies.values() for k in changes if "." in k},
            "grid.variants": {k for changes in self.variants.values() for k in changes},
            "grid.vary": set(self.vary),
        }
        for (one, there), (other, here) in itertools.combinations(by.items(), 2):
            if twice := sorted(there & here):
                raise ValueError(
                    f"a setting is changed in one place, but {twice[0]} stands in {one} and in {other}; leave it out "
                    "of one of them"
                )
        if self.baseline is not None and self.baseline not in self.strategies:
            raise ValueError(
                f"grid.baseline is one of the strategies ({', '.join(self.strategies)}), got {self.baseline!r}"
            )

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
    varied: dict[str, list[Any]] = {_VARIANTS: list(grid.variants)} if grid.variants else {}
    varied |= grid.vary
    for values in itertools.product(*varied.values()):
        pairs = tuple(zip(varied, values, strict=True))
        name = ",".join(v if k == _VARIANTS else f"{k.rpartition('.')[2]}={_short(v)}" for k, v in pairs)
        for strategy in grid.strategies:
            for seed in grid.seed_list:
                yield StudyRun(name, pairs, strategy, seed)


def run_settings(study: dict[str, Any], grid: StudyGrid, run: StudyRun, root: Path) -> dict[str, Any]:
    """The settings of an ordinary fit that is this run.

    A strategy replaces whole entries of `strategy` (acquisition, selection, budget ...), and of `data`. Dotted keys may
    leave out init_args, as on the command line.

    Args:
        study: The study's settings.
        grid: What varies.
        run: One of its runs.
        root: The study's run directory.
    """
    settings = copy.deepcopy({key: value for key, value in study.items() if key != "grid"})
    settings |= {"seed_everything": run.seed, "run_dir": str(root / run.folder)}
    own = {"{seed}": run.seed, "{strategy}": run.strategy, "{variant}": run.variant}
    changes = _filled(grid.strategies[run.strategy], own)
    dotted = {key: changes.pop(key) for key in list(changes) if "." in key}
    if data := changes.pop("data", None):
        settings["data"] = {**settings.get("data", {}), **data}
    settings["strategy"] = {**settings.get("strategy", {}), **changes}
    for key, value in run.values:
        for name, given in _filled(grid.variants[value], own).items() if key == _VARIANTS else ((key, value),):
            _put(settings, name, given, key if key == _VARIANTS else "grid.vary")
    for key, value in dotted.items():
        _put(settings, key, value, "grid.strategies")
    return settings


def _filled(value: Any, own: dict[str, Any]) -> Any:
    """A copy in which what is a run's own stands for its name."""
    if isinstance(value, dict):
        return {key: _filled(given, own) for key, given in value.items()}
    if isinstance(value, list):
        return [_filled(given, own) for given in value]
    if isinstance(value, str):
        # a text that is nothing else becomes a number
        if value in own:
            return own[value]
        for name, word in own.items():
            value = value.replace(name, str(word))
    return value


def _put(settings: dict[str, Any], key: str, value: Any, who: str) -> None:
    place = settings
    *parents, last = key.split(".")
    for name in parents:
        place = _inside(place, name)
        if not isinstance(place.get(name), dict):
            raise ValueError(f"{who} names {key!r}, but the settings have nothing at {name!r} to change")
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
