"""Starting from the weights of another fit, all but those that depend on the number of classes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from lightning_modules.classification import ClassificationModule
from lightning_modules.networks import (
    DRND22,
    DeepLabV3Plus,
    FCN8s,
    FCNAlexNet,
    GalCNN,
    LossPrediction,
    ResNet18,
    SegNet,
    SmallVGG,
    TwoLayerNet,
)
from lightning_modules.pretrained import load_pretrained

NETWORKS: list[Callable[[int], nn.Module]] = [
    lambda c: DeepLabV3Plus(c, encoder="resnet18"),
    lambda c: FCN8s(c, width=1 / 8),
    lambda c: FCNAlexNet(c, width=1 / 8),
    lambda c: SegNet(c, width=1 / 8),
    DRND22,
    ResNet18,
    TwoLayerNet,
    GalCNN,
    SmallVGG,
]


@pytest.mark.parametrize("make", NETWORKS)
def test_score_layers_are_those_that_depend_on_the_number_of_classes(make: Callable[[int], nn.Module]) -> None:
    with torch.device("meta"):
        few, many = make(3), make(7)
    assert isinstance(few.score_layers, tuple)
    shapes = {k: v.shape for k, v in few.state_dict().items()}
    differ = {k for k, v in many.state_dict().items() if v.shape != shapes[k]}
    named = {k for k in shapes if k.startswith(tuple(f"{layer}." for layer in few.score_layers))}
    assert differ == named
    assert all(any(k.startswith(f"{layer}.") for k in named) for layer in few.score_layers)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = TwoLayerNet(4, width=5)
    torch.save({"state_dict": {f"network.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.mark.parametrize("classes", [3, 4])
def test_all_but_the_score_layer_is_taken(checkpoint: Path, classes: int) -> None:
    saved = torch.load(checkpoint)["state_dict"]
    torch.manual_seed(1)
    network = TwoLayerNet(classes, width=5)
    head = network.head.weight.clone()
    ClassificationModule(network, pretrained=str(checkpoint))
    assert torch.equal(network.hidden.weight, saved["network.hidden.weight"])
    assert torch.equal(network.hidden.bias, saved["network.hidden.bias"])
    assert torch.equal(network.head.weight, head)


def test_a_network_that_predicts_its_loss_starts_its_head_anew(tmp_path: Path) -> None:
    first, other = (
        LossPrediction(TwoLayerNet(c, width=5), layers=["hidden", "head"], image_shape=(1, 28, 28)) for c in (4, 3)
    )
    torch.save({"state_dict": {f"network.{k}": v for k, v in first.state_dict().items()}}, tmp_path / "a.ckpt")
    load_pretrained(other, tmp_path / "a.ckpt")
    assert torch.equal(first.network.hidden.weight, other.network.hidden.weight)


def test_another_network_is_refused_with_the_first_tensor_that_differs(checkpoint: Path) -> None:
    words = (
        r"a.ckpt of model.pretrained belongs to another network than TwoLayerNet.*hidden.weight, 5 x 784 there and 6 "
    )
    with pytest.raises(ValueError, match=words):
        load_pretrained(TwoLayerNet(4, width=6), checkpoint)
    with pytest.raises(ValueError, match=r"tensor that differs is features.0.weight, not there there"):
        load_pretrained(GalCNN(), checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_refused(checkpoint: Path, value: float) -> None:
    saved = torch.load(checkpoint)
    saved["state_dict"]["network.hidden.weight"][0, 0] = value
    torch.save(saved, checkpoint)
    with pytest.raises(ValueError, match=r"weights that are not numbers \(in hidden.weight first\)"):
        load_pretrained(TwoLayerNet(3, width=5), checkpoint)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    network = TwoLayerNet(4, width=5)
    (tmp_path / "b.ckpt").write_text("nothing")
    torch.save([1], tmp_path / "c.ckpt")
    torch.save({"state_dict": {"network.hidden.weight": 1}}, tmp_path / "d.ckpt")
    for name, words in {
        "nothing.ckpt": "model.pretrained: expected a checkpoint at .*nothing.ckpt, got no such file",
        ".": "got a folder", "b.ckpt": "not a readable", "c.ckpt": "not a", "d.ckpt": "not a readable",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=words):
            load_pretrained(network, tmp_path / name)
    with pytest.raises(ValueError, match="Linear does not name them; give its class an attribute score_layers"):
        load_pretrained(nn.Linear(2, 2), tmp_path / "b.ckpt")
