"""A stacked fit against a plain loop over its networks."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from acquisition.seeding import derive_seed, generator_for
from lightning_modules.losses import CrossEntropy
from pipelines.stack_training import fit_stacked

BATCH = 8


def dense(seed: int, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 7), nn.ReLU(), nn.Dropout(dropout), nn.Linear(7, 3))


def convolutional(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout2d(0.25),
        nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3),
    )  # fmt: skip


def data(count: int = 60) -> tuple[Tensor, Tensor]:
    generator = generator_for("stacked")
    return torch.randn(count, 1, 6, 6, generator=generator), torch.randint(0, 3, (count,), generator=generator)


def order(seed: int, steps: int) -> Tensor:
    return torch.randint(0, 60, (steps, BATCH), generator=generator_for("order", seed))


def one_by_one(
    network: nn.Module, images: Tensor, labels: Tensor, batches: Tensor, optimizer: object, key: int
) -> None:
    network.train()
    steps = optimizer([p for p in network.parameters() if p.requires_grad])  # type: ignore[operator]
    for step, positions in enumerate(batches):
        torch.manual_seed(derive_seed(key, step))
        steps.zero_grad()
        nn.functional.cross_entropy(network(images[positions]), labels[positions]).backward()
        steps.step()


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.Adam, lr=0.01),
        partial(torch.optim.Adam, lr=0.01, fused=True),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3),
    ],
    ids=["Adam", "fused Adam", "SGD"],
)
@pytest.mark.parametrize("make", [dense, partial(dense, dropout=0.5), convolutional], ids=["dense", "drops", "conv"])
def test_stack_equals_one_by_one_with_fits_of_several_lengths(make: object, optimizer: object) -> None:
    images, labels = data()
    networks = [make(i) for i in range(4)]  # type: ignore[operator]
    start = copy.deepcopy(networks)
    alone = copy.deepcopy(networks)
    orders = [order(i, steps) for i, steps in enumerate((5, 12, 12, 0))]
    answers = [labels.roll(i) for i in range(4)]
    for i, network in enumerate(alone):
        one_by_one(network, images, answers[i], orders[i], optimizer, i)
    taken: list[int] = []
    fit_stacked(
        networks, images, torch.stack(answers), orders, nn.CrossEntropyLoss(),
        optimizer, derive_seed, on_step=taken.append,  # type: ignore[arg-type]
    )  # fmt: skip
    for stacked, single in zip(networks, alone, strict=True):
        for mine, its in zip(stacked.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)
    assert not torch.equal(next(networks[1].parameters()), next(start[1].parameters()))
    assert torch.equal(next(networks[3].parameters()), next(start[3].parameters()))
    assert taken == list(range(12))


def test_networks_of_a_stack_do_not_touch_each_other() -> None:
    images, labels = data()
    pair, other = [dense(0), dense(1)], [dense(0), dense(2)]
    for networks, key in ((pair, 1), (other, 5)):
        fit_stacked(
            networks,
            images,
            labels.expand(2, -1),
            [order(0, 9), order(key, 9)],
            nn.CrossEntropyLoss(),
            torch.optim.Adam,
        )
    for mine, its in zip(pair[0].parameters(), other[0].parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=0, atol=1e-6)


def test_what_does_not_train_stays() -> None:
    images, labels = data()
    networks = [dense(0), dense(1)]
    for network in networks:
        network[1].requires_grad_(False)
    before = copy.deepcopy(networks)
    fit_stacked(networks, images, labels.expand(2, -1), [order(0, 3)] * 2, nn.CrossEntropyLoss(), torch.optim.Adam)
    for now, then in zip(networks, before, strict=True):
        assert torch.equal(now[1].weight, then[1].weight)
        assert not torch.equal(now[4].weight, then[4].weight)


def test_buffers_are_refused() -> None:
    images, labels = data()
    network = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="one by one"):
        fit_stacked([network], images, labels[None], [order(0, 1)], nn.CrossEntropyLoss(), torch.optim.Adam)


@pytest.mark.parametrize("optimizer", [torch.optim.Adafactor, torch.optim.Muon, torch.optim.LBFGS])
def test_optimizers_that_would_mix_the_networks_are_refused(optimizer: Any) -> None:
    images, labels = data()
    with pytest.raises(ValueError, match=f"got {optimizer.__name__}; fit them one by one"):
        fit_stacked([dense(0)], images, labels[None], [order(0, 1)], nn.CrossEntropyLoss(), optimizer)


class Careless(nn.Module):
    """Dropout without a layer, which nobody can give seeds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(36, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(nn.functional.dropout(images.flatten(start_dim=1), training=self.training))
        return logits


def test_random_numbers_elsewhere_than_in_dropout_layers_are_refused() -> None:
    images, labels = data()
    with pytest.raises(ValueError, match="Careless draws random numbers elsewhere"):
        fit_stacked([Careless()], images, labels[None], [order(0, 1)], nn.CrossEntropyLoss(), torch.optim.Adam)


def test_dropout_needs_seeds() -> None:
    images, labels = data()
    with pytest.raises(ValueError, match="dropout_seed"):
        fit_stacked([dense(0, 0.5)], images, labels[None], [order(0, 1)], nn.CrossEntropyLoss(), torch.optim.Adam)


def test_weights_of_classes_and_labels_of_no_class_count_as_in_a_fit_of_ones_own() -> None:
    images, labels = data()
    labels[::5] = 255
    loss = CrossEntropy([1.0, 2.0, 0.5])
    for chosen in (loss, CrossEntropy()):
        networks = [dense(0), dense(1)]
        alone = copy.deepcopy(networks)
        orders = [order(0, 6), order(1, 6)]
        fit_stacked(networks, images, labels.expand(2, -1), orders, chosen, partial(torch.optim.SGD, lr=0.1))
        for network, batches, mine in zip(alone, orders, networks, strict=True):
            steps = torch.optim.SGD(network.parameters(), lr=0.1)
            for positions in batches:
                steps.zero_grad()
                chosen(network(images[positions]), labels[positions]).backward()
                steps.step()
            for one, other in zip(mine.parameters(), network.parameters(), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
