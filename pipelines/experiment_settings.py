"""What an experiment's settings are beside model, data and trainer, and which of them may change on the way."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from jsonargparse.typing import ClosedUnitInterval
from pytorch_lightning.cli import LightningArgumentParser

from acquisition.predictors import MCDropout
from callbacks.query import QueryCallback
from callbacks.tracking import WandbSettings
from pipelines.ensemble import Members
from pipelines.grid import StudyGrid
from pipelines.initial_models import check_initial_run
from pipelines.stopping import StoppingCriterion
from pipelines.suspects import Suspicion
from records.study_directory import StudyDirectory

__all__ = ["LINKED", "MAY_CHANGE", "TYPES", "add_experiment", "check_experiment", "settings_of_first_fit"]

MAY_CHANGE = (
    "run_dir", "data.run_dir", "cycles", "stop", "full_score", "mc_evaluation", "members", "suspicion",
    "data.num_workers", "data.max_void", "trainer.devices", "trainer.accelerator", "trainer.num_nodes",
    "trainer.enable_progress_bar", "wandb.mode", "wandb.group", "wandb.images", "wandb.checkpoints", "wandb.target",
    "ckpt_path", "weights_only", "doctor", "strategy.gallery",
)  # fmt: skip
"""Settings that a continued experiment may change: where it stands and runs, how it reports, how long it goes on, and
what is done with its networks afterwards."""

LINKED = {"run_dir": "data.run_dir", "initial_run": "data.initial_run", "seed_everything": "data.seed"}
"""Settings that the data module takes from the experiment's."""

_OPTIONS: list[tuple[str, Any, Any, str]] = [
    ("--run_dir", str, "runs/default", "Folder for everything that the experiment leaves behind."),
    ("--cycles", int, 1, "fit: active-learning cycles in all; 1 is plain training on the labelled split."),
    (
        "--full_score",
        ClosedUnitInterval | None,
        None,
        "fit, study: the score of training on the whole pool, where the normalised area is 1; None for no such area.",
    ),
    ("--warm_start", bool, False, "fit: start each cycle from the weights of the last fitted one, not from scratch."),
    (
        "--initial_models",
        str | None,
        None,
        "fit: folder in which strategies with equal seed, settings and initial set share their first model.",
    ),
    (
        "--initial_run",
        str | None,
        None,
        "fit, study: directory of a run whose cycle 0 all runs here have, whatever their seed: its initial set, in the "
        "place of data.initial, and its model. The verb nearest finds one.",
    ),
    (
        "--stop",
        list[StoppingCriterion] | None,
        None,
        "fit: criteria, by class_path, of which the first that fires ends the cycles (see pipelines.stopping).",
    ),
    (
        "--mc_evaluation",
        MCDropout | None,
        None,
        "fit, validate, test: MC dropout whose mean prediction is scored too, as val/mc_NAME or test/mc_NAME; None for "
        "one pass with dropout off alone. A fit scores the weights that it keeps.",
    ),
]

_AFTER_FIRST_FIT = (
    "run_dir", "cycles", "strategy", "wandb", "initial_models", "initial_run", "members", "stop", "grid",
    "full_score", "suspicion",
)  # fmt: skip


TYPES: dict[str, Any] = {
    **{name.removeprefix("--"): kind for name, kind, _, _ in _OPTIONS},
    "strategy": QueryCallback,
    "wandb": WandbSettings,
    "members": Members,
    "suspicion": Suspicion,
    "grid": StudyGrid,
}
"""Types of an experiment's settings, and the classes whose arguments are groups of settings."""


def add_experiment(parser: LightningArgumentParser) -> None:
    """Give a verb's parser the settings of an experiment, and the data what it takes from them.

    Args:
        parser: One that has model, data and trainer.

    """
    for name, kind, default, what in _OPTIONS:
        parser.add_argument(name, type=kind, default=default, help=what)
    parser.add_lightning_class_args(QueryCallback, "strategy")
    for name in ("wandb", "members", "suspicion", "grid"):
        parser.add_class_arguments(TYPES[name], name)
    for name, target in LINKED.items():
        parser.link_arguments(name, target)


def settings_of_first_fit(settings: dict[str, Any]) -> dict[str, Any]:
    """What a cycle 0 depends on: strategies that have these in common may share their first model.

    Args:
        settings: The experiment's, as config.yaml holds them.

    """
    data = {k: v for k, v in settings["data"].items() if k not in ("run_dir", "initial_run", "max_void")}
    if data.get("mask_values") is None:
        # models of before this setting stay in common
        data.pop("mask_values", None)
    return {k: v for k, v in settings.items() if k not in _AFTER_FIRST_FIT} | {"data": data}


def check_experiment(verb: str, config: Namespace) -> None:
    """Refuse settings with which a verb cannot end well, before anything is written.

    Args:
        verb: fit, ensemble or study.
        config: Its settings.

    Raises:
        ValueError: One of them cannot be.

    """
    if verb == "ensemble":
        _check_ensemble(config)
        return
    if config.cycles < 1:
        raise ValueError(f"--cycles must be at least 1, got {config.cycles}")
    if verb == "fit":
        _check_fit(config)
    if config.initial_run is not None:
        _check_initial_run(config)


def _check_ensemble(config: Namespace) -> None:
    if config.cycles != 1:
        raise ValueError(f"the members of an ensemble are plain fits: expected --cycles 1, got {config.cycles}")
    if config.initial_models is not None:
        raise ValueError(
            f"the members share no initial model, got --initial_models {config.initial_models}; leave it out"
        )
    if config.initial_run is not None:
        raise ValueError(f"the members share no initial model, got --initial_run {config.initial_run}; leave it out")


def _check_fit(config: Namespace) -> None:
    if config.ckpt_path is not None:
        raise ValueError(f"fit takes no --ckpt_path, got {config.ckpt_path}; leave it out: fit goes on from --run_dir")
    if config.trainer.fast_dev_run:
        raise ValueError(
            "fit needs the checkpoints that trainer.fast_dev_run does not write; for a quick try set "
            "--trainer.max_epochs 1 --trainer.limit_train_batches 1 instead"
        )
    if config.trainer.check_val_every_n_epoch == 0:
        raise ValueError("trainer.check_val_every_n_epoch must be at least 1, or null, got 0")
    epochs, every = config.trainer.max_epochs, config.trainer.check_val_every_n_epoch
    if epochs is not None and every is not None and 1 <= epochs < every:
        raise ValueError(
            f"the fit would end without a validation: trainer.check_val_every_n_epoch is {every} and "
            f"trainer.max_epochs {epochs}; set trainer.check_val_every_n_epoch to {epochs} or less"
        )


def _check_initial_run(config: Namespace) -> None:
    if config.initial_models is not None:
        raise ValueError(
            f"a run has one first model, got --initial_run {config.initial_run} and --initial_models "
            f"{config.initial_models}; set one of them to null"
        )
    own = StudyDirectory(Path(config.run_dir))
    # what is copied is not looked for again, so that the run may be moved or removed
    if not (own.cycle(0).is_fitted or own.runs()):
        check_initial_run(Path(config.initial_run))
