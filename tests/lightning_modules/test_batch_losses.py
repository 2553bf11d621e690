"""Losses that are told the whole batch, called by a module, by learning loss, and refused by stacks."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.utils.data import DataLoader

from lightning_modules.learning_loss import RankingLoss, image_losses
from lightning_modules.losses import BatchLoss, CrossEntropy, call_loss
from lightning_modules.networks import LossPrediction
from lightning_modules.segmentation import SegmentationModule
from pipelines.stack_training import check_stackable
from tests.lightning_modules.test_segmentation import samples, trainer

Network = Callable[..., nn.Module]


class PerAnnotator(BatchLoss):
    """Cross entropy of logits to which every annotator adds a bias of their own while training."""

    needs = ("annotator",)

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(2, 3))
        self.told: list[tuple[bool, int, list[str], int]] = []

    def forward(self, logits: Tensor, targets: Tensor, batch: Mapping[str, Any]) -> Tensor:
        self.told.append((self.training, batch["epoch"], batch["image_id"], len(batch.get("annotator", ()))))
        bias = self.bias[batch["annotator"]][:, :, None, None] if self.training else 0
        return F.cross_entropy(logits + bias, targets)


def drawn(fake_pair: Callable[..., Any]) -> list[dict[str, Any]]:
    return [{**sample, "annotator": i % 2} for i, sample in enumerate(samples(fake_pair))]


def test_a_fit_tells_the_batch_and_trains_what_the_loss_has(
    tiny_network: Network, fake_pair: Callable[..., Any], tmp_path: Path
) -> None:
    pl.seed_everything(0)
    loss = PerAnnotator()
    module = SegmentationModule(tiny_network(), loss=loss, optimizer=partial(torch.optim.Adam, lr=0.1))
    fit = trainer(max_epochs=2, num_sanity_val_steps=0)
    fit.fit(module, DataLoader(drawn(fake_pair), 4), DataLoader(samples(fake_pair), 8))
    first, second = [f"u{i}" for i in range(4)], [f"u{i}" for i in range(4, 8)]
    # validation batches need not say who labelled them
    epoch = [(True, first, 4), (True, second, 4), (False, first + second, 0)]
    assert loss.told == [(training, n, ids, count) for n in (0, 1) for training, ids, count in epoch]
    assert loss.bias.abs().min() > 0
    fit.save_checkpoint(tmp_path / "last.ckpt")
    other = SegmentationModule(tiny_network(), loss=PerAnnotator())
    other.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"])
    assert torch.equal(other.loss.bias, loss.bias)


def test_without_annotators_it_says_so(tiny_network: Network, fake_pair: Callable[..., Any]) -> None:
    module = SegmentationModule(tiny_network(), loss=PerAnnotator())
    words = 'PerAnnotator needs training batches with "annotator", got epoch, image, image_id, mask; choose a data'
    with pytest.raises(ValueError, match=words):
        trainer(max_epochs=1).fit(module, DataLoader(samples(fake_pair), 4))


def test_losses_of_images_are_told_their_part_of_the_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(4, 3, 2, 2, generator=generator), torch.randint(3, (4, 2, 2), generator=generator)
    loss = PerAnnotator()
    nn.init.normal_(loss.bias)
    batch = {"image_id": list("abcd"), "annotator": torch.tensor([0, 1, 1, 0]), "epoch": 5}
    losses, _ = image_losses(loss, logits, targets, batch)
    assert [told[1:] for told in loss.told] == [(5, [name], 1) for name in "abcd"]
    # images of one size: the batch's loss is their mean
    assert torch.allclose(losses.mean(), call_loss(loss, logits, targets, batch))


def test_with_learning_loss(tiny_network: Network, fake_pair: Callable[..., Any]) -> None:
    network = LossPrediction(tiny_network(), ["body"], width=4, image_shape=(3, 8, 8))
    module = SegmentationModule(network, loss=PerAnnotator(), ranking=RankingLoss(from_epoch=0))
    fit = trainer(max_epochs=1)
    fit.fit(module, DataLoader(drawn(fake_pair), 4), DataLoader(samples(fake_pair), 8))
    assert module.loss.bias.abs().min() > 0


def test_stacks_refuse_them() -> None:
    class Weighted(CrossEntropy):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

    for loss in (PerAnnotator(), Weighted()):
        with pytest.raises(ValueError, match=f"got {type(loss).__name__}; fit them one by one"):
            check_stackable(nn.Linear(2, 3), torch.optim.Adam, loss)
