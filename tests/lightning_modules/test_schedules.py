"""Schedules."""

import pytest
import torch
from torch import nn

from lightning_modules.schedules import StepsByShare


def test_the_rate_falls_after_shares_of_the_fit() -> None:
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=0.01)
    schedule = StepsByShare(optimizer, 250)
    rates = []
    for _ in range(250):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.01] * 100 + [0.001] * 100 + [0.0001] * 50)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_that_are_none(share: float) -> None:
    with pytest.raises(ValueError, match=r"above 0 and below 1, got \[0\.4, "):
        StepsByShare(torch.optim.SGD(nn.Linear(1, 1).parameters()), 10, (0.4, share))
