"""Weights & Biases: one run for a whole experiment."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, WandbLogger

from callbacks.processes import is_first_process
from records.files import replacing
from records.run_directory import RunDirectory

__all__ = ["WandbSettings", "open_run"]


@dataclass
class WandbSettings:
    """mode: offline needs no account and can be uploaded later with `wandb sync`; disabled writes nothing. group,
    job_type, tags: to find the runs of a study again. name: of the run, the run directory's unless given.
    """

    mode: Literal["online", "offline", "disabled"] = "offline"
    project: str = "dropquery"
    name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)


def open_run(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> Logger | bool:
    """A logger that every trainer of the experiment shares; False where W&B is disabled.

    The run's id is kept in the run directory, so a continued experiment continues its run. Curves are drawn over
    labelled units and labelled pixels: steps start again with every cycle's trainer.
    """
    if settings.mode == "disabled":
        return False
    if not is_first_process():
        return WandbLogger(save_dir=run_dir)
    import wandb

    id_file = RunDirectory(run_dir).wandb_id
    if not id_file.is_file():
        with replacing(id_file) as beside:
            beside.write_text(uuid.uuid4().hex[:8])
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
        # a killed process loses what was not flushed
        settings=wandb.Settings(x_transaction_log_flush_interval=1, silent=True),
    )
    run.define_metric("labelled_units")
    run.define_metric("labelled_pixels")
    run.define_metric("curve/*", step_metric="labelled_units")
    run.define_metric("curve_by_pixels/*", step_metric="labelled_pixels")
    return WandbLogger(experiment=run, save_dir=run_dir)
