"""What is attacked: commands that take a second or two, and what they leave behind that must not depend on kills."""

import copy
import hashlib
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from tests import forked
from tests.conftest import TINY, TINY_DIGITS

__all__ = ["SCENARIOS", "Scenario", "differences", "findings"]

_EVENTS = "cycle, kind, unit_id, strategy, score, rank, pixels, objects, clicks"


@dataclass(frozen=True)
class Scenario:
    """A verb and its settings.

    first: a verb that is run, uninterrupted, before the attack. ended: whether a killed command was through already, so
    that starting it again would be another request.
    """

    name: str
    verb: str
    settings: dict[str, Any]
    arguments: tuple[str, ...] = ()
    first: str = ""
    ended: Callable[[Path], bool] = lambda root: False

    def prepare(self, folder: Path, env: dict[str, str]) -> list[str]:
        """An empty run directory (or the one after `first`) as FOLDER/run; returns the command."""
        folder.mkdir(parents=True, exist_ok=True)
        root, config, kept = folder / "run", folder / "config.yaml", folder / "first"
        config.write_text(yaml.safe_dump(self.settings))
        common = ["--config", str(config), "--run_dir", str(root)]
        shutil.rmtree(root, ignore_errors=True)
        if self.first:
            if not kept.is_dir():
                forked.run([self.first, *common], env, check=True)
                shutil.copytree(root, kept)
                shutil.rmtree(root)
            shutil.copytree(kept, root)
        return [self.verb, *common, *(a.format(root=root) for a in self.arguments)]


def _settings(tiny: dict[str, Any], every: int, **changed: Any) -> dict[str, Any]:
    settings = copy.deepcopy(tiny) | changed
    settings["strategy"] |= {"pictures": 1, "gallery": 2}
    settings["trainer"] |= {"max_epochs": 4, "check_val_every_n_epoch": every, "enable_progress_bar": False}
    return settings


def _study(every: int, **grid: Any) -> dict[str, Any]:
    strategies = {
        "random": {"acquisition": {"class_path": "acquisition.functions.Random"}},
        "bald": {
            "acquisition": {"class_path": "acquisition.functions.BALD"},
            "predictor": {"class_path": "acquisition.predictors.MCDropout", "init_args": {"num_samples": 3}},
        },
    }
    return _settings(TINY_DIGITS, every, grid={"seeds": 1, "at_once": 1, "strategies": strategies, **grid})


def _ensemble(every: int) -> dict[str, Any]:
    settings = _settings(TINY, every, cycles=1, members={"at_once": 1, "names": ["careful", "dilates_much"]})
    settings["model"]["init_args"]["network"]["init_args"]["num_classes"] = 1
    settings["data"] = {
        "source": {
            "class_path": "datamodules.sources.synthetic_annotators.SyntheticAnnotators",
            "init_args": {"num_images": 6, "size": [32, 32], "annotators": ["careful", "dilates_much"], "folds": 2},
        },
        "batch_size": 2,
    }
    settings["members"]["single"] = "careful"
    return settings


def _queried(root: Path) -> bool:
    with closing(sqlite3.connect(root / "ledger.sqlite")) as connection:
        return connection.execute("SELECT count(*) FROM events WHERE kind = 'labelled'").fetchone()[0] > 0


def _scenarios(every: int) -> list[Scenario]:
    best = ("--ckpt_path", "{root}/cycles/00/best.ckpt")
    one = _settings(TINY, every, cycles=1)
    return [
        Scenario(f"fit-{every}", "fit", _settings(TINY, every, cycles=2)),
        Scenario(f"query-{every}", "query", one, arguments=best, first="fit", ended=_queried),
        Scenario(f"study-{every}", "study", _study(every, stacked=False)),
        Scenario(f"ensemble-{every}", "ensemble", _ensemble(every)),
    ]


def _cells() -> dict[str, Any]:
    settings = _settings(TINY, 1, cycles=2)
    settings["data"]["partition"] = {
        "class_path": "datamodules.partitions.Grid",
        "init_args": {"height": 16, "width": 16},
    }
    return settings


def _objects() -> dict[str, Any]:
    """Superpixels whose objects are drawn whole, as far as some clicks go."""
    settings = _settings(TINY, 1, cycles=3)
    settings["data"] |= {
        "partition": {"class_path": "datamodules.superpixels.Superpixels", "init_args": {"count": 12}},
        "oracle": {"class_path": "datamodules.oracle.WholeObjects", "init_args": {"click_tolerance": 1}},
        "initial": {"class_path": "datamodules.initial.RandomImages", "init_args": {"size": 2}},
    }
    settings["strategy"] |= {"budget": 1000, "budget_clicks": 40}
    return settings


_CELLS = Scenario("cells", "fit", _cells())
_OBJECTS = Scenario("objects", "fit", _objects())
# a stack validates after its last epoch
_STACKED = Scenario("stacked", "study", _study(4, keep_scores=True, stacked=True))
SCENARIOS = {s.name: s for s in [*_scenarios(1), *_scenarios(2), _STACKED, _CELLS, _OBJECTS]}


def findings(root: Path) -> dict[str, str]:
    """Every result below a run directory, by its path, as something that can be compared."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.name.startswith("."):
            continue
        if path.name == "ledger.sqlite":
            with closing(sqlite3.connect(path)) as connection:
                rows = connection.execute(f"SELECT {_EVENTS} FROM events ORDER BY id").fetchall()
            found[name] = "\n".join(map(str, rows))
        elif path.suffix == ".parquet":
            found[name] = pd.read_parquet(path).to_csv()
        elif path.suffix == ".ckpt":
            saved = torch.load(path, weights_only=True)
            # a fit that was killed after its last step counts one epoch more; its weights are what they were
            if path.name == "best.ckpt":
                found[f"{name} epoch"] = str(saved["epoch"])
            weights = b"".join(k.encode() + v.contiguous().numpy().tobytes() for k, v in saved["state_dict"].items())
            found[f"{name} weights"] = hashlib.blake2b(weights, digest_size=8).hexdigest()
        elif path.name == "metrics.json" or (path.suffix == ".csv" and path.name != "jobs.csv"):
            found[name] = path.read_text()
        elif path.suffix in (".png", ".md"):
            found[name] = "there"
    return found


def differences(expected: dict[str, str], root: Path) -> list[str]:
    """The names of results that are not as expected."""
    found = findings(root)
    return [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
