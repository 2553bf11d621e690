"""Two moons: what losses make of positives that are labelled as negatives, sample by sample."""

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from acquisition.functional import predicted_class
from acquisition.seeding import derive_seed, generator_for
from datamodules.datasets import EpochSampler
from lightning_modules.learning_loss import image_losses
from lightning_modules.losses import CrossEntropy
from lightning_modules.unlabelled_losses import (
    BootstrapHard,
    ExponentialOdds,
    ExponentialUnlabelled,
    WeightedUnlabelled,
)
from pipelines.stack_training import fit_stacked
from records.files import write_table
from records.run_directory import RunDirectory

__all__ = ["fit_moons", "loss_curves", "moons_data"]

_LOSSES: dict[str, nn.Module] = {
    "cross entropy": CrossEntropy(),
    "balanced": WeightedUnlabelled(weight=1.0),
    "weighted": WeightedUnlabelled(),
    "exponential": ExponentialUnlabelled(),
}
_CURVES = {name: loss for name, loss in _LOSSES.items() if name != "balanced"} | {
    "bootstrap hard": BootstrapHard(), "exponential odds": ExponentialOdds(),
}  # fmt: skip
_BATCH = 100
_STEP = 0.05


def fit_moons(run_dir: Path, count: int, hidden: float, seeds: int, epochs: int, rate: float) -> Path:
    """Fit networks with each loss, and write what they say of the points as a table; see the verb moons.

    Args:
        run_dir: The run directory.
        count: How many points, half of them positive.
        hidden: The share of positives that is labelled negative, below 1.
        seeds: How many times.
        epochs: Of each fit.
        rate: The learning rate.

    Returns:
        The table's file.

    Raises:
        ValueError: If a number is out of its range.
    """
    if not 0 <= hidden < 1 or count < 2 * _BATCH or min(seeds, epochs) < 1:
        raise ValueError(
            f"moons needs hidden from 0 to below 1, at least {2 * _BATCH} points, and a seed and an epoch, got hidden "
            f"{hidden}, count {count}, seeds {seeds} and epochs {epochs}"
        )
    points, truth = moons_data(count)
    labels = torch.stack([_hide(truth, hidden, seed) for seed in range(seeds)])
    grid = _grid(points)
    tables = [loss_curves()]
    for name, loss, given in [
        ("complete", CrossEntropy(), truth.expand(seeds, -1)),
        *((name, loss, labels) for name, loss in _LOSSES.items()),
    ]:
        for seed, network in enumerate(_fitted(points, given, loss, epochs, rate)):
            said = _said(network, loss, points, given[seed])
            tables.append(said.assign(part="sample", loss=name, seed=seed, truth=truth.numpy()))
            if not seed:
                probability = network(grid).softmax(dim=1)[:, 1].numpy()
                table = pd.DataFrame({"x": grid[:, 0].numpy(), "y": grid[:, 1].numpy(), "probability": probability})
                tables.append(table.assign(part="grid", loss=name, seed=seed))
    path = RunDirectory(run_dir).moons
    write_table(path, pd.concat(tables, ignore_index=True))
    return path


def moons_data(count: int) -> tuple[Tensor, Tensor]:
    """Two half circles that interlock, with normal noise of 0.1.

    Args:
        count: How many points.

    Returns:
        Points, N x 2, and classes, N; half of them are 1, the positives.
    """
    from sklearn.datasets import make_moons  # it takes most of a second to import

    points, truth = make_moons(count, noise=0.1, random_state=0)
    return torch.from_numpy(points).float(), torch.from_numpy(truth).long()


def loss_curves() -> pd.DataFrame:
    """Losses of one sample with the logits (-f, f) for f from -5 to 5, and their derivatives by f.

    Returns:
        Columns part ("curve"), loss, label, x (f), value and gradient.
    """
    tables = []
    for label in (0, 1):
        for name, loss in _CURVES.items():
            f = torch.linspace(-5, 5, 201, dtype=torch.float64, requires_grad=True)
            values, _ = image_losses(loss, torch.stack([-f, f], dim=1), torch.full((len(f),), label))
            (gradient,) = torch.autograd.grad(values.sum(), f)
            columns = {"x": f.detach().numpy(), "value": values.detach().numpy(), "gradient": gradient.numpy()}
            tables.append(pd.DataFrame(columns).assign(part="curve", loss=name, label=label))
    return pd.concat(tables, ignore_index=True)


def _hide(truth: Tensor, share: float, seed: int) -> Tensor:
    """Classes in which so many of the positives, at random, are 0."""
    positives = truth.nonzero()[:, 0]
    order = torch.randperm(len(positives), generator=generator_for(seed, "hidden"))
    labels = truth.clone()
    labels[positives[order[: round(share * len(positives))]]] = 0
    return labels


def _fitted(points: Tensor, labels: Tensor, loss: nn.Module, epochs: int, rate: float) -> list[nn.Module]:
    networks, orders = list[nn.Module](), list[Tensor]()
    for seed in range(len(labels)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "moons"))
            networks.append(nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
        sampler, batches = EpochSampler(len(points), _BATCH, seed), list[Tensor]()
        for epoch in range(epochs):
            sampler.set_epoch(epoch)
            batches.append(sampler.positions())
        orders.append(torch.cat(batches).view(-1, _BATCH))
    fit_stacked(networks, points, labels, orders, loss, partial(torch.optim.Adam, lr=rate, fused=True))
    return [network.requires_grad_(False) for network in networks]


def _said(network: nn.Module, loss: nn.Module, points: Tensor, labels: Tensor) -> pd.DataFrame:
    """What a network says of the points, and what each costs: the loss and its derivative by the label's logit."""
    logits = network(points).requires_grad_()
    values, _ = image_losses(loss, logits, labels)
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    columns = {
        "x": points[:, 0], "y": points[:, 1], "label": labels, "probability": logits.softmax(dim=1)[:, 1],
        "prediction": predicted_class(logits), "value": values,
        "gradient": gradient.gather(1, labels[:, None])[:, 0].abs(),
    }  # fmt: skip
    return pd.DataFrame({name: values.detach().numpy() for name, values in columns.items()})


def _grid(points: Tensor) -> Tensor:
    """Points around all others, row by row."""
    low, high = points.amin(dim=0) - 0.3, points.amax(dim=0) + 0.3
    x, y = (np.arange(float(a), float(b), _STEP) for a, b in zip(low, high, strict=True))
    return torch.from_numpy(np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)).float()
