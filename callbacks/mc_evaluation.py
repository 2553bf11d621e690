"""Scores of the mean of MC samples, beside those of one pass with dropout off (Gal et al. 2017, section 5.2)."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch.utils.data import DataLoader

from acquisition.predictors import MCDropout
from acquisition.statistics import Statistic
from callbacks.cycle import CycleMetrics, load_weights
from datamodules.datamodule import PoolDataModule
from lightning_modules.base import NetworkModule

__all__ = ["MCEvaluation", "MCScores"]

_SMALLEST = torch.finfo(torch.float32).tiny


class MCScores:
    """A module's own scores of a split, but of the mean of T softmaxes.

    The masks depend on the seed alone, and not on batches, processes or the cycle: cycles are compared on the same
    draws, and a checkpoint scores what it scored in its fit wherever it lies.

    Args:
        predictor: How the samples are drawn.
        module: Whose network is asked, where it is, and whose metrics are computed.
        seed: Of the experiment.
    """

    def __init__(self, predictor: MCDropout, module: NetworkModule, seed: int) -> None:
        self.num_samples = predictor.num_samples
        self.module = module
        self.sampler = predictor.sampler(module.network, (seed, "evaluation"))
        self.metrics = module.make_metrics().to(module.device)

    def add(self, batch: dict[str, Any]) -> None:
        """Count a batch.

        Args:
            batch: As a validation is given it, on the module's device.
        """
        with self.module.trainer.precision_plugin.forward_context():
            statistics = self.sampler.statistics(
                batch["image"], self.num_samples, {Statistic.MEAN}, image_ids=batch["image_id"]
            )
        # the metrics take logits, and these have the mean as their softmax
        logits = statistics[Statistic.MEAN].clamp_min(_SMALLEST).log()
        self.module.update_metrics(self.metrics, logits, batch[self.module.target])

    def compute(self, split: str) -> dict[str, float]:
        """The scores over all batches of all processes, which call this together.

        Args:
            split: val or test.

        Returns:
            Each number that the module logs of the split, as SPLIT/mc_NAME; none per class.
        """
        return {f"{split}/mc_{k}": float(v) for k, v in self.metrics.compute().items() if v.ndim == 0}


class MCEvaluation(Callback):
    """Adds scores by MC dropout to those of `validate` and `test`, and to what a fit says of the weights it keeps.

    A fit is evaluated once, at its end and with the weights of best.ckpt, because T passes over the validation split
    after every epoch would often cost more than the training.

    Args:
        predictor: How the samples are drawn.
        seed: Of the experiment.
        metrics: What a fit leaves behind; None for a trainer that does not fit.

    Raises:
        ValueError: If the samples cannot be compared with the annotations, or there are none.
    """

    def __init__(self, predictor: MCDropout, seed: int, metrics: CycleMetrics | None = None) -> None:
        predictor.check("mc_evaluation", 1, asks_files=False)
        if predictor.at_output_stride:
            raise ValueError(
                "mc_evaluation compares every pixel with the annotation, got at_output_stride true; leave it out"
            )
        self.predictor = predictor
        self.seed = seed
        self.metrics = metrics
        self._scores: MCScores | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a network without dropout before hours of training."""
        module, data = _checked(trainer, pl_module)
        with torch.random.fork_rng(devices=[]):
            batch = next(iter(data.val_dataloader()))
        few = {k: v[:2] for k, v in batch.items()}
        few = data.transfer_batch_to_device(few, module.device, 0)
        MCScores(MCDropout(1, self.predictor.rate), module, self.seed).add(few)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Evaluate the kept weights, which stay in the module, as a query would leave them."""
        if self.metrics is None or not self.metrics.best:
            return
        module, data = _checked(trainer, pl_module)
        load_weights(module, self.metrics.directory.best)
        # by now Lightning has moved the module to the CPU
        before = module.device
        module.to(trainer.strategy.root_device)
        try:
            scores = MCScores(self.predictor, module, self.seed)
            with torch.random.fork_rng(devices=[]):
                for batch in _limited(data.val_dataloader(), trainer.limit_val_batches):
                    scores.add(data.transfer_batch_to_device(batch, module.device, 0))
            self.metrics.add_to_best(scores.compute("val"))
        finally:
            module.to(before)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(trainer, pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        if self._scores is not None:
            self._scores.add(batch)

    def on_test_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        if self._scores is not None:
            self._scores.add(batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._log(pl_module, "test")

    def _start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # a fit's own validations go without
        if self.metrics is None:
            module, _ = _checked(trainer, pl_module)
            self._scores = MCScores(self.predictor, module, self.seed)

    def _log(self, module: pl.LightningModule, split: str) -> None:
        if self._scores is not None:
            module.log_dict(self._scores.compute(split))
            self._scores = None


def _checked(trainer: pl.Trainer, module: pl.LightningModule) -> tuple[NetworkModule, PoolDataModule]:
    data = getattr(trainer, "datamodule", None)
    if not isinstance(module, NetworkModule) or not isinstance(data, PoolDataModule):
        raise TypeError(
            f"mc_evaluation needs a NetworkModule and a PoolDataModule, got {type(module).__name__} and "
            f"{type(data).__name__}; leave mc_evaluation out"
        )
    return module, data


def _limited(loader: DataLoader[dict[str, Any]], limit: float | None) -> Iterable[dict[str, Any]]:
    """As many batches as Lightning takes: a share of them where the limit is a float, else so many."""
    if limit is None:
        return loader
    return islice(loader, int(len(loader) * limit) if isinstance(limit, float) else limit)
