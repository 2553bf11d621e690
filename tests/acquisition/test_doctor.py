"""The doctor finds what it is there to find."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from acquisition.checks import DoctorError, require
from acquisition.doctor import examine_network
from acquisition.functions import BALD, Entropy
from acquisition.regions import Regions
from acquisition.scorer import Scorer

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
WHOLE = Regions.whole(["a", "b"])


def test_a_healthy_network(tiny_network: Callable[..., nn.Module]) -> None:
    network = tiny_network().train()
    checks = examine_network(Scorer(BALD()), network, IMAGES, WHOLE, seed=0)
    require(checks)
    found = {c.name: c.found for c in checks}
    assert found["active dropouts"] == "1: drop 0.5"
    # the head, 8 x 3 of (3 x 8 x 9 + 8 x 3) multiplications per pixel
    assert found["repeated for each sample"] == f"{24 / 240:.1%} of the operations"
    assert found["training modes after two samples"] == "restored"
    assert all(m.training for m in network.modules())


def test_updating_buffers_are_refused(tiny_network: Callable[..., nn.Module]) -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_network()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.inner(x)

    for strategy in (BALD(), Entropy()):
        with pytest.raises(DoctorError, match="calls changed; keep BatchNorm"):
            require(examine_network(Scorer(strategy), Counts(), IMAGES, WHOLE, seed=0))


def test_a_dropout_that_the_output_does_not_depend_on(tiny_network: Callable[..., nn.Module]) -> None:
    network = tiny_network()
    nn.init.zeros_(network.head.weight)
    with pytest.raises(DoctorError, match="largest difference between two samples: 0"):
        require(examine_network(Scorer(BALD()), network, IMAGES, WHOLE, seed=0))


def test_no_dropout_is_said_by_name(tiny_network: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match="at least one active dropout layer"):
        examine_network(Scorer(BALD()), tiny_network(dropout=0.0), IMAGES, WHOLE, seed=0)
    require(examine_network(Scorer(Entropy()), tiny_network(dropout=0.0), IMAGES, WHOLE, seed=0))
