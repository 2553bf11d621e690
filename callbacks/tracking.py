"""Tracking with Weights & Biases: one W&B run for all cycles of an experiment."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, WandbLogger

from callbacks.processes import is_first_process
from records.files import write_text
from records.run_directory import RunDirectory

__all__ = ["WandbSettings", "open_run"]


@dataclass
class WandbSettings:
    """Settings of Weights & Biases.

    Args:
        mode: offline needs no account and can be uploaded later with `wandb sync`; disabled writes nothing.
        project: The W&B project.
        name: Name of the W&B run; that of the run directory unless given.
        group: Group of the W&B run, to find the runs of a study.
        job_type: Kind of the W&B run within its group.
        tags: Tags of the W&B run.
    """

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "dropquery"
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)


def open_run(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> Logger | bool:
    """Open or continue the experiment's W&B run.

    The run's id is kept in the run directory, so that a continued experiment continues its W&B run. Learning curves
    have labelled units and labelled pixels as their x axis, because steps restart with every cycle's trainer.

    Args:
        settings: Settings of W&B.
        run_dir: The run directory.
        config: Settings of the experiment, to be recorded.

    Returns:
        A logger for the trainers of all cycles; False if W&B is disabled.
    """
    if settings.mode == "disabled":
        return False
    if not is_first_process():
        return WandbLogger(save_dir=run_dir)
    import wandb

    id_file = RunDirectory(run_dir).wandb_id
    if not id_file.is_file():
        write_text(id_file, uuid.uuid4().hex[:8])
    run = wandb.init(
        dir=run_dir,
        mode=settings.mode,
        project=settings.project,
        name=settings.name or run_dir.name,
        group=settings.group,
        job_type=settings.job_type,
        tags=settings.tags,
        id=id_file.read_text(),
        resume="allow",
        reinit="create_new",
        config=config,
        # flush often, because a killed process loses the rest
        settings=wandb.Settings(x_transaction_log_flush_interval=1, silent=True),
    )
    run.define_metric("labelled_units")
    run.define_metric("labelled_pixels")
    run.define_metric("curve/*", step_metric="labelled_units")
    run.define_metric("curve_by_pixels/*", step_metric="labelled_pixels")
    return WandbLogger(experiment=run, save_dir=run_dir)
