"""Training and evaluation of one network, for any task."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import Metric, MetricCollection

from acquisition.functional import predicted_class
from acquisition.functions import PredictsLoss
from lightning_modules.learning_loss import RankingAccuracy, RankingLoss, image_losses
from lightning_modules.losses import BatchLoss, CrossEntropy, call_loss
from lightning_modules.pretrained import load_pretrained

__all__ = ["Metrics", "NetworkModule"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer, int], LRScheduler]
Metrics = Metric | MetricCollection


class NetworkModule(pl.LightningModule):
    """A network with a loss, an optimizer and a schedule; subclasses define the targets and metrics of a task.

    Args:
        network: Maps images, N x channels x H x W, to logits, N x C x ...; its attribute `num_classes` is C, where 1
            means binary with a sigmoid.
        loss: Maps (logits, targets) to a scalar, or, as a `BatchLoss`, (logits, targets, batch); `CrossEntropy` unless
            given. Parameters that it has are trained with the network's.
        optimizer: Makes an optimizer from the parameters; SGD with learning rate 0.007, momentum 0.9 and weight decay
            1e-4 unless given.
        scheduler: Makes a schedule from the optimizer and the number of optimizer steps of the fit; it is stepped after
            each of them. None keeps the learning rate constant. The "poly" schedule is torch's PolynomialLR with power
            0.9.
        channels_last: Whether network and images use this memory format, which is faster for convolutions on most
            machines.
        compile: Whether training runs through torch.compile; queries always run the network itself.
        monitor: Whether a fit keeps and reports the weights of the "best" or of the "last" validation. The best of many
            validations is an optimistic estimate if the same split is reported.
        ranking: For a network that predicts its own loss (`LossPrediction`): how it learns to; `RankingLoss` with its
            defaults unless given. The loss of a batch is then the mean of its images' losses, plus the weighted ranking
            loss, and the share of image pairs in the right order is reported.
        pretrained: A checkpoint of another fit of this network, such as a cycle's best.ckpt, whose weights every fit
            starts from; the layers that depend on the number of classes start anew, for the classes may be others.

    Raises:
        ValueError: If the checkpoint is another network's, if `ranking` is given and the network does not predict its
            loss, or if a network that does is to be compiled.
    """

    monitor: ClassVar[str]
    """Name of the metric, larger is better, that decides which weights of a fit are the best."""

    target: ClassVar[str]
    """The key of the targets in a batch."""

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        channels_last: bool = False,
        compile: bool = False,
        monitor: Literal["best", "last"] = "best",
        ranking: RankingLoss | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        predicts_loss = isinstance(network, PredictsLoss)
        if ranking is not None and not predicts_loss:
            raise ValueError(
                f"model.ranking needs a network that predicts its own loss, got {type(network).__name__}; put it into "
                "lightning_modules.networks.LossPrediction, or leave model.ranking out"
            )
        if compile and predicts_loss:
            raise ValueError(
                "a network that predicts its own loss is trained as it is, because a compiled one does not show what "
                "its layers give, got compile true; set model.compile to false"
            )
        if pretrained is not None:
            load_pretrained(network, pretrained)
        self.keeps_last = monitor == "last"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.loss = loss or CrossEntropy()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.num_classes: int = max(2, int(getattr(network, "num_classes", 0)))
        self.class_names = [str(c) for c in range(self.num_classes)]
        self.val_metrics = self.make_metrics()
        self.test_metrics = self.make_metrics()
        self.ranking = (ranking or RankingLoss()) if predicts_loss else None
        self.rankings = nn.ModuleDict({split: RankingAccuracy() for split in ("val", "test") if predicts_loss})
        if compile:
            self.network.compile()

    @abstractmethod
    def make_metrics(self) -> Metrics:
        """Make the metrics of a split; their `compute` returns a number, or one number per class, by name."""

    @abstractmethod
    def update_metrics(self, metrics: Metrics, logits: Tensor, targets: Tensor) -> None:
        """Add one batch to the metrics.

        Args:
            metrics: What `make_metrics` returned.
            logits: N x C x ...
            targets: N x ..., classes or `VOID`.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Map images, N x channels x H x W, to logits, N x C x ..."""
        logits: Tensor = self.network(images.to(memory_format=self.memory_format))
        return logits

    def setup(self, stage: str) -> None:
        """Check that the network has as many classes as the data."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        self.match_classes(datamodule.source.class_names)

    def match_classes(self, names: Sequence[str]) -> None:
        """Adopt the data's class names.

        Args:
            names: One name per class.

        Raises:
            ValueError: Their number is not the network's number of classes.
        """
        names = self.class_names = list(names)
        if len(names) != self.num_classes:
            raise ValueError(
                f"the network predicts {self.num_classes} classes but the data has {len(names)} ({', '.join(names)}); "
                f"set model.network.num_classes to {len(names)}" + (" (or 1)" if len(names) == 2 else "")
            )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Compute the loss of one batch.

        Raises:
            ValueError: The loss is not finite, or the batch has no targets of this task.
        """
        targets = self._targets(batch)
        plain = self.ranking is None
        loss = self._loss(self(batch["image"]), targets, batch) if plain else self._ranked(targets, batch)
        if not torch.isfinite(loss):
            raise ValueError(
                f"the training loss is {loss.item()} at step {self.global_step}; expected a finite number: lower the "
                "learning rate, or use trainer.precision 32-true"
            )
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["image_id"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the metrics."""
        self._evaluate(batch, self.val_metrics, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the metrics."""
        self._evaluate(batch, self.test_metrics, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the whole split, and what the loss has learned."""
        self._log_metrics(self.val_metrics, "val")
        for name, value in (self.loss.readings() if isinstance(self.loss, BatchLoss) else {}).items():
            self.log(f"val/{name}", value)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the whole split."""
        self._log_metrics(self.test_metrics, "test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return image ids and predicted classes, N x ..."""
        return {"image_id": batch["image_id"], "prediction": predicted_class(self(batch["image"]))}

    def configure_optimizers(self) -> Any:
        """Return the optimizer, and the schedule that is stepped after each optimizer step."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer = (
            self.optimizer(parameters)
            if self.optimizer
            else torch.optim.SGD(parameters, lr=0.007, momentum=0.9, weight_decay=1e-4)
        )
        if self.scheduler is None:
            return optimizer
        scheduler = self.scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _targets(self, batch: dict[str, Any]) -> Tensor:
        if self.target not in batch:
            raise ValueError(
                f'{type(self).__name__} needs batches with "{self.target}", got {", ".join(batch)}; choose a '
                "data source of the same task as the model"
            )
        return batch[self.target]

    def _with_predicted_loss(self, images: Tensor, detach: bool = False) -> tuple[Tensor, Tensor]:
        network: PredictsLoss = self.network  # type: ignore[assignment]
        return network.with_predicted_loss(images.to(memory_format=self.memory_format), detach)

    def _loss(self, logits: Tensor, targets: Tensor, batch: dict[str, Any]) -> Tensor:
        return call_loss(self.loss, logits, targets, self._told(batch))

    def _told(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch as a loss is told it."""
        return {**batch, "epoch": self.current_epoch}

    def _ranked(self, targets: Tensor, batch: dict[str, Any]) -> Tensor:
        """The mean of the images' losses, and the weighted ranking loss."""
        ranking, epoch = self.ranking, self.current_epoch
        assert ranking is not None
        logits, predicted = self._with_predicted_loss(batch["image"], ranking.detaches(epoch))
        losses, counted = image_losses(self.loss, logits, targets, self._told(batch))
        losses, predicted = losses[counted], predicted[counted]
        order = ranking(losses, predicted)
        self.log("train/ranking_loss", order, on_step=False, on_epoch=True, batch_size=len(targets))
        # with a weight of 0 as well: under DDP every parameter has to have a gradient
        return losses.sum() / max(len(losses), 1) + ranking.weight_in(epoch) * order

    def _evaluate(self, batch: dict[str, Any], metrics: Metrics, split: str) -> None:
        targets = self._targets(batch)
        if self.ranking is None:
            logits = self(batch["image"])
        else:
            logits, predicted = self._with_predicted_loss(batch["image"])
            losses, counted = image_losses(self.loss, logits, targets, self._told(batch))
            self.rankings[split].update(losses[counted], predicted[counted])  # type: ignore[operator]
        self.update_metrics(metrics, logits, targets)
        self.log(f"{split}/loss", self._loss(logits, targets, batch), batch_size=len(batch["image_id"]), sync_dist=True)

    def _log_metrics(self, metrics: Metrics, split: str) -> None:
        if split in self.rankings:
            accuracy: RankingAccuracy = self.rankings[split]  # type: ignore[assignment]
            self.log(f"{split}/ranking_accuracy", accuracy.compute().float())
            accuracy.reset()
        values = metrics.compute()
        metrics.reset()
        for name, value in values.items():
            if value.ndim == 0:
                self.log(f"{split}/{name}", value.float(), prog_bar=f"val/{name}" == self.monitor)
                continue
            for class_name, of_class in zip(self.class_names, value, strict=True):
                # log NaN as well: otherwise Lightning keeps reporting the value of an earlier epoch
                self.log(f"{split}/{name}/{class_name}", of_class.float())
