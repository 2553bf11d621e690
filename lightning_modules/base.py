"""What training one network is, whatever it predicts."""

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
from lightning_modules.losses import CrossEntropy

__all__ = ["NetworkModule", "Scores"]

OptimizerFactory = Callable[[Iterable[nn.Parameter]], Optimizer]
SchedulerFactory = Callable[[Optimizer, int], LRScheduler]
Scores = Metric | MetricCollection


class NetworkModule(pl.LightningModule):
    """A network, a loss, an optimizer and a schedule; a subclass says what is predicted and how it is scored.

    network: images, N x channels x H x W, to logits, N x C x ... (C = 1: binary with a sigmoid); `num_classes` is
    its C. loss: (logits, targets) to a scalar; `CrossEntropy` unless given. optimizer: made from the
    parameters; plain SGD with learning rate 0.007, momentum 0.9 and weight decay 1e-4 unless given. scheduler:
    made from the optimizer and the number of optimizer steps of the fit, stepped after each; None keeps the
    learning rate (the poly schedule is torch's PolynomialLR with power 0.9). channels_last: memory format of
    network and images, faster for convolutions on most machines. compile: run training through torch.compile
    (queries run the plain network). monitor: which validation's weights a fit keeps and reports, that of the "best"
    score, or the "last"; the best of many is an optimistic figure where the split that chooses is the one reported.
    """

    monitor: ClassVar[str]
    """The score, larger is better, by which the best weights of a fit are known."""

    target: ClassVar[str]
    """What batches call the truth."""

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module | None = None,
        optimizer: OptimizerFactory | None = None,
        scheduler: SchedulerFactory | None = None,
        channels_last: bool = False,
        compile: bool = False,
        monitor: Literal["best", "last"] = "best",
    ) -> None:
        super().__init__()
        self.keeps_last = monitor == "last"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.to(memory_format=self.memory_format)
        self.loss = loss or CrossEntropy()
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.num_classes: int = max(2, int(getattr(network, "num_classes", 0)))
        self.class_names = [str(c) for c in range(self.num_classes)]
        self.val_scores = self.make_scores()
        self.test_scores = self.make_scores()
        if compile:
            self.network.compile()

    @abstractmethod
    def make_scores(self) -> Scores:
        """What sums up a split: `compute` gives a number, or one number per class, by name."""

    @abstractmethod
    def update_scores(self, scores: Scores, logits: Tensor, targets: Tensor) -> None:
        """Add one batch."""

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits."""
        logits: Tensor = self.network(images.to(memory_format=self.memory_format))
        return logits

    def setup(self, stage: str) -> None:
        """Refuse a network whose classes are not those of the data."""
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        self.match_classes(datamodule.source.class_names)

    def match_classes(self, names: Sequence[str]) -> None:
        """Take over the data's names of the classes; ValueError where they are not as many as the network's."""
        names = self.class_names = list(names)
        if len(names) != self.num_classes:
            raise ValueError(
                f"the network predicts {self.num_classes} classes but the data has {len(names)} ({', '.join(names)}); "
                f"set model.network.num_classes to {len(names)}" + (" (or 1)" if len(names) == 2 else "")
            )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        """Loss of one batch; stops the fit when it is not a finite number."""
        loss: Tensor = self.loss(self(batch["image"]), self._targets(batch))
        if not torch.isfinite(loss):
            raise ValueError(
                f"the training loss is {loss.item()} at step {self.global_step}; expected a finite number: lower the "
                "learning rate, or use trainer.precision 32-true"
            )
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["image_id"]))
        return loss

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch, self.val_scores, "val")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Add one batch to the scores."""
        self._evaluate(batch, self.test_scores, "test")

    def on_validation_epoch_end(self) -> None:
        """Log the scores of the whole split."""
        self._log_scores(self.val_scores, "val")

    def on_test_epoch_end(self) -> None:
        """Log the scores of the whole split."""
        self._log_scores(self.test_scores, "test")

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Image ids and predicted classes, N x ...."""
        return {"image_id": batch["image_id"], "prediction": predicted_class(self(batch["image"]))}

    def configure_optimizers(self) -> Any:
        """Optimizer, and the schedule stepped after each optimizer step."""
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

    def _evaluate(self, batch: dict[str, Any], scores: Scores, split: str) -> None:
        logits, targets = self(batch["image"]), self._targets(batch)
        self.update_scores(scores, logits, targets)
        self.log(f"{split}/loss", self.loss(logits, targets), batch_size=len(batch["image_id"]), sync_dist=True)

    def _log_scores(self, scores: Scores, split: str) -> None:
        values = scores.compute()
        scores.reset()
        for name, value in values.items():
            if value.ndim == 0:
                self.log(f"{split}/{name}", value.float(), prog_bar=f"val/{name}" == self.monitor)
                continue
            for class_name, of_class in zip(self.class_names, value, strict=True):
                # NaN too: Lightning would go on reporting the value of an earlier epoch
                self.log(f"{split}/{name}/{class_name}", of_class.float())
