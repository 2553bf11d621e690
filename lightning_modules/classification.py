"""Training, evaluation and prediction of one classification network."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from acquisition.annotation import VOID
from acquisition.functional import predicted_class
from lightning_modules.base import Metrics, NetworkModule
from lightning_modules.metrics import classification_metrics

__all__ = ["ClassificationModule", "probabilities"]


class ClassificationModule(NetworkModule):
    """Classification of images; logits are N x C, and batches have the key "label" with N classes.

    Args:
        network: Maps images, N x channels x H x W, to logits, N x C; its attribute `num_classes` is C, where 1 means
            binary with a sigmoid.
        decay_per_label: If above 0, the optimizer's weight decay is this number divided by the number of units that the
            fit trains on, as the view of dropout as a Gaussian process implies. Gal et al. 2017 used 2 x 3.5 in this
            form, on the hidden dense layer only; here it applies to all parameters. 0 keeps the optimizer's own decay.
        macro_metrics: True reports precision, recall and F1 too, means over the classes.
        kwargs: The other arguments of `NetworkModule`.

    Raises:
        ValueError: `decay_per_label` is negative.
    """

    monitor = "val/accuracy"
    target = "label"

    def __init__(
        self, network: nn.Module, decay_per_label: float = 0.0, macro_metrics: bool | None = None, **kwargs: Any
    ) -> None:
        # the metrics are made there
        self.macro_metrics = bool(macro_metrics)
        super().__init__(network, **kwargs)
        if decay_per_label < 0:
            raise ValueError(f"decay_per_label must be at least 0, got {decay_per_label}")
        self.decay_per_label = decay_per_label

    def make_metrics(self) -> MetricCollection:
        return classification_metrics(self.num_classes, self.macro_metrics)

    def update_metrics(self, metrics: Metrics, logits: Tensor, targets: Tensor) -> None:
        counted = targets != VOID
        if counted.any():
            metrics.update(probabilities(logits[counted]), targets[counted])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Return image ids, predicted classes, N, and probabilities, N x C."""
        logits = self(batch["image"])
        return {
            "image_id": batch["image_id"],
            "prediction": predicted_class(logits),
            "probabilities": probabilities(logits),
        }

    def configure_optimizers(self) -> Any:
        configured = super().configure_optimizers()
        if self.decay_per_label:
            optimizer: Optimizer = configured["optimizer"] if isinstance(configured, dict) else configured
            training = len(self.trainer.datamodule.pool.training_images())  # type: ignore[attr-defined]
            for group in optimizer.param_groups:
                group["weight_decay"] = self.decay_per_label / training
        return configured


def probabilities(logits: Tensor) -> Tensor:
    """Turn logits into class probabilities.

    Args:
        logits: N x C; one logit per image is that of class 1 of two.

    Returns:
        Probabilities in float32, N x C (N x 2 for one logit), summing to 1.
    """
    logits = logits.float()
    if logits.shape[1] == 1:
        positive = logits[:, 0].sigmoid()
        return torch.stack([1 - positive, positive], dim=1)
    return logits.softmax(dim=1)
