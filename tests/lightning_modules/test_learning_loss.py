"""Learning loss: the mathematics worked by hand, what is trained when, and the network that predicts its loss."""

import doctest
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader

from acquisition.annotation import VOID
from lightning_modules import learning_loss
from lightning_modules.learning_loss import (
    RankingAccuracy,
    RankingLoss,
    image_losses,
    ranking_accuracy,
    ranking_loss,
)
from lightning_modules.losses import CrossEntropy
from lightning_modules.networks import DRND22, LossPrediction, loss_prediction
from lightning_modules.segmentation import SegmentationModule
from tests.lightning_modules.test_segmentation import samples, trainer

Network = Callable[..., nn.Module]


def predicting(network: nn.Module) -> LossPrediction:
    torch.manual_seed(1)
    return LossPrediction(network, ["body", "head"], width=4, image_shape=(3, 8, 8))


@pytest.mark.parametrize("module", [learning_loss, loss_prediction], ids=lambda m: m.__name__)
def test_examples_in_docstrings(module: Any) -> None:
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0


def test_ranking_loss_by_hand() -> None:
    losses = torch.tensor([2.0, 1.0, 5.0, 1.0, 3.0, 5.0, 9.0], requires_grad=True)
    predicted = torch.tensor([0.5, 0.0, 1.0, 0.25, 2.0, 7.0, 9.0], requires_grad=True)
    # pairs: (2, 1) right by 0.25, 1 - 0.25; (1, 3) right by 2, 0; (5, 5) equal, 1; the seventh has no partner
    loss = ranking_loss(losses, predicted)
    assert loss.item() == pytest.approx((0.75 + 0 + 1) / 3)
    assert ranking_loss(losses, predicted, margin=3).item() == pytest.approx((2.75 + 1 + 3) / 3)
    # the wrong order costs more than the margin
    assert ranking_loss(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5])).item() == 3.5
    loss.backward()
    assert losses.grad is None
    third = 1 / 3
    assert predicted.grad is not None
    assert predicted.grad.tolist() == pytest.approx([-third, 0, 0, third, 0, 0, 0])


def test_pairs_are_a_permutation_cut_in_halves() -> None:
    losses, predicted = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.tensor([0.1, 0.9, 0.3, 0.7])

    def paired(i: int, j: int) -> float:
        return max(0.0, 1 - math.copysign(1, (losses[i] - losses[j]).item()) * (predicted[i] - predicted[j]).item())

    # the three ways to pair four images
    ways = [(paired(0, a) + paired(*{1, 2, 3} - {a})) / 2 for a in (1, 2, 3)]
    drawn = [RankingLoss()(losses, predicted, torch.Generator().manual_seed(s)).item() for s in range(30)]
    assert {round(x, 5) for x in drawn} == {round(x, 5) for x in ways}


@pytest.mark.parametrize("count", [0, 1])
def test_without_a_pair_the_loss_is_0_and_has_a_gradient(count: int) -> None:
    predicted = torch.ones(count, requires_grad=True)
    loss = RankingLoss()(torch.ones(count), predicted)
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert predicted.grad.tolist() == [0.0] * count


def test_ranking_accuracy_against_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_modules.learning_loss._ROWS", 4)
    generator = torch.Generator().manual_seed(0)
    # few values, so that there are ties
    losses, predicted = (torch.randint(6, (11,), generator=generator).double() for _ in range(2))
    pairs = [(i, j) for i in range(11) for j in range(i)]
    right = sum(float((losses[i] - losses[j]) * (predicted[i] - predicted[j])) > 0 for i, j in pairs)
    assert ranking_accuracy(losses, predicted).item() == pytest.approx(right / len(pairs))
    assert ranking_accuracy(losses, losses * 1e-30).item() == ranking_accuracy(losses, losses).item()
    assert ranking_accuracy(torch.tensor([1.0]), torch.tensor([1.0])).isnan()
    metric = RankingAccuracy()
    for rows in (slice(0, 4), slice(4, 4), slice(4, 11)):
        metric.update(losses[rows], predicted[rows])
    assert metric.compute().item() == pytest.approx(right / len(pairs))


def test_losses_of_images() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 6, generator=generator)
    masks = torch.randint(4, (3, 5, 6), generator=generator)
    masks[0, 1:] = masks[1] = VOID
    losses, counted = image_losses(CrossEntropy(), logits, masks)
    assert counted.tolist() == [True, False, True]
    pixels = -logits.log_softmax(dim=1).gather(1, masks.where(masks != VOID, 0)[:, None])[:, 0]
    assert losses.tolist() == pytest.approx([pixels[0, 0].mean().item(), 0, pixels[2].mean().item()])
    losses, counted = image_losses(CrossEntropy(), torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([1, VOID]))
    assert counted.tolist() == [True, False]
    assert losses[0].item() == pytest.approx(math.log(2))


def test_epochs_of_the_ranking_loss() -> None:
    loss = RankingLoss(weight=0.5, from_epoch=2, detach_epoch=4)
    assert [loss.weight_in(e) for e in range(6)] == [0, 0, 0.5, 0.5, 0.5, 0.5]
    assert [loss.detaches(e) for e in range(6)] == [True, True, False, False, True, True]
    assert not RankingLoss(detach_epoch=None).detaches(1000)
    with pytest.raises(ValueError, match=r"of RankingLoss must be at least 0, got -1, 1\.0, 2 and 150"):
        RankingLoss(weight=-1)


def test_drnd22_predicts_from_ten_layers() -> None:
    torch.manual_seed(0)
    network = LossPrediction(DRND22(11), width=16).eval()
    assert network.layers == (*(f"levels.{i}" for i in range(1, 9)), "head", "up")
    assert [layer.in_features for layer in network.squeeze] == [16, 32, 64, 128, 256, 512, 512, 512, 11, 11]
    images = torch.randn(3, 3, 40, 33)
    logits, losses = network.with_predicted_loss(images)
    assert losses.shape == (3,)
    assert losses.unique().numel() == 3
    assert torch.equal(logits, network(images))
    # the head by hand
    found: list[torch.Tensor] = []
    inner = network.network
    handles = [
        inner.get_submodule(n).register_forward_hook(lambda m, i, o: found.append(o.mean(dim=(2, 3))))
        for n in network.layers
    ]
    inner(images)
    for handle in handles:
        handle.remove()
    hidden = [(x @ s.weight.T + s.bias).relu() for x, s in zip(found, network.squeeze, strict=True)]
    expected = torch.cat(hidden, dim=1) @ network.predict.weight[0] + network.predict.bias
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)
    assert not any(m._forward_hooks for m in network.modules())


def test_features_are_those_before_the_next_layer_writes_over_them() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, 2, 1))
    network = LossPrediction(body, ["0"], width=3, pool=2)
    image = torch.randn(1, 3, 4, 6)
    cells = body[0](image).reshape(2, 2, 2, 2, 3).mean(dim=(2, 4)).reshape(1, 8)
    hidden = network.squeeze[0](cells).relu()
    torch.testing.assert_close(network.with_predicted_loss(image)[1], network.predict(hidden)[:, 0])


def test_layers_that_do_not_do(tiny_network: Network) -> None:
    with pytest.raises(
        ValueError, match=r"layers of TinyNetwork, got 'tail'; set model\.network\.layers to some of body, drop, head"
    ):
        LossPrediction(tiny_network(), ["body", "tail"])
    with pytest.raises(ValueError, match="layers of TinyNetwork, got none"):
        LossPrediction(tiny_network())
    unused = tiny_network()
    unused.more = nn.Linear(1, 1)
    with pytest.raises(ValueError, match="must run in every pass, got more"):
        LossPrediction(unused, ["more"])
    with pytest.raises(ValueError, match=r"must give N x D x h x w or N x D, got \(1, 3, 64\) from '1'"):
        LossPrediction(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Flatten(2)), ["1"], image_shape=(3, 8, 8))


def test_making_the_head_leaves_the_network_as_it_was(tiny_network: Network) -> None:
    network = tiny_network().train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    predicting(network)
    assert all(m.training for m in network.modules())
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


def test_detached_features_get_no_gradient(tiny_network: Network) -> None:
    network = predicting(tiny_network())
    for detach in (True, False):
        network.zero_grad()
        network.with_predicted_loss(torch.randn(2, 3, 8, 8), detach)[1].sum().backward()
        assert (network.network.body[0].weight.grad is None) == detach
        assert network.squeeze[0].weight.grad is not None


def test_the_step_is_the_mean_of_image_losses_and_the_weighted_ranking(tiny_network: Network) -> None:
    module = SegmentationModule(predicting(tiny_network(dropout=0.0)), ranking=RankingLoss(0.5, from_epoch=0))
    module.log = lambda name, value, **_: logged.__setitem__(name, value.item())  # type: ignore[method-assign]
    logged: dict[str, float] = {}
    generator = torch.Generator().manual_seed(0)
    images, masks = torch.randn(3, 3, 8, 8, generator=generator), torch.randint(3, (3, 8, 8), generator=generator)
    masks[0, 2:], masks[2] = VOID, VOID
    total = module.training_step({"image_id": list("abc"), "image": images, "mask": masks}, 0)
    logits, q = module.network.with_predicted_loss(images)
    losses = [CrossEntropy()(logits[i, None], masks[i, None]).item() for i in (0, 1)]
    hinge = max(0, 1 - math.copysign(1, losses[0] - losses[1]) * (q[0] - q[1]).item())
    assert total.item() == pytest.approx(sum(losses) / 2 + 0.5 * hinge, rel=1e-5)
    assert logged == pytest.approx({"train/ranking_loss": hinge, "train/loss": total.item()}, rel=1e-5)
    module.training_step({"image_id": list("abc"), "image": images, "mask": masks.fill_(VOID)}, 0).backward()
    assert all(p.grad is not None for p in module.parameters())


class PixelNetwork(nn.Module):
    """A network of single pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 2
        self.body = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).relu())


def test_a_fit_learns_which_images_lose() -> None:
    generator = torch.Generator().manual_seed(0)
    data: list[dict[str, Any]] = []
    for i in range(16):
        # so many of the pixels have a random class
        share = i / 16
        noise = torch.rand(8, 8, generator=generator) < share
        mask = torch.where(noise, torch.randint(2, (8, 8), generator=generator), 0)
        data.append({"image_id": str(i), "image": torch.full((3, 8, 8), share), "mask": mask})
    pl.seed_everything(0)
    module = SegmentationModule(
        LossPrediction(PixelNetwork(), ["body", "head"], width=8, image_shape=(3, 8, 8)),
        optimizer=partial(torch.optim.Adam, lr=0.01),
        ranking=RankingLoss(weight=1.0),
    )
    fit = trainer(max_epochs=40)
    fit.fit(module, DataLoader(data, 8, shuffle=True), DataLoader(data, 4))
    accuracy = fit.callback_metrics["val/ranking_accuracy"].item()
    assert accuracy > 0.8
    assert "train/ranking_loss" in fit.callback_metrics
    # over all pairs of the split, in whatever batches
    for batch_size in (3, 16):
        again = trainer().validate(module, DataLoader(data, batch_size), verbose=False)[0]
        assert again["val/ranking_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert "test/ranking_accuracy" in trainer().test(module, DataLoader(data, 4), verbose=False)[0]


def test_other_networks_are_trained_as_before(tiny_network: Network, fake_pair: Callable[..., Any]) -> None:
    module = SegmentationModule(tiny_network())
    fit = trainer(max_epochs=1)
    fit.fit(module, DataLoader(samples(fake_pair), 4), DataLoader(samples(fake_pair), 4))
    assert not [k for k in fit.callback_metrics if "ranking" in k]
    with pytest.raises(ValueError, match=r"model\.ranking needs a network that predicts its own loss, got TinyNetwork"):
        SegmentationModule(tiny_network(), ranking=RankingLoss())
    with pytest.raises(ValueError, match=r"set model\.compile to false"):
        SegmentationModule(predicting(tiny_network()), compile=True)
