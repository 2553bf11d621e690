"""Every verb of dropquery: those that fit and ask networks read one YAML."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytorch_lightning as pl
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader
from jsonargparse.typing import ClosedUnitInterval
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import rank_zero_info
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from acquisition.seeding import derive_seed
from annotators.assign import assign
from annotators.review import review
from callbacks.cycle import CycleCheckpoint, CycleMetrics, StepSeed, WholeCheckpoints, read_checkpoint
from callbacks.predictions import StopSetPredictions, prediction_writer
from callbacks.processes import is_first_process, others_explained
from callbacks.progress import ProgressFile
from callbacks.query import QueryCallback
from callbacks.tracking import WandbSettings, open_run
from datamodules.pool import PoolDataModule
from pipelines.command import config_files, with_command_last
from pipelines.cycles import Experiment, held, keep_query, run_cycles, run_directory
from pipelines.ensemble import Members, member_jobs, multi_annotator
from pipelines.grid import Grid
from pipelines.jobs import Job, outcome_summary
from pipelines.settings import check_run_dir, parse_yaml, read_yaml, with_limit
from pipelines.stacked import Parts
from pipelines.stopping import StoppingCriterion
from pipelines.study import Planner, run_part, run_study
from pipelines.study import jobs_of as study_jobs
from pipelines.submit import submit
from pipelines.trainer import QueryTrainer
from records.run_directory import RunDirectory
from reports.analyses import analyse
from reports.difficulty import compare
from reports.learning_curve import area_sentence, main_metric, write_curve
from reports.study import report, write_study_report

__all__ = ["DropqueryCLI", "jobs_of", "main"]

PLAIN_VERBS: dict[str, Callable[..., None]] = {
    "analyse": analyse,
    "assign": assign,
    "compare": compare,
    "report": report,
    "review": review,
    "submit": submit,
}
"""Verbs that need no model: functions whose typed arguments are the options and whose docstring is the help."""

_MAY_CHANGE = (
    "run_dir", "data.init_args.run_dir", "cycles", "stop", "full_score", "members", "data.init_args.num_workers",
    "trainer.devices", "trainer.accelerator", "trainer.num_nodes", "trainer.enable_progress_bar",
    "wandb.mode", "wandb.group", "ckpt_path", "weights_only", "doctor",
)  # fmt: skip
"""Settings that a continued experiment may change: where it stands and runs, how it reports, how long it goes on, and
what is done with its networks afterwards."""

_JOB_VERBS = ("ensemble", "study")
"""Verbs that consist of independent jobs; VERB_jobs says which."""

_EXPERIMENT: list[tuple[str, Any, Any, str]] = [
    ("--run_dir", str, "runs/default", "Folder for everything that the experiment leaves behind."),
    ("--cycles", int, 1, "fit: active-learning cycles in all; 1 is plain training on the labelled split."),
    (
        "--full_score",
        ClosedUnitInterval | None,
        None,
        "fit, study: the score of training on the whole pool, where the normalised area is 1; None for no such area.",
    ),
    ("--warm_start", bool, False, "fit: start each cycle from the weights of the one before, not from scratch."),
    (
        "--initial_models",
        str | None,
        None,
        "fit: folder in which strategies with equal seed, settings and initial set share their first model.",
    ),
    (
        "--stop",
        list[StoppingCriterion] | None,
        None,
        "fit: criteria, by class_path, of which the first that fires ends the cycles (see pipelines.stopping).",
    ),
]


set_loader("yaml", with_limit(get_loader("yaml")), (yaml.YAMLError,))


class DropqueryCLI(LightningCLI):
    """LightningCLI with the verb query, and a fit that runs whole active-learning cycles."""

    def __init__(self, args: list[str], **options: Any) -> None:
        # a study completes the settings of its fits
        self._named = {*args, "fit"} if "study" in args else set(args)
        super().__init__(args=args, **options)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's verbs and ours, each with the arguments that the CLI fills in."""
        ours = {"query": set(), "ensemble": {"members", "group"}, "difficulty": {"members"}, "study": set()}
        return {**LightningCLI.subcommands(), **{verb: {"model", "datamodule"} | own for verb, own in ours.items()}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what an experiment is, beside model, data and trainer."""
        for name, kind, default, what in _EXPERIMENT:
            parser.add_argument(name, type=kind, default=default, help=what)
        parser.add_lightning_class_args(QueryCallback, "strategy")
        parser.add_class_arguments(WandbSettings, "wandb")
        parser.add_class_arguments(Members, "members")
        parser.add_class_arguments(Grid, "grid")
        parser.link_arguments("run_dir", "data.init_args.run_dir")
        parser.link_arguments("seed_everything", "data.init_args.seed")

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """A trainer whose files go to the run directory; a fit's also leaves behind what its cycle promises."""
        config = self.config_init[self.subcommand]
        run_dir = Path(config.run_dir)
        ours: list[pl.Callback] = []
        if self.subcommand == "fit":
            last = bool(getattr(self.model, "keeps_last", False))
            metrics = CycleMetrics(RunDirectory(run_dir).cycle(self._cycle), self.model.monitor, last)
            # CycleMetrics stands before the query: a fit counts as done before its query starts
            ours = [
                StepSeed(config.seed_everything, self._cycle),
                metrics,
                CycleCheckpoint(metrics),
                ProgressFile(run_dir, self._cycle, config.cycles),
            ]
            if any(criterion.needs_predictions for criterion in _listed(config.stop)):
                ours.append(StopSetPredictions(metrics))
            loggers = [x for x in (self._logger, *_listed(config.trainer.logger)) if isinstance(x, Logger)]
            kwargs["logger"] = loggers or False
            plugins = _listed(config.trainer.plugins)
            if not any(isinstance(p, CheckpointIO) for p in plugins):
                kwargs["plugins"] = [*plugins, WholeCheckpoints()]
        else:
            kwargs |= {"logger": False, "enable_checkpointing": False}
        if self.subcommand == "predict":
            ours = [prediction_writer(self.model, RunDirectory(run_dir).predictions)]
        if config.trainer.enable_progress_bar is None:
            kwargs["enable_progress_bar"] = sys.stderr.isatty()
        callbacks = [*ours, *_listed(config.trainer.callbacks)]
        return super().instantiate_trainer(default_root_dir=run_dir, callbacks=callbacks, **kwargs)

    def before_instantiate_classes(self) -> None:
        """Refuse a run directory that nobody means."""
        if self.subcommand not in PLAIN_VERBS:
            check_run_dir(self.config[self.subcommand].run_dir)

    def instantiate_classes(self) -> None:
        """Make the objects of the verb; those of a fit or a study are made afresh by each cycle."""
        if self.subcommand in PLAIN_VERBS:
            self.config_init = self.config
        elif self.subcommand not in ("fit", "study"):
            super().instantiate_classes()

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        super()._add_subcommands(parser, **kwargs)
        added = next(a for a in parser._actions if hasattr(a, "add_subcommand"))
        for name, function in PLAIN_VERBS.items():
            own = ArgumentParser(description=(function.__doc__ or "").partition("Args:")[0])
            own.add_function_arguments(function, as_group=False, skip={"expand"})
            added.add_subcommand(name, own, help=(function.__doc__ or "").splitlines()[0])

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        # a verb's arguments cost most of the time that a command line takes: only one that is named gets them
        if self._named.isdisjoint({*self.subcommands(), *PLAIN_VERBS}) or subcommand in self._named:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        return self.init_parser(**kwargs)

    def _parse_ckpt_path(self) -> None:
        """A checkpoint brings weights; the settings are those of the command line, whatever the file says."""

    def _set_seed(self) -> None:
        if self.subcommand not in PLAIN_VERBS:
            seed = self.config[self.subcommand].seed_everything
            if not 0 <= seed < 2**32:
                raise ValueError(f"--seed_everything must be from 0 to {2**32 - 1}, got {seed}")
            super()._set_seed()

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand in PLAIN_VERBS:
            settings = self.config_init[subcommand].as_dict()
            settings.pop("config", None)
            PLAIN_VERBS[subcommand](**settings, **({"expand": jobs_of} if subcommand == "submit" else {}))
            return
        # Lightning would look up the verb on a trainer, and a fit has none before its first cycle
        if subcommand in ("fit", "study", "ensemble", "difficulty"):
            getattr(self, subcommand)()
            return
        config = self.config_init[subcommand]
        if config.ckpt_path is not None:
            config.ckpt_path = _checked_checkpoint(config.ckpt_path, self.model)
        elif subcommand != "query" or (config.strategy.scorer.needs_network and not config.doctor):
            raise ValueError(
                f"{subcommand} needs trained weights, got no --ckpt_path; give one, such as "
                f"{RunDirectory(Path(config.run_dir)).cycle(0).best}"
            )
        if subcommand == "query":
            with held(Path(config.run_dir)):
                if not config.doctor:
                    _check_fitted(Path(config.run_dir), self.datamodule.ledger.cycle)
                    keep_query(Path(config.run_dir), self._settings("query"), _MAY_CHANGE)
                super()._run_subcommand(subcommand)
        else:
            super()._run_subcommand(subcommand)

    def fit(self) -> None:
        """Run the cycles, redraw the learning curve after each, and print it at the end."""
        config = self.config["fit"]
        _check_cycles(config.cycles)
        if config.ckpt_path is not None:
            raise ValueError(
                f"fit takes no --ckpt_path, got {config.ckpt_path}; leave it out: fit goes on from --run_dir"
            )
        if config.trainer.fast_dev_run:
            raise ValueError(
                "fit needs the checkpoints that trainer.fast_dev_run does not write; for a quick try set "
                "--trainer.max_epochs 1 --trainer.limit_train_batches 1 instead"
            )
        if config.trainer.check_val_every_n_epoch == 0:
            raise ValueError("trainer.check_val_every_n_epoch must be at least 1, or null, got 0")
        run_dir = Path(config.run_dir)
        dump = self._settings("fit")
        settings = parse_yaml(dump)
        with run_directory(run_dir, dump, _MAY_CHANGE):
            self._logger = open_run(config.wandb, run_dir, settings)
            for key in (
                "run_dir", "cycles", "strategy", "wandb", "initial_models", "members", "stop", "grid", "full_score",
            ):  # fmt: skip
                settings.pop(key, None)
            settings["data"]["init_args"].pop("run_dir", None)
            initial_models = Path(config.initial_models) if config.initial_models else None
            curve = None
            for _ in run_cycles(self._experiment, run_dir, config.cycles, config.warm_start, initial_models, settings):
                if is_first_process():
                    curve = write_curve(run_dir)
            if curve is not None:
                _print_curve(curve, run_dir, config.full_score)

    def ensemble_jobs(self) -> list[Job]:
        """The fits of `ensemble`, with their common settings kept as config.yaml in the run directory."""
        config, run_dir = self.config_init["ensemble"], Path(self.config_init["ensemble"].run_dir)
        if config.cycles != 1:
            raise ValueError(f"the members of an ensemble are plain fits: expected --cycles 1, got {config.cycles}")
        if config.initial_models is not None:
            raise ValueError(
                f"the members share no initial model, got --initial_models {config.initial_models}; leave it out"
            )
        jobs = member_jobs(run_dir, config.members, multi_annotator(self.datamodule), config.wandb.group)
        with run_directory(run_dir, self._settings("ensemble"), _MAY_CHANGE):
            return jobs

    def ensemble(self) -> None:
        """Train the members that are missing; what failed is named at the end."""
        self.ensemble_jobs()
        config = self.config_init["ensemble"]
        assert isinstance(self.trainer, QueryTrainer)
        with held(Path(config.run_dir)):
            outcomes = self.trainer.ensemble(self.model, self.datamodule, config.members, config.wandb.group)
        print(outcome_summary(outcomes))
        if any(o.state == "failed" for o in outcomes):
            sys.exit(1)

    def difficulty(self) -> None:
        """Predict what is missing, then compare."""
        config = self.config_init["difficulty"]
        assert isinstance(self.trainer, QueryTrainer)
        with run_directory(Path(config.run_dir), self._settings("difficulty"), _MAY_CHANGE):
            self.trainer.difficulty(self.model, self.datamodule, config.members)
            compare(Path(config.run_dir))

    def _settings(self, verb: str) -> str:
        dumped: str = self._parser(verb).dump(self.config[verb], skip_unset=False)
        return dumped

    def study(self) -> None:
        """Do the runs of a study that are missing, gather study.csv and write the report; exit 1 if one failed."""
        whole = _, grid, root, _ = self._study()
        if grid.part is not None:
            run_part(*whole)
            return
        with run_directory(root, self._settings("study"), _MAY_CHANGE):
            failed = run_study(*whole)
            write_study_report(root, full_score=self.config["study"].full_score)
        if failed:
            sys.exit(1)

    def study_jobs(self) -> list[Job]:
        """What is missing of a study, with its settings kept as config.yaml in the run directory."""
        whole = _, grid, root, _ = self._study()
        if grid.part is not None:
            return []
        with run_directory(root, self._settings("study"), _MAY_CHANGE):
            return study_jobs(*whole)

    def _study(self) -> tuple[dict[str, Any], Grid, Path, Planner]:
        """Its settings, what it consists of, its folder, and what this command line knows."""
        config = self.config["study"]
        _check_cycles(config.cycles)
        self._configs: dict[str, Namespace] = {}
        settings = parse_yaml(self._settings("study"))
        planner = Planner(self._complete, self._parts, _MAY_CHANGE)
        return settings, Grid(**config.grid.as_dict()), Path(config.run_dir), planner

    def _complete(self, settings: dict[str, Any]) -> str:
        return self._parser("fit").dump(self._parsed(settings), skip_unset=False)

    def _parsed(self, settings: dict[str, Any]) -> Namespace:
        # parsing costs a tenth of a second, and every cycle of a run asks for it
        key = settings["run_dir"]
        if key not in self._configs:
            self._configs[key] = self._parser("fit").parse_object(settings)
        return self._configs[key]

    def _parts(self, settings: dict[str, Any], cycle: int) -> Parts:
        config = self._parsed(settings)
        _seed_cycle(config.seed_everything, cycle)
        made = self._parser("fit").instantiate(config)
        return Parts(made.model, made.data, made.strategy)

    def _experiment(self, cycle: int) -> Experiment:
        self._cycle = cycle
        _seed_cycle(self.config["fit"].seed_everything, cycle)
        super().instantiate_classes()
        assert isinstance(self.trainer, QueryTrainer)
        config = self.config_init["fit"]
        return Experiment(self.trainer, self.model, self.datamodule, config.strategy, _listed(config.stop))


class _JobsCLI(DropqueryCLI):
    """Reads a verb's settings and asks for its jobs instead of running it."""

    def _run_subcommand(self, subcommand: str) -> None:
        self.jobs: list[Job] = getattr(self, f"{subcommand}_jobs")()


def jobs_of(command: list[str]) -> list[Job]:
    """The jobs that a verb with these arguments consists of; none for a verb that is one job."""
    if command[0] not in _JOB_VERBS:
        return []
    cli = _run(_JobsCLI, command)
    assert isinstance(cli, _JobsCLI)
    return cli.jobs


def main(args: list[str] | None = None) -> None:
    """Entry point of `dropquery` and `python cli.py`: one sentence for a user's mistake, no traceback."""
    # hints about workers and tensor cores, and warnings about our own choices, are not for users
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_ours)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    warnings.filterwarnings("ignore", message=".*pytorch_lightning.*")
    args = sys.argv[1:] if args is None else args
    if args[:1] == ["submit"]:
        args = ["submit", *with_command_last(args[1:])]
    try:
        with others_explained():
            _run(DropqueryCLI, args)
    except (ValueError, OSError, yaml.YAMLError, MisconfigurationException) as error:
        if os.environ.get("DROPQUERY_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            error = OSError("the disk is full; make room, then start the same command again: nothing labelled is lost")
        print(f"dropquery: error: {_sentence(str(error))}\n(set DROPQUERY_TRACEBACK=1 to see where)", file=sys.stderr)
        sys.exit(1)


def _run(cli: type[DropqueryCLI], args: list[str]) -> DropqueryCLI:
    for path in config_files(args):
        read_yaml(path)  # the parser would not say which of them is broken
    return cli(
        args,
        model_class=pl.LightningModule,
        datamodule_class=PoolDataModule,
        trainer_class=QueryTrainer,
        trainer_defaults={"use_distributed_sampler": False, "log_every_n_steps": 1, "num_sanity_val_steps": 0},
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        save_config_callback=None,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
    )


def _seed_cycle(seed: int, cycle: int) -> None:
    """Before a cycle's objects are made: initial weights depend on (seed, cycle) alone."""
    pl.seed_everything(derive_seed(seed, "cycle", cycle) % 2**32, workers=True, verbose=False)


def _listed(setting: Any) -> list[Any]:
    """A setting that Lightning takes as one thing, several or none, as a list."""
    if setting is None:
        return []
    return list(setting) if isinstance(setting, (list, tuple)) else [setting]


def _check_cycles(cycles: int) -> None:
    if cycles < 1:
        raise ValueError(f"--cycles must be at least 1, got {cycles}")


def _checked_checkpoint(path: str, module: pl.LightningModule) -> str:
    """The whole name of a file with this network's weights; anything else is refused, before Lightning looks at it.

    Lightning would fetch what begins like an address, run the code in it, and take "best" and "last" for words.
    """
    if "://" in path:
        raise ValueError(f"--ckpt_path must be a file on this machine, got {path}; fetch it first")
    if not Path(path).is_file():
        raise ValueError(f"expected a checkpoint at {path}, got no such file; give one, such as a cycle's best.ckpt")
    saved = read_checkpoint(Path(path), "give another file")["state_dict"]
    own = module.state_dict()
    shapes, ours = ({k: v.shape for k, v in x.items() if isinstance(v, torch.Tensor)} for x in (saved, own))
    wrong = sorted(k for k in ours.keys() | shapes.keys() if ours.get(k) != shapes.get(k))
    if wrong:
        raise ValueError(
            f"the checkpoint {path} belongs to another network than model.network describes ({len(wrong)} tensors "
            f"differ, {wrong[0]} first); give the settings it was trained with, which stand in its run's config.yaml"
        )
    if broken := [k for k in shapes if not torch.isfinite(saved[k]).all()]:
        raise ValueError(
            f"the checkpoint {path} has weights that are not numbers (in {broken[0]} first), so its training went "
            "wrong; give another, or train again with a lower learning rate"
        )
    return str(Path(path).absolute())


def _check_fitted(run_dir: Path, cycle: int) -> None:
    """In the run directory of a fit, refuse to query a cycle that has not been trained: its turn would be skipped."""
    run = RunDirectory(run_dir)
    if run.config.is_file() and not run.cycle(cycle).is_fitted:
        raise ValueError(
            f"cycle {cycle} of {run_dir} has not been trained, so it cannot be queried; run fit with --cycles "
            f"{cycle + 1} first, or choose another --run_dir"
        )


def _sentence(message: str) -> str:
    """The part of an error that is for the user, freed from what others wrapped around it."""
    lines = message.strip().splitlines() or ["unknown"]
    if lines[0].startswith("Caught "):  # a data loader's worker sends its traceback; the sentence is its last line
        return lines[-1].partition(": ")[2]
    if lines[0].startswith("Does not validate"):  # jsonargparse, when a class's own check failed
        reasons = (line.strip(" -") for line in lines if line.lstrip().startswith("- "))
        return next((r for r in reasons if not r.startswith("Does not validate")), message)
    return message


def _is_ours(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(("💡", "Tip:"))


def _print_curve(curve: pd.DataFrame, run_dir: Path, full_score: float | None) -> None:
    score = main_metric(curve)
    others = [f"last/{score}", "val/pixel_accuracy", "val/balanced_accuracy"]
    shown = ["cycle", "labelled_units", "labelled_pixels", "epoch", score, *others]
    rank_zero_info("\n" + curve[[c for c in shown if c in curve]].round(4).to_string(index=False))
    if len(curve) > 1:
        rank_zero_info(f"\n{area_sentence(curve, score, full_score)}")
    curve_picture = RunDirectory(run_dir).learning_curve_picture
    rank_zero_info(f"curve:    {curve_picture}\npictures: {run_dir}/cycles/*/maps/*.png")


if __name__ == "__main__":
    main()
