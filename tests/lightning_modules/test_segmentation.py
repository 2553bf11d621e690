"""Training, evaluation and prediction, with nothing but the module under test and Lightning."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torch.optim.lr_scheduler import PolynomialLR
from torch.utils.data import DataLoader

from datamodules.datamodule import PoolDataModule
from datamodules.sources.synthetic import SyntheticRoads
from lightning_modules.segmentation import SegmentationModule

Network = Callable[..., nn.Module]
Samples = list[dict[str, Any]]


def samples(fake_pair: Callable[..., Any], count: int = 8, classes: int = 3) -> Samples:
    made = []
    for i in range(count):
        image, mask = fake_pair(i, classes)
        pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 64 - 2
        made.append({"image_id": f"u{i}", "image": pixels, "mask": torch.from_numpy(mask).long()})
    return made


def trainer(**arguments: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **arguments,
    )  # fmt: skip


class Watch(pl.Callback):
    """Remembers the loss and the learning rate of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, outputs: Any, *_: Any) -> None:
        self.losses.append(float(outputs["loss"]))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_fit_learns_and_the_poly_rate_ends_at_0(
    classes: int, channels_last: bool, tiny_network: Network, fake_pair: Callable[..., Any]
) -> None:
    pl.seed_everything(0)
    data = samples(fake_pair, classes=max(2, classes))
    module = SegmentationModule(
        tiny_network(classes, dropout=0.1),
        optimizer=partial(torch.optim.Adam, lr=0.05),
        scheduler=partial(PolynomialLR, power=0.9),
        channels_last=channels_last,
    )
    watch = Watch()
    fit = trainer(max_epochs=20, callbacks=[watch])
    fit.fit(module, DataLoader(data, 4), DataLoader(data, 4))
    assert sum(watch.losses[-2:]) < 0.5 * sum(watch.losses[:2])
    assert fit.callback_metrics["val/miou"] > 0.6
    steps = len(watch.rates)
    assert watch.rates == pytest.approx([0.05 * (1 - i / steps) ** 0.9 for i in range(steps)])
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_validation_scores_are_those_of_the_whole_split(tiny_network: Network, fake_pair: Callable[..., Any]) -> None:
    data = samples(fake_pair, count=5)
    data[0]["mask"][:4] = 255
    data[1]["mask"][data[1]["mask"] == 2] = 255
    module = SegmentationModule(tiny_network(4))
    (logged,) = trainer().validate(module, DataLoader(data, 2), verbose=False)
    with torch.no_grad():
        predicted = torch.cat([module.eval()(d["image"][None]).argmax(dim=1) for d in data])
    truth = torch.stack([d["mask"] for d in data])
    known = truth != 255
    ious = {}
    for c in range(4):
        union = (((predicted == c) | (truth == c)) & known).sum().item()
        if union:
            ious[str(c)] = (((predicted == c) & (truth == c)) & known).sum().item() / union
    assert {k.removeprefix("val/iou/"): v for k, v in logged.items() if "/iou/" in k} == pytest.approx(ious, abs=1e-6)
    assert logged["val/miou"] == pytest.approx(sum(ious.values()) / len(ious), abs=1e-6)
    assert logged["val/pixel_accuracy"] == pytest.approx((predicted == truth)[known].float().mean().item(), abs=1e-6)


def test_scores_start_afresh_each_epoch(tiny_network: Network, fake_pair: Callable[..., Any]) -> None:
    module = SegmentationModule(tiny_network())
    loaders = DataLoader(samples(fake_pair), 4), DataLoader(samples(fake_pair), 4)
    test = trainer()
    (first,), (again,) = (test.test(module, loaders[i], verbose=False) for i in range(2))
    assert first == again
    assert first["test/miou"] > 0


@pytest.mark.parametrize("classes", [1, 3])
def test_prediction_is_the_likeliest_class(classes: int, tiny_network: Network, fake_pair: Callable[..., Any]) -> None:
    module = SegmentationModule(tiny_network(classes))
    data = samples(fake_pair, count=3)
    batches = trainer().predict(module, DataLoader(data, 2))
    assert [u for b in batches for u in b["image_id"]] == ["u0", "u1", "u2"]
    with torch.no_grad():
        logits = module.eval()(torch.stack([d["image"] for d in data]))
    want = (logits[:, 0].sigmoid() > 0.5).long() if classes == 1 else logits.softmax(dim=1).argmax(dim=1)
    assert torch.equal(torch.cat([b["prediction"] for b in batches]), want)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_the_fit(
    value: float, tiny_network: Network, fake_pair: Callable[..., Any]
) -> None:
    class Broken(nn.Module):
        def forward(self, logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
            return logits.sum() * value

    module = SegmentationModule(tiny_network(), loss=Broken())
    with pytest.raises(ValueError, match=r"training loss is (nan|-?inf) at step 0.*lower the learning rate"):
        trainer(max_epochs=1).fit(module, DataLoader(samples(fake_pair), 4))


@pytest.mark.parametrize("classes", [3, 1])
def test_classes_that_are_not_those_of_the_data(classes: int, tiny_network: Network, tmp_path: Path) -> None:
    data = PoolDataModule(SyntheticRoads(num_train=2, num_val=2, size=(16, 16)), run_dir=str(tmp_path))
    module = SegmentationModule(tiny_network(classes))
    predicts = max(2, classes)
    with pytest.raises(
        ValueError, match=rf"predicts {predicts} classes but the data has 5 \(road, car.*num_classes to 5"
    ):
        trainer().validate(module, data)


def test_defaults(tiny_network: Network) -> None:
    module = SegmentationModule(tiny_network())
    optimizer = module.configure_optimizers()
    group = optimizer.param_groups[0]
    assert isinstance(optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.007, 0.9, 1e-4)


def test_frozen_parameters_are_not_optimised(tiny_network: Network) -> None:
    network = tiny_network()
    network.body.requires_grad_(False)
    optimizer = SegmentationModule(network).configure_optimizers()
    assert {id(p) for g in optimizer.param_groups for p in g["params"]} == {id(p) for p in network.head.parameters()}
