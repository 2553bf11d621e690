"""Training, evaluation and prediction of one classification network."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from acquisition.functional import predicted_class
from lightning_modules.base import NetworkModule, Scores
from lightning_modules.losses import IGNORE_INDEX
from lightning_modules.metrics import classification_scores

__all__ = ["ClassificationModule", "probabilities"]


class ClassificationModule(NetworkModule):
    """Images to logits, N x C; batches have "label", N.

    decay_per_label: above 0, the optimizer's weight decay is decay_per_label divided by the number of units that the
    fit trains on (labelled ones that have a class), as the Gaussian-process view of dropout asks for (Gal et al. 2017
    used 2 x 3.5 in this form, on the hidden dense layer only; here it is on all parameters). 0 leaves the optimizer's
    own. The others are those of `NetworkModule`.
    """

    monitor = "val/accuracy"
    target = "label"

    def __init__(self, network: nn.Module, decay_per_label: float = 0.0, **kwargs: Any) -> None:
        super().__init__(network, **kwargs)
        if decay_per_label < 0:
            raise ValueError(f"decay_per_label must be at least 0, got {decay_per_label}")
        self.decay_per_label = decay_per_label

    def make_scores(self) -> MetricCollection:
        return classification_scores(self.num_classes)

    def update_scores(self, scores: Scores, logits: Tensor, targets: Tensor) -> None:
        counted = targets != IGNORE_INDEX
        if counted.any():
            scores.update(probabilities(logits[counted]), targets[counted])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        """Image ids, predicted classes, N, and probabilities, N x C."""
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
    """N x C, in float32; one logit gives two columns."""
    logits = logits.float()
    if logits.shape[1] == 1:
        positive = logits[:, 0].sigmoid()
        return torch.stack([1 - positive, positive], dim=1)
    return logits.softmax(dim=1)
