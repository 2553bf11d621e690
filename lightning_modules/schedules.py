"""Schedules that torch has not: of a fit whose number of steps depends on how much is labelled."""

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

__all__ = ["StepsByShare"]


class StepsByShare(MultiStepLR):
    """Multiplies the learning rate by a factor after shares of the fit: 100 and 200 of 250 epochs are 0.4 and 0.8.

    Args:
        optimizer: Whose learning rate it is.
        total_steps: Optimizer steps of the fit.
        shares: Of the steps, above 0 and below 1.
        factor: By which the rate is multiplied at each.

    Raises:
        ValueError: A share is none.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, shares: Sequence[float] = (0.4, 0.8), factor: float = 0.1
    ) -> None:
        if not all(0 < share < 1 for share in shares):
            raise ValueError(f"the shares of a fit must be above 0 and below 1, got {list(shares)}")
        super().__init__(optimizer, [round(share * total_steps) for share in shares], gamma=factor)
