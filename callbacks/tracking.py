"""Tracking with Weights & Biases: one W&B run for all cycles of an experiment."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_warn

from callbacks.processes import is_first_process
from callbacks.tracked_run import TrackedRun, go_on, in_words, staged, warned
from callbacks.tracked_tables import as_table
from callbacks.transaction_log import STUDY, Logged
from records.files import write_text
from records.run_directory import RunDirectory

if TYPE_CHECKING:
    import wandb

__all__ = ["WandbSettings", "log_cycles", "log_study", "open_run"]

UNITS, PIXELS = "labelled_units", "labelled_pixels"
"""The x axes of learning curves."""

CONNECTING, UPLOADING = 60.0, 600.0
"""Seconds, after which a fit goes on, or ends, without the network."""


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
    with warned("no run could be opened"):
        logged = Logged.of_run(run_dir, _run_id(run_dir))
        place = _place_in_study(run_dir)
        run = _begun(_named(settings, place), run_dir, config | place)
        for name, axis in (("curve", UNITS), ("labelled", UNITS), ("curve_by_pixels", PIXELS)):
            run.define_metric(axis)
            run.define_metric(f"{name}/*", step_metric=axis)
        return TrackedRun(run, run_dir, logged, settings.images, settings.checkpoints)
    return False


def log_cycles(logger: Logger | bool, summary: Mapping[str, Any]) -> None:
    """Log what the cycles of a run have left and was not logged yet.

    Args:
        logger: From `open_run`.
        summary: What is known of the whole run.
    """
    if isinstance(logger, TrackedRun):
        logger.log_cycles(summary)


def log_study(
    settings: WandbSettings, root: Path, config: dict[str, Any], table: pd.DataFrame, curves: pd.DataFrame
) -> None:
    """Log a study as a W&B run of its own, unless its table has been logged: the table, and a chart of its strategies.

    The chart needs no grouping of runs, and runs that were fitted together have no W&B runs of their own.

    Args:
        settings: Settings of W&B.
        root: The study's folder.
        config: Settings of the study, to be recorded.
        table: study.csv.
        curves: A row per point: strategy (the name of its line), labelled_units and a third column, the score.
    """
    settings = WandbSettings(**vars(settings))
    if settings.mode == "disabled" or not is_first_process():
        return
    with warned("the study was not logged"):
        logged = Logged.of_run(root, _run_id(root))
        digest = hashlib.blake2b(table.to_csv().encode(), digest_size=8).hexdigest()
        if f"{STUDY} {digest}" in logged.pieces:
            return
        run = _begun(replace(settings, job_type=settings.job_type or "study"), root, config)
        go_on(run, logged)
        with staged(root):
            row = {STUDY: as_table(table), "digest": digest, "learning_curves": _chart(curves)}
            run.log(row)
        logged.note(row, Path(run.dir).parent.name)
        logged.write(root, run.step - 1)
        run.finish()


def _chart(curves: pd.DataFrame) -> Any:
    import wandb

    score = next(c for c in curves if c not in ("strategy", "labelled_units"))
    lines = dict(list(curves.groupby("strategy", sort=False)))
    return wandb.plot.line_series(
        xs=[line["labelled_units"].tolist() for line in lines.values()],
        ys=[line[score].tolist() for line in lines.values()],
        keys=list(lines),
        title=f"{score}, mean over seeds",
        xname="labelled units",
    )


def _run_id(run_dir: Path) -> str:
    file = RunDirectory(run_dir).wandb_id
    if not file.is_file():
        write_text(file, uuid.uuid4().hex[:8])
    return file.read_text()


def _begun(settings: WandbSettings, run_dir: Path, config: dict[str, Any]) -> "wandb.Run":
    """A W&B run, offline where it was to be online and cannot."""
    import wandb

    def begin(mode: Literal["online", "offline"]) -> wandb.Run:
        return wandb.init(
            dir=run_dir,
            mode=mode,
            project=settings.project,
            name=settings.name or run_dir.name,
            group=settings.group,
            job_type=settings.job_type,
            tags=settings.tags,
            id=_run_id(run_dir),
            resume="allow",
            reinit="create_new",
            config=config,
            settings=wandb.Settings(
                silent=True,
                # a killed process loses what it has not written
                x_transaction_log_flush_interval=1,
                init_timeout=CONNECTING,
                finish_timeout=UPLOADING,
            ),
        )

    if settings.mode == "online":
        try:
            return begin("online")
        # no network, no account: its classes change with its versions
        except Exception as error:
            rank_zero_warn(
                f"Weights & Biases could not be reached ({in_words(error)}); the run is logged offline: "
                f"upload it later with wandb sync {RunDirectory(run_dir).wandb}/offline-run-*"
            )
            # W&B's own process holds on to the run's id
            wandb.teardown()
    return begin("offline")


def _place_in_study(run_dir: Path) -> dict[str, str]:
    """Which run of a study it is; nothing for other runs."""
    study = RunDirectory(run_dir).study
    if study is None:
        return {}
    *_, variant, strategy, seed = run_dir.absolute().parts
    return {
        "study_name": study.path.name,
        "variant_name": "" if variant == "base" else variant,
        "strategy_name": strategy,
        "seed_name": seed,
    }


def _named(settings: WandbSettings, place: dict[str, str]) -> WandbSettings:
    """Settings with group and name of a study's run, unless they say another."""
    if not place:
        return settings
    study, *run, seed = (part for part in place.values() if part)
    group, name = "/".join([study, *run]), "-".join([*run, seed])
    return replace(settings, group=settings.group or group, name=settings.name or name)
