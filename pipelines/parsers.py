"""jsonargparse as every verb's parser needs it: help that can be read, and mistakes in a few lines."""

import functools
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, NoReturn

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter, get_loader, set_loader

from pipelines.help_text import WIDE, Section, read_help, render
from pipelines.mistakes import MOST, Known, mistake, nearest_name, without_mistaken
from pipelines.settings import with_limit

__all__ = ["VerbParser"]

set_loader("yaml", with_limit(get_loader("yaml")), (yaml.YAMLError,))


class VerbParser(ArgumentParser):
    """A parser of a verb's options.

    Args:
        args: jsonargparse's own.
        kwargs: jsonargparse's own.

    """

    typed: ClassVar[Sequence[str]] = ()
    """The command line that is being read, for the parsers that jsonargparse makes of classes inside of classes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.verb = ""
        """Its name, as it is typed; "" in a parser whose verb is another parser's business."""
        self.brief: Collection[str] = ()
        """Groups of which each option gets one line in the help."""
        self.hidden: Collection[str] = ()
        """Groups that are settings of other verbs."""
        self.speaks_for: VerbParser = self
        """The parser of the verb that the command line names."""
        self.words: Mapping[str, str] = {}
        """Words of options that are not ours."""
        self.only: str | None = None
        """The group whose options are asked for; all of them unless given."""
        self.types: Mapping[str, Any] = {}
        """Types of settings and, by the beginning of options' names, classes whose arguments the options are."""
        self._words: Sequence[str] = ()
        self._said: list[str] = []
        kwargs.setdefault("formatter_class", functools.partial(DefaultHelpFormatter, width=WIDE))
        super().__init__(*args, **kwargs)

    def sections(self) -> list[Section]:
        """The options, in the order in which help shows them."""
        found = [s for s in read_help(super().format_help(), self.words) if s.name not in self.hidden]
        # what is the verb's own comes first, and Lightning's last
        return sorted(found, key=lambda s: (s.name in self.brief, bool(s.name)))

    def format_help(self, formatter: Any = None) -> str:
        """The help, grouped.

        Args:
            formatter: jsonargparse's own.

        """
        if not self.verb:
            return _of_class(super().format_help(formatter), self.typed)
        usage, sections = self.usage or f"dropquery {self.verb} [options]", self.sections()
        if self.only is not None:
            asked = [section for section in sections if section.name == self.only]
            names = [section.name for section in sections if section.name]
            if not asked:
                near = nearest_name(self.only, names)
                raise ValueError(
                    f"expected a group of options after --help, one of {', '.join(names)}, got {self.only}"
                    + (f"; did you mean {near}?" if near else "")
                )
            return render(usage, "", asked)
        more = [f"`dropquery {self.verb} --help {name}` says more of --{name}.*." for name in self.brief]
        if self.brief:
            example = f"dropquery {self.verb} --strategy.acquisition.help BALD"
            more.append(f"An option whose value is a CLASS has options of its own: `{example}` lists those of BALD.")
        return render(usage, self.description or "", sections, self.brief, more)

    def parse_args(self, args: Any = None, *others: Any, **options: Any) -> Any:
        """Read a command line.

        Args:
            args: Its words.
            others: jsonargparse's own.
            options: jsonargparse's own.

        """
        self._words = args if isinstance(args, list) else ()
        if self.verb or self.speaks_for is not self:
            VerbParser.typed = self._words
        return super().parse_args(args, *others, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Say what is wrong in a few lines, and exit with status 2.

        The rest of the command line is read once more, so that further mistakes in it are named as well.

        Args:
            message: What jsonargparse found.
            ex: What it was raised from.

        """
        if not self.exit_on_error:
            super().error(message, ex)
        parser = self.speaks_for
        options = [option.name.rpartition("--")[2] for section in parser.sections() for option in section.options]
        known = Known(parser.verb, options, parser.types)
        said = mistake(message, known)
        rest = without_mistaken(self._words, said)
        names_an_option = len(rest) < len(self._words)
        # what is missing is known only when nothing is mistyped any more
        self._said += said.splitlines() if names_an_option or not self._said else []
        asks = any(word.startswith(("--help", "-h", "--print_config")) for word in rest)
        if names_an_option and not asks and len(self._said) < MOST:
            self.parse_args(rest)
        print("dropquery: error: " + "\n".join(self._said[: MOST + 1]), file=sys.stderr)
        self.exit(2)


def _of_class(text: str, typed: Sequence[str]) -> str:
    """Help of a class, which is asked for at an option that takes one; other texts as they are."""
    asked = re.search(r"^Help for --(.*)\.help=([\w.]+)$", text, re.MULTILINE)
    if asked is None:
        return text
    # inside of another class jsonargparse leaves out where that one stands
    whole = re.compile(rf"--((?:[\w.]+\.)?{re.escape(asked[1])})\.help(?:=|$)")
    place = next((found[1] for word in typed if (found := whole.match(word))), asked[1])
    sections = read_help(re.sub(rf"(?<=--){re.escape(asked[1])}\.", f"{place}.", text))
    return render("", f"{asked[2]}" + ("" if sections else " has no options of its own."), sections)
