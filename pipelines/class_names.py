"""Classes that settings can name, found in the rooms' files by their names; none is imported to be found."""

import functools
import importlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOMS", "import_named", "import_rooms", "names_below", "places_of"]

ROOMS = ("acquisition", "lightning_modules", "datamodules", "callbacks", "pipelines")
"""Rooms with classes for settings."""

_CLASS = re.compile(r"^class (\w+)(?:\(([^)]*)\))?:(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class _Class:
    module: str
    bases: tuple[str, ...]
    abstract: bool


@functools.cache
def _classes() -> dict[str, list[_Class]]:
    found: dict[str, list[_Class]] = {}
    root = Path(__file__).resolve().parent.parent
    for path in sorted(p for room in ROOMS for p in (root / room).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        for name, bases, body in _CLASS.findall(path.read_text()):
            of = tuple(b.strip().partition("[")[0].rpartition(".")[2] for b in bases.split(","))
            abstract = "@abstractmethod" in body or "Protocol" in of
            found.setdefault(name, []).append(_Class(".".join(parts), of, abstract))
    return found


def names_below(base: str) -> list[str]:
    """Names of the public classes that a setting of this class can be.

    Args:
        base: Its name, without a module.

    """
    family, grown = {base}, True
    while grown:
        more = {n for n, places in _classes().items() if any(family & {*place.bases} for place in places)}
        grown = bool(more - family)
        family |= more
    able = {n for n in family for place in _classes().get(n, []) if not place.abstract}
    return sorted(n for n in able if not n.startswith("_"))


def places_of(name: str) -> list[str]:
    """Modules that have a class of this name."""
    return [place.module for place in _classes().get(name, [])]


def import_named(words: Iterable[str]) -> None:
    """Import the modules of the classes that are named, so that jsonargparse finds them by their short names.

    Args:
        words: Words of a command line, or values of settings; those that name no class are nothing to it.

    """
    for word in {*words} & {*_classes()}:
        for place in _classes()[word]:
            importlib.import_module(place.module)


def import_rooms() -> None:
    """Import every module that has classes for settings."""
    import_named(_classes())
