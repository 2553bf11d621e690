"""The manual as tests read it: pages, their blocks and commands, and what they mention."""

import importlib
import inspect
import pkgutil
import re
import shlex
import types
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from callbacks.query import QueryCallback
from callbacks.tracking import WandbSettings
from datamodules.datamodule import PoolDataModule
from lightning_modules.classification import ClassificationModule
from lightning_modules.segmentation import SegmentationModule
from pipelines.ensemble import Members
from pipelines.grid import StudyGrid
from pipelines.suspects import Suspicion
from tests.test_house import ROOMS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SETTINGS: dict[str, tuple[type, ...]] = {
    "model": (SegmentationModule, ClassificationModule),
    "data": (PoolDataModule,),
    "strategy": (QueryCallback,),
    "trainer": (pl.Trainer,),
    "wandb": (WandbSettings,),
    "members": (Members,),
    "suspicion": (Suspicion,),
    "grid": (StudyGrid,),
}
"""Settings that have settings of their own, and the classes whose arguments these are."""

TINY = [
    "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1",
    "--data.source.num_train=70", "--data.source.num_val=2", "--data.source.num_test=2", "--data.source.size=[32,48]",
    "--data.crop_size=[32,48]", "--model.network.width=0.03",
    "--strategy.predictor.num_samples=2", "--strategy.pictures=0", "--wandb.mode=disabled", "--trainer.accelerator=cpu",
]  # fmt: skip
"""What makes configs/quickstart.yaml take seconds."""


def name_of(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[list[str]]:
    """Arguments of the commands of dropquery on a page, in fenced blocks and in indented ones.

    A line with "..." or a shell's variable is no command that can be typed.
    """
    lines = page.read_text().replace("\\\n", " ").splitlines()
    found = [re.match(r"\s*(?:\$ )?(?:python cli\.py|dropquery) (.*)", line) for line in lines]
    typed = [match[1] for match in found if match and not re.search(r"\.\.\.|\$[A-Z]", match[1])]
    return [shlex.split(line, comments=True) for line in typed]


def files_of(page: Path) -> dict[str, str]:
    """Files of Python that a page shows, by the names in their first lines."""
    return dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", page.read_text(), flags=re.DOTALL))


def mentioned(page: Path) -> list[str]:
    """What stands between backticks in the text of a page, its blocks left out."""
    text = re.sub(r"^( {4,}.*|```.*?^```)$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", text)


@cache
def _import_rooms() -> None:
    for room in ROOMS:
        for module in pkgutil.walk_packages([str(ROOT / room)], f"{room}."):
            importlib.import_module(module.name)


def _subclasses(kind: type) -> Iterator[type]:
    yield kind
    if kind.__module__.partition(".")[0] in ROOMS or kind.__module__ == "torch.nn.modules.module":
        for below in type.__subclasses__(kind):
            yield from _subclasses(below)


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        yield from _subclasses(hint) if hint.__module__.partition(".")[0] in (*ROOMS, "torch") else [hint]
    for part in typing.get_args(hint):
        yield from _classes(part)


def is_setting(name: str) -> bool:
    """Whether a dotted name is one of an experiment's settings, whatever classes stand before its last part."""
    _import_rooms()
    first, *rest = name.split(".")
    classes: set[type] = set(SETTINGS.get(first, ()))
    for part in rest:
        if part in ("class_path", "init_args"):
            continue
        hints = [_hint(kind, part) for kind in classes]
        if all(hint is None for hint in hints):
            return False
        classes = {kind for hint in hints for kind in _classes(hint)}
    return first in SETTINGS


def _hint(kind: type, argument: str) -> Any:
    """The type of a constructor's argument, None where it has none of this name."""
    for base in kind.__mro__:
        initialiser = base.__dict__.get("__init__")
        if initialiser is None or argument not in inspect.signature(initialiser).parameters:
            continue
        try:
            return typing.get_type_hints(initialiser).get(argument, object)
        except NameError:
            return object
    return None


__all__ = ["PAGES", "ROOT", "SETTINGS", "TINY", "commands", "files_of", "is_setting", "mentioned", "name_of"]
