"""Fits of many runs at once: their networks train as one stack (see `pipelines.stack_training`)."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from acquisition.batch import BatchSelection
from acquisition.checks import require
from acquisition.doctor import examine_network
from acquisition.limits import Allowance
from acquisition.regions import Regions
from acquisition.seeding import derive_seed
from callbacks.cycle import label_counts, load_weights, record_fit, write_checkpoint
from callbacks.labelled_classes import labelled_classes, write_labelled_classes
from callbacks.progress import Progress
from callbacks.query import QueryCallback
from datamodules.datamodule import PoolDataModule
from datamodules.sources.in_memory import TensorSource
from lightning_modules.classification import ClassificationModule
from pipelines.cycles import Experiment, Run, Turn, run_cycles
from pipelines.initial_models import takes_initial_run
from pipelines.run_access import run_directory
from pipelines.stack_images import StackImages
from pipelines.stack_training import check_loss, check_stackable, fit_stacked
from pipelines.trainer import QueryTrainer
from records.ledger import Labelled, Ledger
from records.run_directory import RunDirectory

__all__ = ["StackFitter", "StackedRun", "run_stack", "why_not_stacked"]

_SCORED_AT_ONCE = 4096
_KNOWN = {
    "max_steps": ("-1",), "limit_train_batches": ("1.0",), "limit_val_batches": ("1.0",),
    "val_check_interval": ("1.0",), "accumulate_grad_batches": ("1",), "gradient_clip_val": (), "callbacks": ("[]",),
    "precision": ("32-true", "32"), "overfit_batches": ("0.0", "0"), "max_time": (), "fast_dev_run": ("False",),
    "devices": ("auto", "1"), "num_nodes": ("1",), "logger": ("True", "False"),
}  # fmt: skip
"""Settings of the trainer, and their values, beside null, with which stacked fits are ordinary fits; as text, because
1 batch is not 1.0 of all."""


@dataclass
class StackedRun(Run):
    """One run of a stack.

    Args:
        seed: Of the run; runs with one seed have initial weights and initial set in common.
        config: Its settings as YAML, kept as config.yaml.
    """

    seed: int = field(kw_only=True)
    config: str = field(kw_only=True)


def why_not_stacked(settings: dict[str, Any], parts: Experiment) -> str:
    """Say what keeps runs from being stacked.

    Args:
        settings: Of one of them, complete.
        parts: What they describe.

    Returns:
        One sentence, or "" where nothing does.

    Raises:
        ValueError: If the network fits none of the runs, for that is no run's own mistake.

    """
    trainer = settings["trainer"]
    module, data = parts.module, parts.datamodule
    if not isinstance(module, ClassificationModule) or not isinstance(data.source, TensorSource):
        return "stacked fits need a ClassificationModule and a data.source that keeps its images in memory"
    if data.flip or data.shift:
        return "stacked fits do not augment images: set data.flip and data.shift to 0"
    if module.scheduler is not None or module.optimizer is None or module.decay_per_label:
        return "stacked fits need model.optimizer, with no model.scheduler and no model.decay_per_label"
    if module.ranking is not None:
        return "stacked fits do not train a prediction of the loss: take the network out of LossPrediction"
    if settings.get("wandb", {}).get("mode") == "online":
        return "stacked fits send nothing to Weights & Biases: set wandb.mode to disabled"
    if any(criterion.needs_predictions for criterion in parts.end.criteria):
        return "stacked fits keep no predictions on the validation images: leave out the stop that needs them"
    if settings.get("mc_evaluation"):
        return "stacked fits are scored with dropout off: leave out mc_evaluation"
    if settings.get("warm_start") or settings.get("initial_models"):
        return "stacked fits start afresh in each cycle: leave out warm_start and initial_models"
    if (trainer["max_epochs"] or 0) < 1 or trainer["check_val_every_n_epoch"] != trainer["max_epochs"]:
        return "stacked fits keep the last epoch: set trainer.check_val_every_n_epoch to trainer.max_epochs"
    unknown = [k for k, values in _KNOWN.items() if str(trainer.get(k)) not in (*values, "None")]
    if unknown:
        return f"stacked fits do not know trainer.{unknown[0]} {trainer[unknown[0]]}: leave it out"
    if trainer["accelerator"] not in ("cpu", "auto") or (trainer["accelerator"] == "auto" and _has_gpu()):
        return "stacked fits run on the CPU: set trainer.accelerator to cpu"
    try:
        check_stackable(module.network, module.optimizer, module.loss)
        check_loss(module.loss, int(getattr(module.network, "num_classes", module.num_classes)))
    except ValueError as error:
        return str(error)
    module.match_classes(data.source.class_names)
    return ""


def run_stack(
    runs: Sequence[StackedRun],
    cycles: int,
    epochs: int,
    may_change: tuple[str, ...] = (),
    keep_scores: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Do all cycles of all runs; each leaves behind the run directory of an ordinary run.

    What is done already is not done again. A run with an error stops with a message in `error`, and the others go on.

    Args:
        runs: Their settings are equal but for seed and strategy.
        cycles: How many, the first included.
        epochs: Of each fit.
        may_change: Settings that may differ from those of before (see `run_directory`).
        keep_scores: Write every cycle's scores.parquet.
        progress: Told how far the stack is.

    """
    with ExitStack() as directories:
        for run in runs:
            with _reported(run):
                directories.enter_context(run_directory(run.run_dir, run.config, may_change))
        fitter = StackFitter(cycles, epochs, keep_scores, progress)
        through = dict.fromkeys(run.run_dir for run in run_cycles(runs, fitter, cycles))
        for run_dir in through:
            directory = RunDirectory(run_dir)
            directory.write_curve(pd.DataFrame(directory.metrics()))


class StackFitter:
    """Fits many runs as one stack; a run's mistake is its own.

    Args:
        cycles: How many there are, for the progress.
        epochs: Of each fit.
        keep_scores: Write every cycle's scores.parquet.
        progress: Told how far the stack is.
    """

    def __init__(
        self, cycles: int, epochs: int, keep_scores: bool = False, progress: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self.cycles = cycles
        self.epochs = epochs
        self.keep_scores = keep_scores
        self.progress = progress
        self._images: StackImages | None = None
        self._experiments: dict[Path, Experiment] = {}
        self._first: dict[int, Ledger] = {}
        self._fresh: dict[tuple[int, int], ClassificationModule] = {}

    def guard(self, run: StackedRun) -> AbstractContextManager[None]:
        """Write a mistake down as the run's own."""
        return _reported(run)

    def make(self, run: StackedRun, cycle: int, last: bool) -> Experiment:
        """Make a module, with the trained weights where the fit is done; data and strategy serve all cycles.

        Modules of one seed are equal, and so are their runs' initial sets, which are chosen once.
        """
        key, made = (cycle, run.seed), None
        if run.run_dir not in self._experiments:
            made = run.make(cycle, last)
            self._experiments[run.run_dir] = replace(made, datamodule=self._data(made, run))
        if key not in self._fresh:
            # those of the cycle before are not needed any more
            self._fresh = {k: module for k, module in self._fresh.items() if k[0] == cycle}
            module = _classifier(made or run.make(cycle, last))
            module.match_classes(self._experiments[run.run_dir].datamodule.source.class_names)
            self._fresh[key] = module
        own = self._experiments[run.run_dir]
        module = copy.deepcopy(self._fresh[key])
        if run.cycle(cycle).is_fitted:
            load_weights(module, run.cycle(cycle).best)
        return replace(own, module=module, end=replace(own.end, cycle=cycle, last=last))

    def fit(self, turns: Sequence[Turn[StackedRun]]) -> None:
        """Train together what is not trained, write scores and weights down, and query."""
        able = []
        for turn in turns:
            with _reported(turn.run):
                if takes_initial_run(turn):
                    load_weights(turn.experiment.module, turn.directory.best)
                if not turn.directory.is_fitted:
                    images = self._read(turn.experiment.datamodule)
                    able.append(_Fit(turn, images, *images.samples(turn.experiment.datamodule, self.epochs)))
        if able:
            self._fit(able)
        for turn in turns:
            with _reported(turn.run):
                if not turn.run.error and turn.experiment.end.queries():
                    _query(turn, self._read(turn.experiment.datamodule), self.keep_scores)

    def _read(self, data: PoolDataModule) -> StackImages:
        """The images, read once."""
        if self._images is None:
            assert isinstance(data.source, TensorSource)
            self._images = StackImages(data.source)
        return self._images

    def _data(self, made: Experiment, run: StackedRun) -> PoolDataModule:
        """The run's data: what has been read is shared by all, the initial set by the runs of one seed."""
        shared = next(iter(self._experiments.values()), made).datamodule
        data = shared.at(run.run_dir, run.seed)
        ledger = data.pool.ledger
        first = self._first.setdefault(run.seed, ledger)
        if first is not ledger and not ledger.labelled():
            initial = [
                Labelled(e.unit_id, e.pixels or 0, e.objects, e.clicks)
                for e in first.events()
                if e.kind == "initial" and e.unit_id
            ]
            if initial:
                ledger.start(initial)
        return data

    def _fit(self, able: Sequence["_Fit"]) -> None:
        try:
            self._train(able)
        except Exception as error:
            if len(able) > 1:
                rank_zero_info(f"A stack of {len(able)} fits failed ({_words(error)}): they are made one by one.")
            for fit in able:
                # weights are only touched at the end, so each begins as if nothing had been
                with _reported(fit.turn.run):
                    self._train([fit])
        for fit in able:
            with _reported(fit.turn.run):
                if not fit.turn.run.error:
                    _write_fit(fit, self.epochs)

    def _train(self, fits: Sequence["_Fit"]) -> None:
        cycle, steps = fits[0].turn.directory.number, max(len(fit.order) for fit in fits)

        def dropout_seed(number: int, step: int) -> int:
            # as callbacks.cycle.StepSeed draws it: (seed, cycle, epoch, batch, process)
            fit = fits[number]
            return derive_seed(fit.turn.run.seed, cycle, *divmod(step, len(fit.order) // self.epochs), 0)

        first = fits[0]
        assert first.module.optimizer is not None
        fit_stacked(
            [fit.module.network for fit in fits], first.images.train,
            torch.stack([fit.answers for fit in fits]), [fit.order for fit in fits],
            first.module.loss, first.module.optimizer, dropout_seed,
            lambda step: self.progress(Progress(cycle, self.cycles, step, steps)),
        )  # fmt: skip


@dataclass(frozen=True)
class _Fit:
    """One fit of a stack. order: its batches, as positions in the train split. answers: that split's classes."""

    turn: Turn[StackedRun]
    images: StackImages
    order: Tensor
    answers: Tensor

    @property
    def module(self) -> ClassificationModule:
        return _classifier(self.turn.experiment)


def _classifier(experiment: Experiment) -> ClassificationModule:
    assert isinstance(experiment.module, ClassificationModule)
    return experiment.module


def _write_fit(fit: _Fit, epochs: int) -> None:
    module, directory = fit.module, fit.turn.directory
    if not all(torch.isfinite(p).all() for p in module.parameters()):
        raise ValueError(
            f"the weights of cycle {directory.number} have NaN or infinite values; lower the learning rate"
        )
    scores = {"epoch": epochs - 1, **_validated(module, fit.images)}
    pool = fit.turn.experiment.datamodule.pool
    labelled = label_counts(pool.ledger)
    saved = {"state_dict": module.state_dict(), "pytorch-lightning_version": pl.__version__, "epoch": epochs - 1}
    write_checkpoint(directory.best, {**saved, "global_step": 0})
    write_labelled_classes(directory, labelled_classes(pool))
    record_fit(directory, labelled, scores, scores, module.monitor)


@torch.no_grad()
def _validated(module: ClassificationModule, images: StackImages) -> dict[str, float]:
    """The scores that a validation of the module would log."""
    module.eval()
    logits = torch.cat([module(part) for part in images.val.split(_SCORED_AT_ONCE)])
    module.update_metrics(module.val_metrics, logits, images.val_classes)
    row = {"val/loss": float(module.loss(logits, images.val_classes))}
    for name, value in module.val_metrics.compute().items():
        names = [f"val/{name}"] if value.ndim == 0 else [f"val/{name}/{c}" for c in images.source.class_names]
        row |= dict(zip(names, value.float().reshape(-1).tolist(), strict=True))
    module.val_metrics.reset()
    return {name: value for name, value in row.items() if not math.isnan(value)}


def _query(turn: Turn[StackedRun], images: StackImages, keep_scores: bool) -> None:
    """What `QueryCallback` does; without its pictures and its loaders, where scores are all that the strategy takes."""
    pool, query, module = turn.experiment.datamodule.pool, turn.experiment.query, _classifier(turn.experiment)
    if not _is_plain(query):
        trainer = QueryTrainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[query],
        )  # fmt: skip
        trainer.query(module, turn.experiment.datamodule)
        return
    cycle = turn.directory.number
    free, unlabelled = images.unlabelled(pool)
    if not len(unlabelled):
        return
    if query.scorer.needs_network:
        scores = _scores(turn, images)[free]
    else:
        regions = Regions.whole(unlabelled.tolist())
        scores = query.scorer(module.network, torch.empty(0), regions, pool.seed, cycle).scores.numpy()
    # names as objects: making strings of another kind of them would cost more than all else here
    table = pd.DataFrame({"unit_id": pd.Series(unlabelled, dtype=object), "score": scores})
    ranked = query.chooser.choose(pool, table, cycle)
    if keep_scores:
        turn.directory.write_scores(ranked)
    query.chooser.ask(pool, turn.directory, ranked)


def _is_plain(query: QueryCallback) -> bool:
    """Whether scores and an order are all that the strategy is."""
    asked = (query.race, query.candidates, query.scores_csv, query.routing)
    plain = asked == (None,) * len(asked) and query.allowance == Allowance(query.allowance.units)
    return plain and not isinstance(query.selection, BatchSelection)


def _scores(turn: Turn[StackedRun], images: StackImages) -> np.ndarray:
    """Scores of the whole train split: slices of what is in memory cost less than a copy of the pool."""
    pool, scorer, cycle = turn.experiment.datamodule.pool, turn.experiment.query.scorer, turn.directory.number
    network = _classifier(turn.experiment).network.eval()
    if scorer.is_oracle:
        pool.check_truth()
    truth = images.classes if scorer.reads_truth else None

    def part(rows: slice) -> tuple[Tensor, Regions, Tensor | None]:
        return images.train[rows], Regions.whole(images.image_ids[rows]), None if truth is None else truth[rows]

    if cycle == 0:
        some, units, known = part(slice(2))
        require(examine_network(scorer, network, some, units, pool.seed, truth=known))
    parts = []
    for start in range(0, len(images.train), _SCORED_AT_ONCE):
        some, units, known = part(slice(start, start + _SCORED_AT_ONCE))
        parts.append(scorer(network, some, units, pool.seed, cycle, truth=known).scores)
    return torch.cat(parts).numpy()


@contextmanager
def _reported(run: Run) -> Iterator[None]:
    """A run's mistake is its own, whatever it is."""
    try:
        yield
    except Exception as error:
        run.error = _words(error)
        rank_zero_info(f"{run.run_dir} failed: {run.error}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _has_gpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()
