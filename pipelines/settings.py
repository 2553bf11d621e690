"""Settings: safe reading of YAML, and comparison of two experiments' settings."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

__all__ = ["check_current", "check_run_dir", "checked_name", "difference", "parse_yaml", "read_yaml", "with_limit"]

_MOST_NODES = 100_000
_DEEPEST = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def checked_name(option: str, text: str) -> str:
    """Check a name from the command line, because a line break would add lines to the scripts that contain it.

    Args:
        option: The option, for the message.
        text: Its value.

    Returns:
        The text.

    Raises:
        ValueError: The text is blank or has control characters.
    """
    if not text.strip() or _CONTROL.search(text):
        raise ValueError(f"{option} must be a name without line breaks or other control characters, got {text!r}")
    return text


def check_run_dir(text: str) -> Path:
    """Return the folder that --run_dir names; a ValueError if it is no `checked_name`."""
    return Path(checked_name("--run_dir", text))


def with_limit(load: Callable[[str], Any]) -> Callable[[str], Any]:
    """Limit a YAML reader, so that a small file with aliases or deep nesting cannot exhaust memory or stack.

    A list as a key, such as the colour in {[128, 64, 128]: road}, is read as text, "128,64,128": Python's mappings
    have no such keys.

    Args:
        load: Reads a text.

    Returns:
        The same reader, which raises a yaml.YAMLError above 100 000 values or 100 levels.
    """

    def limited(text: str) -> Any:
        try:
            # without aliases a text has no more values than are written in it
            if "*" in text and "&" in text and _nodes(yaml.compose(text), {}) > _MOST_NODES:
                raise yaml.YAMLError(f"its aliases stand for more than {_MOST_NODES} values")
            try:
                loaded = load(text)
            except yaml.constructor.ConstructorError:
                loaded = load(_with_keys_as_text(text))
            if _depth(loaded) <= _DEEPEST:
                return loaded
        except RecursionError:
            pass
        raise yaml.YAMLError(f"it is nested more than {_DEEPEST} deep")

    return limited


def _with_keys_as_text(text: str) -> str:
    """The same YAML with lists of words as keys written as text."""
    top = yaml.compose(text, Loader=yaml.SafeLoader)
    inside: list[yaml.Node | None] = [top]
    for node in inside:
        if isinstance(node, yaml.MappingNode):
            node.value = [(_as_text(key), value) for key, value in node.value]
            inside += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inside += node.value
    return str(yaml.serialize(top, Dumper=yaml.SafeDumper))


def _as_text(key: yaml.Node) -> yaml.Node:
    if isinstance(key, yaml.SequenceNode) and all(isinstance(word, yaml.ScalarNode) for word in key.value):
        return yaml.ScalarNode("tag:yaml.org,2002:str", ",".join(word.value for word in key.value))
    return key


def _depth(value: Any) -> int:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inside), default=0)


def _nodes(node: yaml.Node | None, known: dict[int, float]) -> float:
    """Number of values of a node after expanding all aliases; infinite for a node inside itself."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        known[id(node)] = float("inf")
        inside = node.value if isinstance(node, yaml.SequenceNode) else [n for pair in node.value for n in pair]
        known[id(node)] = 1 + sum(_nodes(n, known) for n in inside)
    return known[id(node)]


parse_yaml = with_limit(partial(yaml.load, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
"""Reads settings from a text."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read settings from a YAML file.

    Raises:
        ValueError: The file is not valid YAML or holds no mapping.
    """
    try:
        settings = parse_yaml(path.read_text())
        if isinstance(settings, dict):
            return settings
        raise yaml.YAMLError(f"expected names with values, got {type(settings).__name__}")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{path} is not readable YAML ({said}); correct it, or restore its earlier content") from error


def check_current(path: Path, settings: dict[str, Any]) -> None:
    """Refuse settings whose `data` is a class, as it was before `data.source`.

    Args:
        path: Their file, for the message.
        settings: What it holds.

    Raises:
        ValueError: They are of before.
    """
    data = settings.get("data")
    if isinstance(data, dict) and "class_path" in data:
        raise ValueError(
            f"{path} was written for dropquery before data.source, got data.class_path {data['class_path']!r}; start a "
            "new --run_dir with settings whose class and arguments are moved from data to data.source, see CHANGELOG.md"
        )


def difference(old: Any, new: Any, may_change: tuple[str, ...] = ()) -> str:
    """Describe the first setting in which two experiments differ.

    Args:
        old: The settings of the run directory.
        new: The settings of this command; a setting that is null equals one that is missing.
        may_change: Dotted names of settings, or of groups of settings, that may differ.

    Returns:
        The setting's name with both values, or "" if there is none.
    """
    then, now = dict(_leaves(old)), dict(_leaves(new))
    for name in {**now, **then}:
        before, after = repr(then.get(name)), repr(now.get(name))
        if before != after and not any(name == m or name.startswith(f"{m}.") for m in may_change):
            return f"{name}: {before} then, {after} now"
    return ""


def _leaves(settings: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is neither a group nor a list, with its dotted name."""
    if isinstance(settings, (dict, list)):
        for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
    else:
        yield name, settings
