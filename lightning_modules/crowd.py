"""A loss that learns how each person labels, together with the network."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from acquisition.annotation import VOID
from lightning_modules.losses import BatchLoss, labelled_mean, with_class_0

__all__ = ["CrowdLayer"]


class CrowdLayer(BatchLoss):
    """Cross entropy behind a matrix of each person's own (Rodrigues and Pereira 2018, variant MW).

    Person r's label y is compared with q = softmax(W_r p), where p is the network's softmax: the loss is -ln q_y. Every
    W_r is the identity at first. The network is to learn what people agree on, and W_r what r makes of it. The
    matrices belong to the loss: queries ask for p, and so does evaluation, with -ln p_y.

    Every image of a training batch has to be one person's, so `data.source.annotator` is "random".

    Args:
        num_annotators: How many people the data set has, those among them of whom nothing is used.
        num_classes: C; 2 for one logit.
        speed: How many times faster than the network's weights the matrices move under Adam. A matrix is reached by few
            samples and has far to go, so that at 1 it hardly moves in a short fit; Rodrigues and Pereira have 1.

    Raises:
        ValueError: If a number is too small.
    """

    needs = ("annotator",)
    remedy = (
        "set data.source.annotator to random, in a data.source that several people drew, such as "
        "datamodules.sources.multi_annotator.MultiAnnotatorFolder, and data.oracle to one that answers with their "
        "masks, datamodules.oracle.HiddenTruth, or choose another loss"
    )

    def __init__(self, num_annotators: int, num_classes: int = 2, speed: float = 1.0) -> None:
        super().__init__()
        if num_annotators < 1 or num_classes < 2 or speed <= 0:
            raise ValueError(
                "CrowdLayer needs at least 1 annotator, 2 classes (2 for one logit) and a speed above 0, got "
                f"{num_annotators}, {num_classes} and {speed}"
            )
        self.speed = speed
        # an optimizer's step on what is learned is `speed` times as long a step of the matrix
        self.learned = nn.Parameter(torch.zeros(num_annotators, num_classes, num_classes))

    @property
    def matrices(self) -> Tensor:
        """W, annotators x said x true class."""
        return torch.eye(self.learned.shape[-1], device=self.learned.device) + self.speed * self.learned

    @torch.no_grad()
    def confusion(self) -> Tensor:
        """What each person says of a pixel of which the network is sure: annotators x true x said, rows sum to 1.

        Until something is learned that is e / (e + C - 1) on the diagonal, 0.73 for two classes, because p is at
        most 1: compare people with one another, not with 1.
        """
        return self.matrices.softmax(dim=1).transpose(1, 2)

    def readings(self) -> Mapping[str, float]:
        """The diagonal of `confusion`, as annotator_R/class_C."""
        confusion = self.confusion().tolist()
        return {f"annotator_{r}/class_{c}": row[c] for r, rows in enumerate(confusion) for c, row in enumerate(rows)}

    def forward(self, logits: Tensor, targets: Tensor, batch: Mapping[str, Any]) -> Tensor:
        logits = with_class_0(logits)
        people, classes = self.learned.shape[:2]
        if logits.shape[1] != classes:
            raise ValueError(
                f"CrowdLayer has matrices of {classes} classes, got logits of {logits.shape[1]}; set "
                f"model.loss.num_classes to {logits.shape[1]}"
            )
        if self.training:
            who: Tensor = batch["annotator"]
            if int(who.max()) >= people:
                raise ValueError(
                    f"CrowdLayer has matrices of {people} annotators, got a label of number {int(who.max())}, counted "
                    "from 0; set model.loss.num_annotators to how many people data.source has"
                )
            weights = self.matrices.to(logits.dtype)[who]
            logits = torch.einsum("nij,nj...->ni...", weights, logits.softmax(dim=1))
        return labelled_mean(F.cross_entropy(logits, targets, ignore_index=VOID, reduction="none"), targets)
