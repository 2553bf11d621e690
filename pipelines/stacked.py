"""The cycles of many runs at once: their networks train as one stack (see `lightning_modules.stacked`)."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from acquisition.batch import BatchSelection
from acquisition.doctor import examine_network, require
from acquisition.regions import Regions
from acquisition.seeding import derive_seed
from callbacks.cycle import curve_row, load_weights
from callbacks.progress import Progress
from callbacks.query import QueryCallback
from datamodules.datasets import EpochSampler
from datamodules.tensors import TensorPool
from lightning_modules.classification import ClassificationModule
from lightning_modules.stacked import check_stackable, fit_stacked
from pipelines.cycles import run_directory
from pipelines.trainer import QueryTrainer
from records.files import replacing
from records.ledger import Queried
from records.run_directory import CycleDirectory, RunDirectory

__all__ = ["Member", "Parts", "run_stack", "why_not_stacked"]

_SCORED_AT_ONCE = 4096
_KNOWN = {
    "max_steps": ("-1",), "limit_train_batches": ("1.0",), "limit_val_batches": ("1.0",),
    "val_check_interval": ("1.0",), "accumulate_grad_batches": ("1",), "gradient_clip_val": (), "callbacks": ("[]",),
    "precision": ("32-true", "32"), "overfit_batches": ("0.0", "0"), "max_time": (), "fast_dev_run": ("False",),
    "devices": ("auto", "1"), "num_nodes": ("1",), "logger": ("True", "False"),
}  # fmt: skip
"""Settings of the trainer, and their values, beside null, with which stacked fits are ordinary fits; as text, because
1 batch is not 1.0 of all."""


@dataclass(frozen=True)
class Parts:
    """What the settings of a run describe, made afresh."""

    module: pl.LightningModule
    datamodule: pl.LightningDataModule
    query: QueryCallback


@dataclass
class Member:
    """One run of a stack.

    config: its settings as YAML, kept as config.yaml. make: from a cycle's number to the parts with which a fit of that
    cycle begins.
    """

    run_dir: Path
    seed: int
    config: str
    make: Callable[[int], Parts]
    datamodule: TensorPool = field(init=False)
    query: QueryCallback = field(init=False)
    error: str = ""
    over: bool = False

    def cycle(self, number: int) -> CycleDirectory:
        """What the cycle leaves behind."""
        return RunDirectory(self.run_dir).cycle(number)

    def is_done(self, cycle: int, last: bool) -> bool:
        """Whether a cycle has its scores and, unless it is the last, its labels."""
        return self.cycle(cycle).is_fitted and (last or self.datamodule.ledger.cycle > cycle)


@dataclass(frozen=True)
class _Fit:
    """One fit of a stack. order: its batches, as positions in the train split. answers: that split's classes."""

    member: Member
    module: ClassificationModule
    order: Tensor
    answers: Tensor


def why_not_stacked(settings: dict[str, Any], parts: Parts) -> str:
    """What keeps the runs of these settings from being stacked, in one sentence; "" where nothing does."""
    trainer = settings["trainer"]
    module, data = parts.module, parts.datamodule
    if not isinstance(module, ClassificationModule) or not isinstance(data, TensorPool):
        return "stacked fits need a ClassificationModule and a TensorPool"
    if data.flip or data.shift:
        return "stacked fits do not augment images: set data.flip and data.shift to 0"
    if module.scheduler is not None or module.optimizer is None or module.decay_per_label:
        return "stacked fits need model.optimizer, with no model.scheduler and no model.decay_per_label"
    if settings.get("wandb", {}).get("mode") == "online":
        return "stacked fits send nothing to Weights & Biases: set wandb.mode to disabled"
    if settings.get("stop"):
        return "stacked fits go on to the last cycle: leave out stop"
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
        check_stackable(module.network, module.optimizer)
    except ValueError as error:
        return str(error)
    return ""


def run_stack(
    members: Sequence[Member],
    cycles: int,
    epochs: int,
    may_change: tuple[str, ...] = (),
    keep_scores: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
) -> None:
    """Run all cycles of all members; each leaves behind the run directory of an ordinary fit.

    The members have equal settings but for seed and strategy. What is done already is not done again. A member with an
    error stops with a message in `error`, and the others go on. may_change: see `run_directory`. keep_scores: write
    every cycle's scores.parquet. progress: told how far the stack is.
    """
    with ExitStack() as held:
        for member in members:
            with _reported(member):
                held.enter_context(run_directory(member.run_dir, member.config, may_change))
        _start([m for m in members if not m.error])
        for cycle in range(cycles):
            last = cycle == cycles - 1
            todo = _modules([m for m in members if not m.error and not m.over], cycle, last)
            fits = [pair for pair in todo if not pair[0].cycle(cycle).is_fitted]
            _fit(fits, cycle, epochs, partial(_tell, progress, cycle, cycles))
            for member, module in todo:
                with _reported(member):
                    if not member.error:
                        _query_and_keep(member, module, cycle, last, keep_scores)


def _tell(progress: Callable[[Progress], None], cycle: int, cycles: int, step: int, steps: int) -> None:
    progress(Progress(cycle, cycles, step, steps))


def _start(members: Sequence[Member]) -> None:
    """Open every member's data and label its initial set; members with one seed have it in common."""
    shared: TensorPool | None = None
    modules: list[pl.LightningModule] = []
    initial: dict[int, list[tuple[str, int]]] = {}
    for member in members:
        with _reported(member):
            parts = member.make(0)
            assert isinstance(parts.datamodule, TensorPool)
            shared = shared or parts.datamodule
            modules.append(parts.module)
            member.datamodule, member.query = shared.at(member.run_dir, member.seed), parts.query
            ledger = member.datamodule.ledger
            if member.seed in initial and not ledger.labelled():
                ledger.start(initial[member.seed])
            member.datamodule.start()
            member.datamodule.collect()
            if member.seed not in initial:
                initial[member.seed] = [
                    (e.unit_id, e.pixels or 0) for e in ledger.events() if e.kind == "initial" and e.unit_id
                ]
    # a network that fits none of them is nobody's own mistake
    for module in modules[:1]:
        assert isinstance(module, ClassificationModule)
        assert shared is not None
        module.match_classes(shared.class_names)


def _modules(members: Sequence[Member], cycle: int, last: bool) -> list[tuple[Member, ClassificationModule]]:
    """Members whose cycle is not done, with modules: freshly initialised ones, equal for equal seeds, or the trained
    ones where a fit is done.
    """
    fresh: dict[int, ClassificationModule] = {}
    modules = []
    for member in members:
        with _reported(member):
            if member.is_done(cycle, last):
                continue
            if member.seed not in fresh:
                module = member.make(cycle).module
                assert isinstance(module, ClassificationModule)
                module.match_classes(member.datamodule.class_names)
                fresh[member.seed] = module
            module = copy.deepcopy(fresh[member.seed])
            if member.cycle(cycle).is_fitted:
                load_weights(module, member.cycle(cycle).best)
            modules.append((member, module))
    return modules


def _fit(
    fits: Sequence[tuple[Member, ClassificationModule]],
    cycle: int,
    epochs: int,
    progress: Callable[[int, int], None],
) -> None:
    """Train the modules and write their scores and weights down."""
    able = []
    for member, module in fits:
        with _reported(member):
            able.append(_Fit(member, module, *_samples(member.datamodule, epochs)))
    if not able:
        return
    try:
        _train(able, cycle, epochs, progress)
    except Exception as error:
        if len(able) > 1:
            rank_zero_info(f"A stack of {len(able)} fits failed ({_words(error)}): they are made one by one.")
        for fit in able:
            # weights are only touched at the end, so each begins as if nothing had been
            with _reported(fit.member):
                _train([fit], cycle, epochs, progress)
    for fit in able:
        with _reported(fit.member):
            if not fit.member.error:
                _write_fit(fit.member, fit.module, cycle, epochs)


def _train(fits: Sequence[_Fit], cycle: int, epochs: int, progress: Callable[[int, int], None]) -> None:
    steps = max(len(fit.order) for fit in fits)

    def dropout_seed(number: int, step: int) -> int:
        # as callbacks.cycle.StepSeed draws it: (seed, cycle, epoch, batch, process)
        return derive_seed(fits[number].member.seed, cycle, *divmod(step, len(fits[number].order) // epochs), 0)

    first = fits[0]
    assert first.module.optimizer is not None
    fit_stacked(
        [fit.module.network for fit in fits], first.member.datamodule.tensors("train")[0],
        torch.stack([fit.answers for fit in fits]), [fit.order for fit in fits],
        first.module.loss, first.module.optimizer, dropout_seed, lambda step: progress(step, steps),
    )  # fmt: skip


def _samples(data: TensorPool, epochs: int) -> tuple[Tensor, Tensor]:
    """Positions in the train split, steps x batch, and the split's classes as the oracle gave them."""
    _, classes, unit_ids = data.tensors("train")
    rows = {unit_id: row for row, unit_id in enumerate(unit_ids)}
    units = data.training_units
    positions = torch.tensor([rows[u.unit_id] for u in units])
    given = classes.clone()
    given[positions] = torch.tensor([data.class_index(u) for u in units])
    sampler = EpochSampler(len(units), data.batch_size, data.seed)
    return torch.cat([positions[p] for p in _epochs(sampler, epochs)]).view(-1, data.batch_size), given


def _epochs(sampler: EpochSampler, epochs: int) -> Iterator[Tensor]:
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        yield sampler.positions()


def _write_fit(member: Member, module: ClassificationModule, cycle: int, epochs: int) -> None:
    if not all(torch.isfinite(p).all() for p in module.parameters()):
        raise ValueError(f"the weights of cycle {cycle} have NaN or infinite values; lower the learning rate")
    directory, ledger = member.cycle(cycle), member.datamodule.ledger
    labelled = {"labelled_units": len(ledger.labelled()), "labelled_pixels": ledger.labelled_pixels()}
    scores = {"epoch": epochs - 1, **_validated(module, member.datamodule)}
    row = curve_row(cycle, labelled, scores, scores, module.monitor)
    with replacing(directory.best) as beside:
        torch.save(
            {"state_dict": module.state_dict(), "pytorch-lightning_version": pl.__version__, "epoch": epochs - 1,
             "global_step": 0, "loops": {}}, beside
        )  # fmt: skip
    # last, because its presence says that the fit is done
    directory.write_metrics(row)


@torch.no_grad()
def _validated(module: ClassificationModule, datamodule: TensorPool) -> dict[str, float]:
    """The scores that a validation of the module would log."""
    images, labels, _ = datamodule.tensors("val")
    module.eval()
    logits = torch.cat([module(part) for part in images.split(_SCORED_AT_ONCE)])
    module.update_metrics(module.val_metrics, logits, labels)
    row = {"val/loss": float(module.loss(logits, labels))}
    for name, value in module.val_metrics.compute().items():
        names = [f"val/{name}"] if value.ndim == 0 else [f"val/{name}/{c}" for c in datamodule.class_names]
        row |= dict(zip(names, value.float().reshape(-1).tolist(), strict=True))
    module.val_metrics.reset()
    return {name: value for name, value in row.items() if not math.isnan(value)}


def _query_and_keep(member: Member, module: ClassificationModule, cycle: int, last: bool, keep_scores: bool) -> None:
    if last:
        _write_curve(member.run_dir)
        return
    if _is_plain(member.query):
        _query(member, module, cycle, keep_scores)
    else:
        trainer = QueryTrainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, callbacks=[member.query],
        )  # fmt: skip
        trainer.query(module, member.datamodule)
    if member.datamodule.ledger.cycle > cycle:
        member.cycle(cycle).best.unlink(missing_ok=True)
    else:
        member.over = True
        _write_curve(member.run_dir)
        waits = len(member.datamodule.ledger.waiting(cycle))
        rank_zero_info(f"{member.run_dir}: {f'{waits} units wait for a label' if waits else 'the pool is empty'}.")


def _is_plain(query: QueryCallback) -> bool:
    """Whether scores and an order are all that the strategy is."""
    return query.race is None and query.budget_pixels is None and not isinstance(query.selection, BatchSelection)


def _query(member: Member, module: ClassificationModule, cycle: int, keep_scores: bool) -> None:
    """What `QueryCallback` does, without its pictures and with images where they are."""
    data, query = member.datamodule, member.query
    unit_ids = data.tensors("train")[2]
    labelled = set(data.ledger.labelled())
    in_pool = np.array([unit_id not in labelled for unit_id in unit_ids])
    pool = [unit_id for unit_id, free in zip(unit_ids, in_pool, strict=True) if free]
    if not pool:
        return
    if query.scorer.needs_network:
        scores = _scores(member, module, cycle)[in_pool]
    else:
        scores = query.scorer(module.network, torch.empty(0), Regions.whole(pool), data.seed, cycle).scores.numpy()
    order = query.selection.order(pool, scores.tolist(), data.seed, cycle)
    chosen = [Queried(pool[i], float(scores[i]), rank) for rank, i in enumerate(order[: query.budget], start=1)]
    if keep_scores:
        table = pd.DataFrame({"unit_id": pool, "score": scores}).iloc[order]
        ranks = np.arange(1, len(order) + 1)
        member.cycle(cycle).write_scores(table.assign(rank=ranks, selected=ranks <= len(chosen)))
    data.ask(chosen, query.strategy)


def _scores(member: Member, module: ClassificationModule, cycle: int) -> np.ndarray:
    """Scores of the whole train split: slices of what is in memory cost less than a copy of the pool."""
    data, scorer = member.datamodule, member.query.scorer
    images, labels, unit_ids = data.tensors("train")
    network = module.network.eval()

    if scorer.is_oracle:
        data.check_truth()
    truth = labels if scorer.reads_truth else None
    if cycle == 0:
        few = Regions.whole(unit_ids[:2])
        require(examine_network(scorer, network, images[:2], few, data.seed, truth=_part(truth, slice(2))))
    parts = []
    for start in range(0, len(images), _SCORED_AT_ONCE):
        rows = slice(start, start + _SCORED_AT_ONCE)
        scored = scorer(
            network, images[rows], Regions.whole(unit_ids[rows]), data.seed, cycle, truth=_part(truth, rows)
        )
        parts.append(scored.scores)
    return torch.cat(parts).numpy()


def _part(truth: Tensor | None, rows: slice) -> Tensor | None:
    return None if truth is None else truth[rows]


def _write_curve(run_dir: Path) -> None:
    run = RunDirectory(run_dir)
    with replacing(run.learning_curve) as beside:
        pd.DataFrame(run.metrics()).to_csv(beside, index=False)


@contextmanager
def _reported(member: Member) -> Iterator[None]:
    """A member's mistake is its own, whatever it is."""
    try:
        yield
    except Exception as error:
        member.error = _words(error)
        rank_zero_info(f"{member.run_dir} failed: {member.error}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _has_gpu() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()
