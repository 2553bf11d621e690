"""Reading a command line without running it."""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipelines.settings import check_run_dir, read_yaml
from pipelines.verbosity import VERBOSE

__all__ = [
    "as_verb",
    "config_files",
    "distributed",
    "run_dir_of",
    "with_command_last",
    "with_named",
    "with_units_last",
    "without_defaults",
]

_TRAINED = ("fit", "query", "validate", "test", "predict")
_FLAGS = ("--wait", "--dry_run", "--requeue")
_CONFIG = ("--config", "-c")
_DEFAULT_RUN_DIR = "runs/default"


def with_command_last(arguments: Sequence[str]) -> list[str]:
    """Rewrite the arguments of `submit`: everything after its own options becomes one option, --command.

    Args:
        arguments: The words that follow submit. Every option takes a value, except that a flag alone means true.

    Returns:
        submit's own options and --command with a JSON list, the verb and its arguments; -v among submit's own is for
        the job.
    """
    own, rest, said = [], list(arguments), list[str]()
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option in VERBOSE:
            said = [option]
            continue
        own.append(option)
        if option in ("--help", "-h") or "=" in option:
            continue
        flag = option in _FLAGS and (not rest or rest[0].lower() not in ("true", "false"))
        own += ["true"] if flag else [rest.pop(0)] if rest else []
    rest += said if rest and not {*rest} & {*VERBOSE} else []
    return [*own, "--command", json.dumps(rest)]


def with_units_last(arguments: Sequence[str]) -> list[str]:
    """Rewrite the arguments of `label`: the words that belong to no option become one option, --units.

    Args:
        arguments: The words that follow the verb, every option of which takes a value.
    """
    own, units, words = [], [], iter(arguments)
    for word in words:
        if not word.startswith("-"):
            units.append(word)
            continue
        own.append(word)
        if "=" not in word and word not in ("--help", "-h"):
            own += [value] if (value := next(words, None)) is not None else []
    return [*own, "--units", json.dumps(units)] if units else own


def as_verb(command: Sequence[str], verb: str, without: Collection[str] = ()) -> str:
    """The same command line for another verb, as it is typed.

    Args:
        command: The verb and its arguments.
        verb: The other one.
        without: Options that it does not have, each of which takes a value.
    """
    words = iter(command[1:])
    kept = []
    for word in words:
        option, equals, _ = word.partition("=")
        if option.removeprefix("--") not in without:
            kept.append(word)
        elif not equals:
            next(words, None)
    return shlex.join(["dropquery", verb, *kept])


def with_named(arguments: Sequence[str], option: str) -> list[str]:
    """Rewrite arguments so that a word that stands alone becomes the value of an option.

    Args:
        arguments: The words that follow a verb, every option of which takes a value.
        option: The option.

    """
    words = list(arguments)
    place = 0
    while place < len(words) and words[place].startswith("-"):
        alone = "=" in words[place] or words[place] in ("--help", "-h")
        place += 1 if alone else 2
    return words if place >= len(words) else [*words[:place], option, *words[place:]]


def without_defaults(command: Sequence[str], defaults: Mapping[str, Any]) -> list[str]:
    """A command whose YAML files do not name settings that have their default anyway.

    Args:
        command: The verb and its arguments.
        defaults: Of those settings, by name.

    Returns:
        The command; where a file names one of them, its text stands in the place of its name.

    """
    words = list(command)
    for place, (option, value) in enumerate(_options(command)):
        if option in _CONFIG and Path(value).is_file():
            settings = read_yaml(Path(value))
            named = [k for k, default in defaults.items() if k in settings and settings[k] == default]
            if named:
                kept = yaml.safe_dump({k: v for k, v in settings.items() if k not in named}, sort_keys=False)
                if "=" in command[place]:
                    words[place] = f"{option}={kept}"
                else:
                    words[place + 1] = kept
    return words


def run_dir_of(command: Sequence[str]) -> Path:
    """Return a command's run directory: its last --run_dir, its config's, or the default."""
    named = _setting(command, "run_dir")
    return check_run_dir(_DEFAULT_RUN_DIR if named is None else str(named))


def distributed(command: Sequence[str], nodes: int, tasks: int) -> list[str]:
    """Adapt a command to a job of several tasks, which run it together as one trainer.

    Args:
        command: The verb and its arguments.
        nodes: Machines of the job.
        tasks: Processes per machine.

    Returns:
        The command with the trainer's numbers of devices and nodes.

    Raises:
        ValueError: The command gives the trainer other numbers, or the verb has no trainer.

    """
    command = list(command)
    if command[0] not in _TRAINED:
        if nodes * tasks > 1:
            raise ValueError(
                f"{command[0]} is one process, got --nodes {nodes} and {tasks} tasks per node, which would run it "
                f"{nodes * tasks} times; give 1 of both"
            )
        return command
    for name, count, option in (("devices", tasks, "--tasks_per_node"), ("num_nodes", nodes, "--nodes")):
        said = _setting(command, f"trainer.{name}")
        if said in (None, "auto", -1, "-1"):
            command += [f"--trainer.{name}", str(count)] if nodes * tasks > 1 else []
        elif str(said) != str(count):
            raise ValueError(
                f"expected trainer.{name} to be the job's {count}, got {said}: a trainer of {said} in a job of {count} "
                f"would run separate trainings in one run directory, or wait for ever; give {option} {said}, or leave "
                f"trainer.{name} out"
            )
    return command


def config_files(command: Sequence[str]) -> list[Path]:
    """Return the existing YAML files that a command names with --config."""
    named = [Path(value) for option, value in _options(command) if option in _CONFIG]
    return [path for path in named if path.is_file()]


def _options(command: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every word with its value, which follows after an equals sign or as the next word."""
    for word, after in zip(command, [*command[1:], ""], strict=True):
        option, equals, given = word.partition("=")
        yield option, given if equals else after


def _setting(command: Sequence[str], name: str) -> Any:
    """Return the last value that a command gives to a setting, directly or in a --config file."""
    value = None
    for option, given in _options(command):
        if option == f"--{name}":
            value = given
        elif option in _CONFIG and Path(given).is_file():
            content: Any = read_yaml(Path(given))
            for key in name.split("."):
                content = content.get(key) if isinstance(content, dict) else None
            value = value if content is None else content
    return value
