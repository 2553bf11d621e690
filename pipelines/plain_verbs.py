"""Verbs that are functions: found by name, so that a verb costs what it needs to import and no more."""

import ast
import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.parsers import VerbParser

__all__ = ["first_line", "function_at", "overview", "run_plain_verb", "unknown_verb"]


def function_at(place: str) -> Callable[..., Any]:
    """A function by name; imports its module.

    Args:
        place: As module:function.

    """
    module, _, name = place.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def first_line(place: str) -> str:
    """The first line of a function's docstring, read from its file: the module is not imported.

    Args:
        place: As module:function.

    """
    module, _, name = place.partition(":")
    found = importlib.util.find_spec(module)
    assert found is not None
    assert found.origin is not None
    for node in ast.parse(Path(found.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    raise LookupError(f"{module} has no function {name}")


def run_plain_verb(verb: str, place: str, args: Sequence[str], **given: Any) -> None:
    """Call a verb's function with what the command line says.

    Args:
        verb: Its name.
        place: Its function, as module:function: typed arguments are the options, and the docstring is the help.
        args: What follows the verb.
        given: Arguments of the function that are no options.

    """
    function = function_at(place)
    parser = VerbParser(prog=f"dropquery {verb}", description=(function.__doc__ or "").partition("Args:")[0])
    parser.verb = verb
    parser.add_function_arguments(function, as_group=False, skip=set(given))
    function(**parser.parse_args(list(args)).as_dict(), **given)


def overview(experiment: Mapping[str, str], plain: Mapping[str, str]) -> str:
    """What `dropquery --help` prints: every verb with its words.

    Args:
        experiment: Verbs of an experiment, with their words.
        plain: The others, as module:function.

    """
    groups = {
        "With a network (model, data and trainer from one YAML, --config FILE):": experiment,
        "Without:": {verb: first_line(place) for verb, place in plain.items()},
    }
    lines = ["usage: dropquery VERB [options]", ""]
    for title, verbs in groups.items():
        lines += [
            title,
            *(f"  {verb:<11}{words[:1].upper()}{_without_stop(words[1:])}" for verb, words in verbs.items()),
            "",
        ]
    lines += [
        "`dropquery VERB --help` says what a verb does and lists its options.",
        "With -v a verb also shows what Lightning and other libraries say.",
    ]
    return "\n".join(lines)


def _without_stop(words: str) -> str:
    return words if words.endswith("...") else words.removesuffix(".")


def unknown_verb(verb: str, verbs: Sequence[str]) -> int:
    """Say that there is no such verb, and which it may have been.

    Args:
        verb: What stands in its place.
        verbs: All there are.

    Returns:
        The exit status.

    """
    if verb.startswith("-"):
        words = f"expected a verb before any option, got {verb}; type for example: dropquery fit --config FILE"
    else:
        near = difflib.get_close_matches(verb, verbs, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        words = f"there is no verb {verb!r}; {meant}`dropquery --help` lists all"
    print(f"dropquery: error: {words}", file=sys.stderr)
    return 2
