"""Tracking with Weights & Biases: one W&B run for all cycles of an experiment."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from callbacks.processes import is_first_process
from callbacks.tracked_run import TrackedRun, warned
from callbacks.transaction_log import Logged
from records.files import write_text
from records.run_directory import RunDirectory

__all__ = ["WandbSettings", "log_cycles", "open_run"]


@dataclass
class WandbSettings:
    """Settings of Weights & Biases.

    Args:
        mode: offline needs no account and can be uploaded later with `wandb sync`; disabled writes nothing.
        project: The W&B project.
        name: Name of the W&B run; that of the run directory unless given, in a study STRATEGY-SEED.
        group: Group of the W&B run; in a study STUDY/STRATEGY unless given, so that W&B draws strategies as groups.
        job_type: Kind of the W&B run within its group.
        tags: Tags of the W&B run.
        images: Queried units shown with pictures per cycle, highest ranks first; 0 for none.
        checkpoints: Whether each cycle's best weights are logged as an artifact.
        target: Score in [0, 1] up to which labels are counted (labels_to_target); full_score unless given.

    Raises:
        ValueError: images is negative, or target lies outside [0, 1].
    """

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "dropquery"
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    images: int = 20
    checkpoints: bool = True
    target: float | None = None

    def __post_init__(self) -> None:
        if self.images < 0:
            raise ValueError(f"wandb.images must be 0 or more pictures per cycle, got {self.images}")
        if self.target is not None and not 0 <= self.target <= 1:
            raise ValueError(f"wandb.target must be a score in [0, 1], got {self.target}")


def open_run(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> Logger | bool:
    """Open or continue the experiment's W&B run.

    The run's id is kept in the run directory, so that a continued experiment continues its W&B run. Learning curves
    have labelled units and labelled pixels as their x axis, because steps restart with every cycle's trainer. Where no
    connection can be made the run is opened offline, with a warning.

    Args:
        settings: Settings of W&B.
        run_dir: The run directory.
        config: Settings of the experiment, to be recorded.

    Returns:
        A logger for the trainers of all cycles; False if W&B is disabled or cannot be opened.

    Raises:
        ValueError: A setting cannot be.
    """
    # the command line hands over what was parsed, which has the same names
    settings = WandbSettings(**vars(settings))
    if settings.mode == "disabled":
        return False
    if not is_first_process():
        return WandbLogger(save_dir=run_dir)
    if settings.mode == "online":
        try:
            return _opened(settings, run_dir, config, "online")
        except Exception as error:
            rank_zero_warn(
                f"Weights & Biases could not be reached ({type(error).__name__}: {error}); the run is logged offline: "
                f"upload it later with wandb sync {RunDirectory(run_dir).wandb}/offline-run-*"
            )
    with warned("no run could be opened"):
        return _opened(settings, run_dir, config, "offline")
    return False


def log_cycles(logger: Logger | bool, summary: Mapping[str, Any]) -> None:
    """Log what the cycles of a run have left and was not logged yet.

    Args:
        logger: From `open_run`.
        summary: What is known of the whole run.
    """
    if isinstance(logger, TrackedRun):
        logger.log_cycles(summary)


def _opened(
    settings: WandbSettings, run_dir: Path, config: dict[str, Any], mode: Literal["online", "offline"]
) -> TrackedRun:
    import wandb

    id_file = RunDirectory(run_dir).wandb_id
    if not id_file.is_file():
        write_text(id_file, uuid.uuid4().hex[:8])
    run_id = id_file.read_text()
    logged = Logged.of_run(run_dir, run_id)
    place, study = _place_in_study(run_dir)
    run = wandb.init(
        dir=run_dir,
        mode=mode,
        project=settings.project,
        name=settings.name or place.get("name") or run_dir.name,
        group=settings.group or place.get("group"),
        job_type=settings.job_type,
        tags=settings.tags,
        id=run_id,
        resume="allow",
        reinit="create_new",
        config=config | study,
        # flush often, because a killed process loses the rest; do not wait for ever where the network is gone
        settings=wandb.Settings(x_transaction_log_flush_interval=1, silent=True, init_timeout=60, finish_timeout=600),
    )
    for axis, curves in (("labelled_units", ("curve/*", "labelled/*")), ("labelled_pixels", ("curve_by_pixels/*",))):
        run.define_metric(axis)
        for name in curves:
            run.define_metric(name, step_metric=axis)
    return TrackedRun(run, run_dir, logged, settings.images, settings.checkpoints)


def _place_in_study(run_dir: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Name and group of a run of a study, and what its config says of its place there; nothing for other runs."""
    study = RunDirectory(run_dir).study
    if study is None:
        return {}, {}
    *_, variant, strategy, seed = run_dir.absolute().parts
    shown = [] if variant == "base" else [variant]
    place = {"group": "/".join([study.path.name, *shown, strategy]), "name": "-".join([*shown, strategy, seed])}
    return place, {"study_name": study.path.name, "variant_name": variant, "strategy_name": strategy}
