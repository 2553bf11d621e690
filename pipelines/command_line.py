"""The verbs of an experiment, with model, data and trainer: LightningCLI with our own verbs and settings."""

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities import rank_zero_info

from callbacks.processes import is_first_process, others_explained
from callbacks.tracking import log_cycles, log_study, open_run
from datamodules.datamodule import PoolDataModule
from pipelines.checkpoint_path import check_fitted, checked_checkpoint, no_weights
from pipelines.class_names import import_named
from pipelines.command import as_verb, config_files, without_defaults
from pipelines.cycles import Experiment, Run, run_cycles
from pipelines.data_defaults import fill_from_data
from pipelines.ensemble import member_jobs, several_annotators
from pipelines.experiment_settings import (
    LINKED,
    MAY_CHANGE,
    TYPES,
    add_experiment,
    check_experiment,
    settings_of_first_fit,
)
from pipelines.fit_settings import FitSettings, seed_cycle
from pipelines.grid import StudyGrid
from pipelines.jobs import Job, say_outcomes
from pipelines.lightning_cli import VerbCLI
from pipelines.messages import arrange_messages
from pipelines.plain_verbs import function_at
from pipelines.run_access import keep_query, run_directory, working_in
from pipelines.settings import check_current, check_run_dir, parse_yaml, read_yaml
from pipelines.single import LightningFitter
from pipelines.start import START_OPTIONS, make_with_weights, naming_start
from pipelines.stopping import CycleEnd
from pipelines.study import Planner, run_part, run_study, study_jobs
from pipelines.suspect_ranking import check_samples
from pipelines.suspects import fold_jobs, judging
from pipelines.trainer import QueryTrainer
from pipelines.trainer_options import fit_options, trainer_options
from pipelines.verbosity import is_verbose

__all__ = ["DropqueryCLI", "check_names", "jobs_of_experiment", "run_experiment_verb"]


_WORDS = {
    "fit": "Train a network, and with --cycles go through active-learning cycles: fit, evaluate, query, label. Started "
    "again, the same command goes on where it was.",
    "validate": "Score a network (--ckpt_path) on the validation split.",
    "test": "Score a network (--ckpt_path) on the test split.",
    "predict": "Write the predictions of a network (--ckpt_path) for the pool, as pictures or a table, into the run "
    "directory.",
}
"""What those verbs do that are Lightning's own."""

_GROUPS = {"members": ("ensemble", "difficulty"), "suspicion": ("suspects",), "grid": ("study",)}


class DropqueryCLI(VerbCLI):
    """LightningCLI with the verb query, and a fit that runs whole active-learning cycles.

    Args:
        args: The command line, without the program's name.
        reports: What is drawn when a verb is done, as module:function (`cli.REPORTS`).
        dry: Whether jobs are only listed: nothing that stands in their folders is removed.

    """

    trainer: QueryTrainer
    linked = tuple(LINKED)
    own_verbs = ("study",)
    types = {"model": pl.LightningModule, "data": PoolDataModule, "trainer": QueryTrainer, **TYPES}

    def __init__(self, args: list[str], reports: Mapping[str, str], dry: bool = False) -> None:
        self._reports, self._dry = reports, dry
        super().__init__(
            without_defaults(args, self._of_other_verbs(args[0])),
            # a study completes the settings of its fits
            parsed=["fit"] if "study" in args else [],
            model_class=pl.LightningModule,
            datamodule_class=PoolDataModule,
            trainer_class=QueryTrainer,
            trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 1, "num_sanity_val_steps": 0},
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's verbs, each with the arguments that the CLI fills in."""
        ours = {"query": set(), "pixels": set(), "ensemble": {"members", "group"}, "difficulty": {"members"}}
        ours |= {"start": {"weights"}, "suspects": {"suspicion", "settings", "may_change"}}
        return {**LightningCLI.subcommands(), **{verb: {"model", "datamodule"} | own for verb, own in ours.items()}}

    def _of_other_verbs(self, verb: str) -> dict[str, Any]:
        """Defaults of options that other verbs have; a run's config.yaml holds those of the verb that wrote it."""
        options = {v: inspect.signature(getattr(QueryTrainer, v)).parameters for v in self.subcommands()}
        others = {name: p.default for v, found in options.items() for name, p in found.items()}
        # null says nothing, and must not undo an option that stands before the file
        return {
            name: default for name, default in others.items() if default is None or name not in options.get(verb, ())
        }

    def description_of(self, verb: str) -> str:
        """What a verb does: the docstring of its method."""
        method = getattr(QueryTrainer if hasattr(QueryTrainer, verb) else self, verb)
        return _WORDS.get(verb) or (inspect.getdoc(method) or "").partition("\nArgs:")[0]

    def groups_of_others(self, verb: str) -> Collection[str]:
        """Groups of settings that a verb reads over, because they are other verbs'."""
        return {group for group, verbs in _GROUPS.items() if verb not in verbs}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what an experiment is, beside model, data and trainer."""
        add_experiment(parser)

    def fill_in(self, config: Namespace, given: Callable[[], Namespace]) -> None:
        """Numbers of classes and sizes come from the data where they are left out."""
        fill_from_data(config, given)

    def before_instantiate_classes(self) -> None:
        """Refuse a run directory that nobody means."""
        check_run_dir(self.config[self.subcommand].run_dir)

    def instantiate_classes(self) -> None:
        """Make the objects of the verb; those of a fit or a study are made afresh by each cycle."""
        if self.subcommand == "start":
            self._weights = make_with_weights(self.config["start"].model, super().instantiate_classes)
        elif self.subcommand not in ("fit", "study"):
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """A trainer whose files go to the run directory; a fit's also leaves behind what its cycle promises."""
        config = self.config_init[self.subcommand]
        if self.subcommand == "fit":
            self._end = CycleEnd(Path(config.run_dir), self._cycle, self._last, config.stop or ())
            config.strategy = config.strategy.asking(self._end)
            kwargs |= fit_options(config, self.model, self._cycle, self._logger)
        else:
            kwargs |= trainer_options(str(self.subcommand), config, self.model)
        return super().instantiate_trainer(**kwargs)

    def run_verb(self, verb: str) -> None:
        """Run a verb of our own, or one of the trainer's with weights that were checked."""
        # Lightning would look up the verb on a trainer, and a fit has none before its first cycle
        if verb in ("start", "fit", "study", "ensemble", "difficulty", "suspects"):
            getattr(self, verb)()
            return
        config = self.config_init[verb]
        run_dir = Path(config.run_dir)
        if config.ckpt_path is not None:
            config.ckpt_path = checked_checkpoint(config.ckpt_path, self.model)
        elif verb != "query" or (config.strategy.scorer.asks_learner and not config.doctor):
            raise no_weights(verb, run_dir)
        if verb not in ("query", "pixels"):
            super().run_verb(verb)
            return
        with working_in(run_dir):
            if verb == "query" and not config.doctor:
                check_fitted(run_dir, self.datamodule.pool.ledger.cycle)
                keep_query(run_dir, self.settings_of("query"), MAY_CHANGE)
            super().run_verb(verb)
            if verb == "query" and not config.doctor and is_first_process():
                self._report("page")(run_dir)

    def fit(self) -> None:
        """Run the cycles, redraw the learning curve after each, and print it at the end."""
        config = self.config["fit"]
        check_experiment("fit", config)
        run_dir = Path(config.run_dir)
        dump = self.settings_of("fit")
        settings = parse_yaml(dump)
        with run_directory(run_dir, dump, MAY_CHANGE):
            self._logger = open_run(config.wandb, run_dir, settings)
            initial_models = Path(config.initial_models) if config.initial_models else None
            fitter = LightningFitter(config.warm_start, initial_models, settings_of_first_fit(settings))
            curve = None
            with naming_start(as_verb(self.command, "start")):
                for _ in run_cycles([Run(run_dir, self._experiment)], fitter, config.cycles):
                    if is_first_process():
                        curve = self._report("curve")(run_dir)
                        summary = self._report("curve_summary")(curve, config.full_score, config.wandb.target)
                        log_cycles(self._logger, summary)
            if curve is not None:
                text = self._report("curve_text")(curve, run_dir, config.full_score)
                rank_zero_info(f"\n{text}")

    def start(self) -> None:
        """Write the list of what to draw, and say what the data set holds and what to type next."""
        config = self.config_init["start"]
        options = {name: config[name] for name in START_OPTIONS}
        with working_in(Path(config.run_dir)):
            found = self.trainer.start(self.model, self.datamodule, **options, weights=self._weights)
        print(found.text(as_verb(self.command, "start"), as_verb(self.command, "fit", START_OPTIONS)))

    def ensemble_jobs(self) -> list[Job]:
        """The fits of `ensemble`, with their common settings kept as config.yaml in the run directory."""
        config, run_dir = self.config_init["ensemble"], Path(self.config_init["ensemble"].run_dir)
        check_experiment("ensemble", config)
        jobs = member_jobs(run_dir, config.members, several_annotators(self.datamodule), config.wandb.group)
        with run_directory(run_dir, self.settings_of("ensemble"), MAY_CHANGE):
            return jobs

    def ensemble(self) -> None:
        """Train the members that are missing; what failed is named at the end."""
        self.ensemble_jobs()
        config = self.config_init["ensemble"]
        with working_in(Path(config.run_dir)):
            say_outcomes(self.trainer.ensemble(self.model, self.datamodule, config.members, config.wandb.group))

    def difficulty(self) -> None:
        """Predict what is missing, then compare."""
        config = self.config_init["difficulty"]
        with run_directory(Path(config.run_dir), self.settings_of("difficulty"), MAY_CHANGE):
            self.trainer.difficulty(self.model, self.datamodule, config.members)
            self._report("difficulty")(Path(config.run_dir))

    def suspects_jobs(self) -> list[Job]:
        """The fits of `suspects`, one per fold of the labelled units."""
        config = self.config_init["suspects"]
        with judging(Path(config.run_dir)):
            check_samples(config.suspicion, self.model, self.datamodule)
            return fold_jobs(self.datamodule, config.suspicion, self.settings_of("suspects"), MAY_CHANGE, self._dry)

    def suspects(self) -> None:
        """Fit the folds that are missing, then rank the labelled units; what failed is named at the end."""
        config, settings = self.config_init["suspects"], self.settings_of("suspects")
        with judging(Path(config.run_dir)):
            say_outcomes(self.trainer.suspects(self.model, self.datamodule, config.suspicion, settings, MAY_CHANGE))

    def study(self) -> None:
        """Run strategies x seeds x any settings (grid), paired by seed, and compare them in tables and figures.

        Does the runs that are missing, gathers study.csv and writes the report; exits with 1 if a run failed.
        """
        whole = _, grid, root, _ = self._study()
        if grid.part is not None:
            run_part(*whole)
            return
        with run_directory(root, self.settings_of("study"), MAY_CHANGE):
            failed = run_study(*whole)
            self._report("study")(root, full_score=self.config["study"].full_score)
            table = self._report("study_table")(root)
            log_study(self.config["study"].wandb, root, whole[0], table, self._report("mean_curves")(table))
        if failed:
            sys.exit(1)

    def study_jobs(self) -> list[Job]:
        """What is missing of a study, with its settings kept as config.yaml in the run directory."""
        whole = _, grid, root, _ = self._study()
        if grid.part is not None:
            return []
        with run_directory(root, self.settings_of("study"), MAY_CHANGE):
            return study_jobs(*whole)

    def _study(self) -> tuple[dict[str, Any], StudyGrid, Path, Planner]:
        """Its settings, what it consists of, its folder, and what this command line knows."""
        config = self.config["study"]
        check_experiment("study", config)
        fits = FitSettings(self.parser_of("fit"))
        planner = Planner(fits.complete, fits.parts, MAY_CHANGE)
        return parse_yaml(self.settings_of("study")), StudyGrid(**config.grid.as_dict()), Path(config.run_dir), planner

    def _report(self, name: str) -> Callable[..., Any]:
        return function_at(self._reports[name])

    def _experiment(self, cycle: int, last: bool) -> Experiment:
        self._cycle, self._last = cycle, last
        seed_cycle(self.config["fit"].seed_everything, cycle)
        super().instantiate_classes()
        return Experiment(self.model, self.datamodule, self.config_init["fit"].strategy, self._end, self.trainer)


class _JobsCLI(DropqueryCLI):
    """Reads a verb's settings and asks for its jobs instead of running it."""

    def run_verb(self, verb: str) -> None:
        self.jobs: list[Job] = getattr(self, f"{verb}_jobs")()


class _NamesCLI(DropqueryCLI):
    """Reads a verb's settings, and neither the data nor what they may complete."""

    complete = False

    def instantiate_classes(self) -> None:
        """Nothing is made."""

    def run_verb(self, verb: str) -> None:
        """Nothing is run."""


def check_names(command: list[str], reports: Mapping[str, str]) -> None:
    """Refuse a command with options or classes that do not exist; the data need not be there.

    Args:
        command: The verb and its arguments.
        reports: As in `run_experiment_verb`.

    """
    arrange_messages(is_verbose())
    _check_files(command)
    _NamesCLI(command, reports)


def jobs_of_experiment(command: list[str], reports: Mapping[str, str], dry: bool = False) -> list[Job]:
    """The jobs that a verb with these arguments consists of; none for a verb that is one job.

    Args:
        command: The verb and its arguments.
        reports: As in `run_experiment_verb`.
        dry: Whether they are only listed: nothing that stands there is removed.

    """
    if not hasattr(DropqueryCLI, f"{command[0]}_jobs"):
        return []
    _check_files(command)
    return _JobsCLI(command, reports, dry).jobs


def run_experiment_verb(args: list[str], reports: Mapping[str, str]) -> None:
    """Run a verb with model, data and trainer.

    Args:
        args: The command line, without the program's name.
        reports: What is drawn when it is done: see `DropqueryCLI`.

    """
    arrange_messages(is_verbose())
    with others_explained():
        _check_files(args)
        DropqueryCLI(args, reports)


def _check_files(args: list[str]) -> None:
    words = [word for arg in args for word in re.findall(r"\w+", arg)]
    for path in config_files(args):
        # the parser would not say which of them is broken, or what has become of its settings
        settings = read_yaml(path)
        check_current(path, settings)
        words += _texts(settings)
    import_named(words)


def _texts(settings: Any) -> Iterator[str]:
    """Every text among the values, wherever it stands."""
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, (dict, list)):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _texts(value)
