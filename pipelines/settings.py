"""Settings: YAML read with care, and two experiments' settings compared by name."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

__all__ = ["check_run_dir", "difference", "parse_yaml", "plain", "read_yaml", "with_limit"]

_MOST_NODES = 100_000
_DEEPEST = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def plain(option: str, text: str) -> str:
    """A name from the command line; a line break would put lines into scripts that it is written into."""
    if not text.strip() or _CONTROL.search(text):
        raise ValueError(f"{option} must be a name without line breaks or other control characters, got {text!r}")
    return text


def check_run_dir(text: str) -> Path:
    """The folder that a command line or a YAML names."""
    return Path(plain("--run_dir", text))


def with_limit(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """A reader of YAML that refuses a text that stands for more than anybody writes."""

    def limited(text: str) -> Any:
        try:
            # without an alias a text holds no more than is written in it
            if "*" in text and "&" in text and _nodes(yaml.compose(text), {}) > _MOST_NODES:
                raise yaml.YAMLError(f"its aliases stand for more than {_MOST_NODES} values")
            loaded = load(text)
            if _depth(loaded) <= _DEEPEST:
                return loaded
        except RecursionError:
            pass
        raise yaml.YAMLError(f"it is nested more than {_DEEPEST} deep")

    return limited


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def _nodes(node: yaml.Node | None, known: dict[int, float]) -> float:
    """How many values a node stands for once every alias is written out; one inside itself stands for no end."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        inside = node.value if isinstance(node, yaml.SequenceNode) else [n for pair in node.value for n in pair]
        known[id(node)] = 1 + sum(_nodes(n, known) for n in inside)
    return known[id(node)]


parse_yaml = with_limit(partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
"""Settings from a text."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Settings from a file."""
    try:
        settings = parse_yaml(path.read_text())
        if isinstance(settings, dict):
            return settings
        raise yaml.YAMLError(f"expected names with values, got {type(settings).__name__}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is not readable YAML ({said}); correct it, or put back what it was") from error


def difference(old: Any, new: Any, may_change: tuple[str, ...] = ()) -> str:
    """The first of two experiments' settings that differs, then and now; "" where none does.

    may_change: dotted names of settings, or of groups of them, that do not count. One that is null counts as not there.
    """
    then, now = dict(_leaves(old)), dict(_leaves(new))
    for name in {**now, **then}:
        before, after = repr(then.get(name)), repr(now.get(name))
        if before != after and not any(name == m or name.startswith(f"{m}.") for m in may_change):
            return f"{name}: {before} then, {after} now"
    return ""


def _leaves(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no group and no list, with its dotted name."""
    if isinstance(settings, (dict, list)):
        for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, settings
