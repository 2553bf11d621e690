"""Help as people read it: grouped, an option with its type and default in one line, and its words below."""

import re
import shutil
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.class_names import names_below

__all__ = ["WIDE", "Option", "Section", "read_help", "render"]

WIDE = 100_000
"""Columns of the help that `read_help` reads: nothing is wrapped in it."""

_OPTION = re.compile(r"^  (-.*?)(?: {2,}(\S.*))?$")
_DETAILS = re.compile(r" ?\((?=(?:required|type: |default: ))((?:required, )?(?:type: |default: ).*)\)$")
_MOST_CLASSES = 40
_KINDS = {
    "ClosedUnitInterval": "0..1", "Union[bool, int]": "int", "Union[str, Path]": "file", "str": "text",
    "list[str]": "[text, ...]", "Sequence[int]": "[int, ...]", "Sequence[float]": "[float, ...]", "Path": "path",
    "list[float]": "[float, ...]",
}  # fmt: skip
_TITLES = {
    "options": "", "model": "The network, its loss and its optimizer, as one class", "trainer": "Lightning's Trainer",
    "data": "What is there to label, and how it is loaded",
    "strategy": "What is queried next",
}  # fmt: skip
_NARROWEST, _WIDEST = 60, 110


@dataclass(frozen=True)
class Option:
    """An option of a verb.

    Args:
        name: With its dashes; a short form stands before it.
        kind: What its value is.
        default: The value that it has when it is not given, or "" where it has to be.
        classes: Short names of the classes that can be given.
        words: What it is for.
    """

    name: str
    kind: str
    default: str
    classes: tuple[str, ...]
    words: str


@dataclass(frozen=True)
class Section:
    """Options that belong together.

    Args:
        name: What the options' names begin with, such as strategy; "" for those of the verb itself.
        title: What they are, in words.
        options: The options.
    """

    name: str
    title: str
    options: tuple[Option, ...]


def read_help(text: str, words_of: Mapping[str, str] | None = None) -> list[Section]:
    """Sections of a parser's help.

    Args:
        text: What jsonargparse makes of it, `WIDE`.
        words_of: Other words for some options, by their names without dashes.

    """
    sections: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.splitlines():
        if line.endswith(":") and not line.startswith(" "):
            sections.append((line[:-1], []))
        elif sections and (found := _OPTION.match(line)):
            sections[-1][1].append((found[1], found[2] or ""))
        elif sections and sections[-1][1] and line.startswith("      "):
            name, words = sections[-1][1][-1]
            sections[-1][1][-1] = (name, f"{words} {line.strip()}".strip())
    made: list[Section] = []
    for title, lines in sections:
        options = [_option(*line) for line in lines if not _is_technical(*line)]
        options = [replace(o, words=(words_of or {}).get(_plain(o.name), o.words)) for o in options]
        groups = {_plain(o.name).partition(".")[0] for o in options if "." in o.name or o.name == "--model"}
        name = groups.pop() if len(groups) == 1 else ""
        if name or not made or made[0].name:
            made.append(Section(name, title if words_of is None else _TITLES.get(name or title, title), tuple(options)))
        else:
            # a verb's own options stand in two places
            made[0] = replace(made[0], options=(*made[0].options, *options))
    return [section for section in made if section.options]


def _plain(name: str) -> str:
    return name.rpartition("--")[2]


def render(
    usage: str, description: str, sections: Sequence[Section], brief: Collection[str] = (), more: Sequence[str] = ()
) -> str:
    """Help as text, as wide as the terminal.

    Args:
        usage: How the verb is typed.
        description: What it does.
        sections: Its options, in the order in which they are shown.
        brief: Names of sections of which each option gets one line.
        more: Paragraphs at the end.

    """
    width = min(max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST), _WIDEST)
    paragraphs = [p for p in re.split(r"\n\s*\n", description.strip()) if p]
    lines = [f"usage: {usage}", ""] if usage else []
    for paragraph in paragraphs:
        lines += [*textwrap.wrap(" ".join(paragraph.split()), width), ""]
    for section in sections:
        lines += textwrap.wrap(f"{section.title or 'Options'}:", width)
        for option in section.options:
            lines += _brief(option, width) if section.name in brief else _whole(option, width)
        lines.append("")
    for paragraph in more:
        lines += textwrap.wrap(paragraph, width)
    return "\n".join(lines).rstrip() + "\n"


def _is_technical(name: str, words: str) -> bool:
    return (
        ".help" in name.split()[0]
        or words == "Path to a configuration file."
        or name.startswith(("--print_config", "--print_shtab", "-h"))
    )


def _option(invocation: str, words: str) -> Option:
    names = [part.split()[0] for part in invocation.split(", -")]
    short = next((n for n in names if re.fullmatch(r"-?\w", n)), None)
    name = next(f"--{n.lstrip('-')}" for n in names if n != short and not n.endswith("+"))
    kind, default, classes = "", "", tuple[str, ...]()
    if details := _DETAILS.search(words):
        words = words[: details.start()].rstrip()
        rest, _, known = details[1].partition(", known subclasses: ")
        rest, _, default = rest.partition("default: ")
        kind = _kind(rest.removeprefix("required, ").removeprefix("type: ").rstrip(", "))
        classes = tuple(names_below(kind)) or tuple(
            dict.fromkeys(c.strip().rpartition(".")[2] for c in known.split(",") if c.strip())
        )
        if len(classes) > _MOST_CLASSES:
            # of torch's modules, those that are networks or losses here
            classes = tuple(names_below(classes[0])) or classes
        default = _default(default)
    shown = name if short is None else f"-{short.lstrip('-')}, {name}"
    return Option(shown, kind, default, classes, words)


def _kind(kind: str) -> str:
    kind = re.sub(r"<class '([\w.]+)'>", r"\1", kind)
    kind = re.sub(r"^Optional\[(.*)\]$", r"\1", kind)
    kind = re.sub(r"^Union\[(.*), null\]$", r"Union[\1]", kind).removesuffix(" | null")
    kind = _KINDS.get(kind, kind)
    kind = re.sub(r"Literal\[([^\]]*)\]", lambda m: m[1].replace("'", "").replace(", ", "|"), kind)
    return re.sub(r"[A-Za-z_][\w.]*\.(\w+)", r"\1", kind)


def _default(default: str) -> str:
    made = re.fullmatch(r"\{'class_path': '[\w.]*?(\w+)'(?:, 'init_args': \{(.*)\})?\}", default)
    if made:
        return made[1] + (f"({made[2]})".replace("'", "").replace(": ", "=") if made[2] else "")
    return "none" if default == "null" else default


def _head(option: Option) -> str:
    kind = option.kind if not option.classes else option.classes[0] if len(option.classes) == 1 else "CLASS"
    value = f" {kind}" if kind else ""
    default = f" (default: {option.default})" if option.default else " (required)" if kind else ""
    return f"{option.name}{value}{default}"


def _whole(option: Option, width: int) -> list[str]:
    words = option.words
    if len(option.classes) > 1:
        more = len(option.classes) - _MOST_CLASSES
        words += f" One of {', '.join(option.classes[:_MOST_CLASSES])}{f' and {more} more' if more > 0 else ''}."
    head = textwrap.wrap(_head(option), width, initial_indent="  ", subsequent_indent="      ")
    return [*head, *textwrap.wrap(words, width, initial_indent="      ", subsequent_indent="      ")]


def _brief(option: Option, width: int) -> list[str]:
    first = re.split(r"(?<=\.)\s", option.words)[0]
    short = replace(option, words=first, classes=())
    line = f"  {short.name}  {short.words}"
    return [line if len(line) <= width else f"{line[: width - 4]} ..."]
