"""LightningCLI as this program's command line needs it; no other file uses a private name of it.

tests/test_contracts.py says which names those are and fails when a new Lightning changes one of them.
"""

import inspect
import logging
import warnings
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from jsonargparse import Namespace
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from callbacks.processes import is_first_process

__all__ = ["VerbCLI", "arrange_messages"]

_HINTS = (
    "💡", "Tip:", "`weights_only` was not set", "Loading `train_dataloader` to estimate", "`Trainer(",
    "`Trainer.fit` stopped", "TPU available: False", "HPU available: False",
)  # fmt: skip
"""How notes begin that help nobody."""


class VerbCLI(LightningCLI):
    """LightningCLI with verbs that no trainer has, and with parsers for the verbs of a command line alone.

    Args:
        args: The command line, without the program's name.
        parsed: Verbs that the command line does not name, but whose settings the named one reads.
        options: LightningCLI's own, but for those by which model and data are subclasses and nothing is set unasked.

    """

    linked: ClassVar[tuple[str, ...]] = ()
    """Options of every verb on which other settings depend."""

    own_verbs: ClassVar[tuple[str, ...]] = ()
    """Verbs with model, data and trainer settings that are methods of this class alone; the docstring is the help."""

    def __init__(self, args: list[str], parsed: Collection[str] = (), **options: Any) -> None:
        self.command = args
        self._named = {*args, *parsed}
        super().__init__(
            args=args,
            subclass_mode_model=True,
            seed_everything_default=0,
            save_config_callback=None,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            **options,
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the command line, and let `fill_in` complete it before anything is found missing."""
        assert isinstance(args, list)
        self.config = parser.parse_args(args, _skip_validation=True)
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


def arrange_messages() -> None:
    """Show what data sets say of themselves as Lightning shows its notes, and keep Lightning's hints from users.

    Hints are those about workers and tensor cores, warnings about our own choices, and what Lightning says of them in
    every cycle. Of several processes the first alone speaks of the data.
    """
    for handler in logging.getLogger("pytorch_lightning").handlers:
        handler.addFilter(_is_no_hint)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=".*pytorch_lightning.*")
    notes = logging.getLogger("datamodules")
    notes.handlers = logging.getLogger("pytorch_lightning").handlers
    notes.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    if not is_first_process():
        warnings.filterwarnings("ignore", module="datamodules")


def _first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _is_no_hint(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_HINTS)
