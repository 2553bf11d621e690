"""LightningCLI as this program's command line needs it; no other file uses a private name of it.

tests/test_contracts.py says which names those are and fails when a new Lightning changes one of them.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from jsonargparse import Namespace
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from pipelines.parsers import VerbParser

__all__ = ["VerbCLI"]


_WORDS = {
    "config": "YAML with settings; of several, the later ones change the earlier. `dropquery init` writes one.",
    "seed_everything": "Seed of weights, initial set, order, augmentation and dropout.",
    "model": "What is trained.",
    "ckpt_path": "Checkpoint with the weights to use, such as RUN/cycles/02/best.ckpt.",
    "weights_only": "Read nothing but tensors from --ckpt_path; True is for files of strangers.",
}
"""Words for options that are Lightning's own."""


class ExperimentParser(VerbParser, LightningArgumentParser):
    """The parser of a verb with model, data and trainer."""


class VerbCLI(LightningCLI):
    """LightningCLI with verbs that no trainer has, and with parsers for the verbs of a command line alone.

    Args:
        args: The command line, without the program's name.
        parsed: Verbs that the command line does not name, but whose settings the named one reads.
        options: LightningCLI's own, but for those by which model and data are subclasses and nothing is set unasked.

    """

    types: ClassVar[Mapping[str, Any]] = {}
    """As `VerbParser.types`."""

    complete: ClassVar[bool] = True
    """Whether settings are completed and nothing may be missing of them, or else read as they are."""

    linked: ClassVar[tuple[str, ...]] = ()
    """Options of every verb on which other settings depend."""

    own_verbs: ClassVar[tuple[str, ...]] = ()
    """Verbs with model, data and trainer settings that are methods of this class alone; the docstring is the help."""

    def __init__(self, args: list[str], parsed: Collection[str] = (), **options: Any) -> None:
        self.command, self._verb = args, args[0]
        args, self._asked = _help_of_group(args)
        self._named = {*args, *parsed}
        super().__init__(
            args=args,
            subclass_mode_model=True,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=ExperimentParser,
            **options,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the command line, and let `fill_in` complete it before anything is found missing."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args, _skip_validation=True)
        if not self.complete:
            return
        verb = self.config.subcommand

        def given() -> Namespace:
            linked = [f"--{name}={self.config[verb].get(name)}" for name in self.linked]
            return parser.parse_args([*args, *linked], defaults=False, _skip_validation=True)[verb]

        if verb is not None:
            self.fill_in(self.config[verb], given)
        try:
            parser.validate(self.config)
        except (TypeError, KeyError) as error:
            parser.error(str(error), error)

    def fill_in(self, config: Namespace, given: Callable[[], Namespace]) -> None:
        """Complete a verb's settings; here they are complete.

        Args:
            config: Those with every default, to be changed in place; what is required may be missing.
            given: Those that the command line and its files name, without defaults.

        """

    def parser_of(self, verb: str) -> LightningArgumentParser:
        """The parser of a verb's settings.

        Args:
            verb: One with model, data and trainer, which the command line names or `parsed` does.

        """
        return self._parser(verb)

    def settings_of(self, verb: str) -> str:
        """All that the command line set for a verb, and every default, as YAML.

        Args:
            verb: The one that the command line names.

        """
        dumped: str = self.parser_of(verb).dump(self.config[verb], skip_unset=False)
        return dumped

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser; its errors are those of the verb that the command line names."""
        kwargs.setdefault("prog", "dropquery")
        return super().init_parser(**kwargs)

    def description_of(self, verb: str) -> str:
        """What a verb does, in words.

        Args:
            verb: The verb whose help is asked for.

        """
        return _first_line(getattr(self.trainer_class, verb))

    def groups_of_others(self, verb: str) -> Collection[str]:
        """Groups of settings that a verb reads over, because they are other verbs'.

        Args:
            verb: The verb whose help is asked for.

        """
        return ()

    def run_verb(self, verb: str) -> None:
        """Run a verb; here as Lightning does, by calling it on the trainer.

        Args:
            verb: The one that the command line names.

        """
        super()._run_subcommand(verb)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        added = next(a for a in parser._actions if hasattr(a, "add_subcommand"))
        for verb in self.own_verbs:
            words = _first_line(getattr(self, verb))
            own = self.init_parser(description=words)
            if self._is_read(verb):
                self._add_arguments(own)
            self._subcommand_parsers[verb] = own
            added.add_subcommand(verb, own, help=words)
        for verb, its in self._subcommand_parsers.items():
            assert isinstance(its, ExperimentParser)
            its.verb, its.brief, its.hidden, its.types = verb, ("trainer",), self.groups_of_others(verb), self.types
            its.description = self.description_of(verb)
            its.words, its.only = _WORDS, self._asked
            its.usage = f"dropquery {verb} --config FILE [options]"
            if verb == self._verb:
                assert isinstance(parser, ExperimentParser)
                parser.speaks_for = its

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        if self._is_read(subcommand):
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        return self.init_parser(**kwargs)

    def _is_read(self, verb: str) -> bool:
        # a verb's arguments cost most of the time that a command line takes: only one that is named gets them
        return verb in self._named

    def _parse_ckpt_path(self) -> None:
        """A checkpoint brings weights; the settings are those of the command line, whatever the file says."""

    def _set_seed(self) -> None:
        seed = self.config[self.subcommand].seed_everything
        if not 0 <= seed < 2**32:
            raise ValueError(f"--seed_everything must be from 0 to {2**32 - 1}, got {seed}")
        super()._set_seed()

    def _run_subcommand(self, subcommand: str) -> None:
        self.run_verb(subcommand)


def _help_of_group(args: list[str]) -> tuple[list[str], str | None]:
    """Arguments without the group that follows --help, and that group."""
    for flag in ("--help", "-h"):
        place = args.index(flag) + 1 if flag in args else len(args)
        if place < len(args) and not args[place].startswith("-"):
            return [*args[:place], *args[place + 1 :]], args[place]
    return args, None


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]
