"""What jsonargparse says of a mistyped command line or YAML, in a few lines that name the nearest right thing."""

import difflib
import importlib
import inspect
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.class_names import ROOMS, import_rooms

__all__ = ["MOST", "Known", "mistake", "nearest_name", "without_mistaken"]

MOST = 4
"""How many mistakes are named at once."""

_KINDS = {
    "int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null",
    "Sequence": "a list such as [1, 2]", "list": "a list such as [1, 2]", "dict": "names with values, {name: value}",
}  # fmt: skip
_KEY = re.compile(r'Parser key "([^"]*)"')
_CLASS = re.compile(r"given class_path '([^']*)'")
_GIVEN = re.compile(r"Expected a (<class '(?!NoneType)[\w.]+'>)$.*Given value: (.*)", re.MULTILINE | re.DOTALL)
_NO_CLASS = re.compile(
    r"Expected a dot import path string: (\S+)"
    r"|Problem with given class_path '([^']+)':\s+(?:module '|No module named|.*not (?:accessible|a valid))"
    r"|Import path (\S+) does not correspond to a subclass|a path but (\S+) either not accessible"
)


@dataclass(frozen=True)
class Known:
    """What a verb's parser knows.

    Args:
        verb: Its name.
        options: Names of its options, without dashes.
        types: Of options, and classes whose arguments are options, by the options' common beginning.
    """

    verb: str
    options: Sequence[str]
    types: Mapping[str, Any]


def mistake(message: str, known: Known) -> str:
    """A mistake in at most five lines.

    Args:
        message: What jsonargparse found.
        known: What the verb's parser knows.

    """
    keys = _KEY.findall(message.partition("\n    - Expected a <class 'NoneType'>")[0])
    path = ".".join(key for place, key in enumerate(keys) if key not in keys[:place])
    if found := re.match(r"unrecognized arguments: (.*)", message, re.DOTALL):
        words = [w.partition("=")[0] for w in found[1].split() if _is_option(w)]
        if not words:
            return f"{known.verb} takes no {found[1]!r} beside its options; every value follows its option"
        more = [f"and {len(words) - MOST} more"] if len(words) > MOST else []
        return "\n".join([*(_unknown_option(word.lstrip("-"), known) for word in words[:MOST]), *more])
    if path and (found := re.search(r"unrecognized arguments: --([\w.]+\.help)\b", message)):
        return f"--{path}.{found[1]}: which class has it is not known yet; give --{path} or --config before it"
    if found := re.search(r"does not accept (?:option|nested key|key) '([^']*)'", message):
        return _unknown_option(found[1], known)
    if (found := re.search(r"Option '([^']*)' is not accepted", message)) and path:
        # of what makes a class later, such as an optimizer, the name stands behind
        behind = re.match(r"\. Got value: Namespace\(class_path='([^']*)'", message[found.end() :])
        return _unknown_argument(
            path, found[1], _CLASS.findall(message[: found.start()]) + ([behind[1]] if behind else [])
        )
    if found := re.search(r"instantiatable class, but ([\w.]+) is abstract", message):
        return _class_first(path, found[1], message, known)
    if found := re.search(r"arguments? (?:are|is) required: (.*)", message):
        return _missing([name.strip().removeprefix(f"{known.verb}.") for name in found[1].split(",")], known)
    if found := re.search(r"argument (\S+): expected", message):
        return f"{found[1]} expects a value; `dropquery {known.verb} --help` says of what kind"
    if found := re.search(r"File does not exist: '([^']*)'", message):
        return _no_file(found[1])
    if found := re.search(r"Unable to load config ['\"]([^'\"]*)", message):
        return (
            f"--{path} stands for several settings: expected a YAML file with them, got {found[1]!r}; "
            f"name one, as in --{_example(path, known)}"
        )
    if found := re.search(r"Expected an? (.*?)\.? Got value: (.*)", message) or _GIVEN.search(message):
        return _wrong_kind(path, found[1], found[2].strip())
    if found := _NO_CLASS.search(message):
        return _unknown_class(path, next(filter(None, found.groups())), _CLASS.findall(message), known)
    lines = [line.strip(" -") for line in message.splitlines() if line.strip()]
    reasons = [
        line for line in lines if not line.startswith(("Does not validate", "Subtypes", "Errors", "Given value"))
    ]
    return " ".join(reasons)[:400]


def without_mistaken(words: Sequence[str], said: str) -> list[str]:
    """A command line without the options that a mistake is about, and without what stands below them.

    Args:
        words: The command line.
        said: From `mistake`.

    Returns:
        The other words; all of them where the mistake is about no option in particular.

    """
    about = re.findall(r"^(?:there is no (?:option|setting) )?--([\w.]+)", said, re.MULTILINE)
    names = (*about, *re.findall(r"did you mean --([\w.]+)\?", said)) if about else ()
    kept, left_out = [], False
    for word in words:
        if _is_option(word):
            option = word.lstrip("-").partition("=")[0]
            left_out = any(f"{option}.".startswith(f"{name}.") for name in names)
        if not left_out:
            kept.append(word)
    return kept


def nearest_name(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The name that somebody may have meant; None where no name is alike.

    Args:
        name: What was typed.
        names: What there is.
        cutoff: How alike, from 0 to 1.

    """
    by_lower = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else None


def _is_option(word: str) -> bool:
    """And not a negative number."""
    return re.match(r"--?[A-Za-z]", word) is not None


def _unknown_option(name: str, known: Known) -> str:
    said = f"there is no option --{name}"
    near = _nearest_option(name, known.options)
    if near:
        return f"{said}; did you mean --{near}?"
    if name.startswith("data.") and "data.source" in known.options:
        return (
            f"{said}; what a data set is made with stands below its class: --data.source.{name.removeprefix('data.')}"
        )
    return f"{said}; `dropquery {known.verb} --help` lists those there are"


def _nearest_option(name: str, options: Sequence[str]) -> str | None:
    """Word for word: of "modle.network.width", which is no option, the first word alone is wrong."""
    words = name.split(".")
    for place in range(len(words)):
        before = ".".join(words[:place])
        inside = {
            o.removeprefix(f"{before}.") if before else o for o in options if not before or o.startswith(f"{before}.")
        }
        siblings = {o.split(".")[0] for o in inside}
        if words[place] in siblings:
            continue
        near = nearest_name(words[place], siblings)
        if near is None:
            break
        return ".".join([*words[:place], near, *words[place + 1 :]])
    ends = [o for o in options if o.endswith(f".{name}")]
    return ends[0] if len(ends) == 1 else nearest_name(name, options, 0.8)


def _arguments(kind: Any) -> list[str]:
    """Names of what a class is made with, its parents' included."""
    names: dict[str, None] = {}
    for parent in inspect.getmro(kind):
        if "__init__" in vars(parent):
            given = inspect.signature(vars(parent)["__init__"]).parameters.values()
            names |= {p.name: None for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
            if all(p.kind is not p.VAR_KEYWORD for p in given):
                break
    return [name for name in names if name != "self"]


def _found(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name, None) if module else None
    except ImportError:
        return None


def _unknown_argument(path: str, name: str, classes: Sequence[str]) -> str:
    kind = _found(classes[-1]) if classes else None
    names = _arguments(kind) if inspect.isclass(kind) else []
    near = nearest_name(name, names)
    who = classes[-1].rpartition(".")[2] if classes else path
    known = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    remedy = f"did you mean --{path}.{near}?" if near else f"it has {known or 'no settings'}"
    return f"there is no setting --{path}.{name}: {who} has none of that name; {remedy}"


def _bases(hint: Any) -> tuple[type, ...]:
    """Classes of which a setting of this type takes one."""
    if inspect.isclass(hint) and not typing.get_args(hint):
        return (hint,) if hint.__module__ not in ("builtins", "types") else ()
    inner = typing.get_args(hint)
    if (
        typing.get_origin(hint) is not None
        and callable(typing.get_origin(hint))
        and inner
        and isinstance(inner[0], list)
    ):
        inner = inner[1:]  # what a function returns
    return tuple(base for i in inner for base in _bases(i))


def _expected(path: str, classes: Sequence[str], known: Known) -> tuple[type, ...]:
    """Classes that can stand at a setting."""
    name = path.rpartition(".")[2]
    before = path.rpartition(".")[0]
    owner = _found(classes[-1]) if classes else known.types.get(before)
    hint = known.types.get(path)
    if inspect.isclass(owner) and hint is None:
        for parent in inspect.getmro(owner):
            if "__init__" in vars(parent):
                hints = typing.get_type_hints(vars(parent)["__init__"])
                if name in hints:
                    hint = hints[name]
                    break
    return _bases(hint)


def _choices(bases: tuple[type, ...]) -> dict[str, str]:
    """Where the classes stand that can be given for one of these, by their short names."""
    import_rooms()
    found: dict[str, str] = {}
    waiting = list(bases)
    while waiting:
        kind = waiting.pop()
        waiting += type.__subclasses__(kind)
        ours = kind.__module__.partition(".")[0] in ROOMS
        wide = any(b.__module__.startswith("torch.nn") for b in bases)
        if not kind.__name__.startswith("_") and not inspect.isabstract(kind) and (ours or not wide):
            found.setdefault(kind.__name__, f"{kind.__module__}.{kind.__qualname__}")
    return found


def _unknown_class(path: str, name: str, classes: Sequence[str], known: Known) -> str:
    owners = [c for c in classes if c != name]
    bases = _expected(path, owners, known)
    choices = _choices(bases)
    short = name.rpartition(".")[2]
    near = nearest_name(short, choices)
    said = f"--{path}: there is no such class as {name}"
    kind = _found(name)
    if kind is not None:
        said = f"--{path}: {name} is of another kind"
    if near:
        return f"{said}; did you mean {near} ({choices[near]})?"
    listed = ", ".join(sorted(n for n, place in choices.items() if place.partition(".")[0] in ROOMS)[:20])
    return f"{said}; " + (f"it takes one of {listed}" if listed else "give module.Class of one that Python finds")


def _class_first(path: str, base: str, message: str, known: Known) -> str:
    kind = _found(base)
    given = re.search(r"NestedArg\(key='([^']*)'", message)
    name = given[1] if given else ""
    choices = _choices((kind,)) if inspect.isclass(kind) else {}
    able = [c for c, place in choices.items() if name.partition(".")[0] in _arguments(_found(place))]
    what = f"--{path}.{name} is a setting of a class that is not chosen yet" if name else f"--{path} needs a class"
    return f"{what}: give --{path} before it, one of {', '.join(sorted(able or choices))}"


def _missing(names: Sequence[str], known: Known) -> str:
    listed = ", ".join(f"--{name}" for name in names)
    if "model" not in names:
        return f"{known.verb} needs {listed}; `dropquery {known.verb} --help` says what"
    return (
        f"{known.verb} needs model, data and strategy from a YAML: dropquery {known.verb} --config FILE\n"
        f"(missing: {listed})\n"
        "`dropquery init segmentation` writes one to begin with; `dropquery init` lists the others"
    )


def _no_file(name: str) -> str:
    path = Path(name)
    near = nearest_name(path.name, [p.name for p in path.parent.glob("*.y*ml")]) if path.parent.is_dir() else None
    remedy = (
        f"did you mean {path.with_name(near)}?" if near else "`dropquery init segmentation` writes one to begin with"
    )
    return f"there is no file {name}; {remedy}"


def _example(path: str, known: Known) -> str:
    return next((o for o in known.options if o.startswith(f"{path}.")), path)


def _wrong_kind(path: str, kind: str, got: str) -> str:
    kind = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", kind)
    if "Literal[" in kind:
        names = re.findall(r"'([^']*)'", kind)
        near = nearest_name(got, names)
        return f"--{path} must be one of {', '.join(names)}, got {got}" + (f"; did you mean {near}?" if near else "")
    return f"--{path} must be {_KINDS.get(kind, kind)}, got {got}"
