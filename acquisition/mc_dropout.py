"""Monte Carlo dropout: T stochastic passes whose masks belong to the sampled network, not to the unit.

The masks of sample t are drawn from (key, layer, t) and the feature shape, and are shared by every unit, so
sample t is one network and a score does not depend on batch size, order or device. A dropout layer keeps its
values with probability 1 - p and divides them by 1 - p ("inverted dropout"), in training and here, so the
expected activation is the same at any p: this is the weight rescaling that makes a query rate different from
the training rate legitimate.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention
from torch.overrides import TorchFunctionMode

from acquisition.seeding import generator_for

__all__ = ["MCDropout", "frozen", "has_dropout"]

_ELEMENTWISE = {F.dropout}
_BY_FEATURE = {F.dropout1d, F.dropout2d, F.dropout3d}
_ALPHA = {F.alpha_dropout, F.feature_alpha_dropout}


def has_dropout(network: nn.Module) -> bool:
    """Whether the network has a dropout module with a rate above 0."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in network.modules())


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for every module, and each module's own mode again afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        # a compiled network would run code that was traced for training
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for module, training in modes:
            module.training = training


class MCDropout:
    """Draws MC samples of a network.

    key: what the masks are drawn from beside layer and t; a seed and a cycle. rate: one dropout rate for all
    layers at query time, or None for each layer's training rate. per_unit: independent masks for every unit
    (drawn from its id too) instead of shared ones.
    """

    def __init__(
        self, network: nn.Module, key: Sequence[object], rate: float | None = None, per_unit: bool = False
    ) -> None:
        if rate is not None and not 0 < rate < 1:
            raise ValueError(f"the dropout rate at query time must lie between 0 and 1, got {rate}")
        self.network = network
        self.key = tuple(key)
        self.rate = rate
        self.per_unit = per_unit

    @torch.no_grad()
    def samples(self, images: Tensor, num_samples: int, unit_ids: Sequence[str] = ()) -> Iterator[Tensor]:
        """Yield T outputs of the network, each as one stochastic pass gives it. unit_ids: only for per_unit masks."""
        for t in range(num_samples):
            with frozen(self.network), _Masks(self, t, unit_ids) as masks:
                output = self.network(images)
            if not masks.layers:
                raise ValueError(
                    "MC dropout needs a network with at least one active dropout layer, got none that ran; "
                    "give the network a dropout rate above 0, or choose a strategy that needs no MC samples"
                )
            yield output

    def mask(self, layer: str, t: int, shape: Sequence[int], rate: float, unit_ids: Sequence[str]) -> Tensor:
        """0 or 1/(1 - rate), of shape 1 x shape, or N x shape if drawn per unit."""
        units = [(u,) for u in unit_ids] if self.per_unit else [()]
        keep = [torch.rand(tuple(shape), generator=generator_for(*self.key, layer, t, *unit)) >= rate for unit in units]
        return torch.stack(keep).float() / (1 - rate)


class _Masks(TorchFunctionMode):
    """Gives every dropout that runs inside this context the mask of sample t."""

    def __init__(self, sampler: MCDropout, t: int, unit_ids: Sequence[str]) -> None:
        super().__init__()
        self.sampler = sampler
        self.t = t
        self.unit_ids = unit_ids
        self.layers: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ALPHA:
            raise ValueError(
                f"MC dropout cannot draw masks for {func.__name__}; use Dropout, Dropout1d, Dropout2d or Dropout3d"
            )
        if func not in _ELEMENTWISE and func not in _BY_FEATURE:
            return func(*args, **kwargs)
        x: Tensor = args[0] if args else kwargs["input"]
        trained_rate = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
        if trained_rate == 0:
            return x
        rate = self.sampler.rate or trained_rate
        layer = f"dropout {len(self.layers)}"
        self.layers.append(layer)
        shape = x.shape[1:] if func in _ELEMENTWISE else (x.shape[1], *(1,) * (x.ndim - 2))
        mask = self.sampler.mask(layer, self.t, shape, rate, self.unit_ids)
        return x * mask.to(device=x.device, dtype=x.dtype)
