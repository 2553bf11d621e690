"""What a verb's trainer is given beside its own settings: the files of the run directory, and what writes them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import CheckpointIO

from callbacks.cycle import CycleCheckpoint, CycleMetrics, StepSeed, WholeCheckpoints
from callbacks.mc_evaluation import MCEvaluation
from callbacks.predictions import StopSetPredictions, prediction_writer
from callbacks.progress import ProgressFile
from callbacks.progress_bar import FitLines, PhaseBar
from callbacks.tracked_run import TrackedRun
from pipelines.verbosity import is_verbose
from records.run_directory import RunDirectory

__all__ = ["fit_options", "trainer_options"]


def trainer_options(verb: str, config: Namespace, module: pl.LightningModule) -> dict[str, Any]:
    """Arguments of the trainer of any verb but fit, which logs nothing and keeps no checkpoints.

    Args:
        verb: The verb.
        config: Its settings, with their objects.
        module: The model.

    """
    ours: list[pl.Callback] = (
        [prediction_writer(module, RunDirectory(Path(config.run_dir)).predictions)] if verb == "predict" else []
    )
    if verb in ("validate", "test") and config.mc_evaluation is not None:
        ours.append(MCEvaluation(config.mc_evaluation, config.seed_everything))
    # Lightning's bar of these verbs would count no batches
    bar = PhaseBar() if verb in ("query", "pixels") else None
    return {"logger": False, "enable_checkpointing": False, **_common(config, ours, bar)}


def fit_options(config: Namespace, module: Any, cycle: int, logger: Logger | bool) -> dict[str, Any]:
    """Arguments of the trainer of one cycle's fit, which leaves behind what its cycle promises.

    Args:
        config: The settings of fit, with their objects.
        module: The model; its `monitor` says which validation is the best, its `keeps_last` that the last is.
        cycle: The cycle's number, from 0.
        logger: The run's, beside those of the settings; False for none.

    """
    run_dir = Path(config.run_dir)
    keeps_last = bool(getattr(module, "keeps_last", False))
    metrics = CycleMetrics(RunDirectory(run_dir).cycle(cycle), module.monitor, keeps_last)
    # CycleMetrics stands before the query: a fit counts as done before its query starts
    ours: list[pl.Callback] = [
        StepSeed(config.seed_everything, cycle),
        metrics,
        CycleCheckpoint(metrics),
        ProgressFile(run_dir, cycle, config.cycles),
        FitLines(metrics),
    ]
    if any(criterion.needs_predictions for criterion in config.stop or ()):
        ours.append(StopSetPredictions(metrics))
    if config.mc_evaluation is not None:
        # metrics.json, which says that the fit is done, waits for these scores
        ours.insert(0, MCEvaluation(config.mc_evaluation, config.seed_everything, metrics))
    if isinstance(logger, TrackedRun):
        logger.cycle = cycle
    loggers = [x for x in (logger, *_listed(config.trainer.logger)) if isinstance(x, Logger)]
    plugins = _listed(config.trainer.plugins)
    if not any(isinstance(p, CheckpointIO) for p in plugins):
        plugins.append(WholeCheckpoints())
    return {"logger": loggers or False, "plugins": plugins, **_common(config, ours, PhaseBar(cycle, module.monitor))}


def _common(config: Namespace, ours: Sequence[pl.Callback], bar: PhaseBar | None) -> dict[str, Any]:
    """What all verbs have in common; a verb with a bar of its own shows that instead of Lightning's."""
    wanted = config.trainer.enable_progress_bar
    if wanted is None:
        wanted = sys.stderr.isatty()
    callbacks = [*ours, *_listed(config.trainer.callbacks)]
    if wanted and bar is not None and not any(isinstance(c, ProgressBar) for c in callbacks):
        callbacks.append(bar)
    options = {"default_root_dir": Path(config.run_dir), "callbacks": callbacks, "enable_progress_bar": wanted}
    if config.trainer.enable_model_summary is None:
        options["enable_model_summary"] = is_verbose()
    return options


def _listed(setting: Any) -> list[Any]:
    """A setting that Lightning takes as one thing, several or none, as a list."""
    if setting is None:
        return []
    return list(setting) if isinstance(setting, (list, tuple)) else [setting]
