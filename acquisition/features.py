"""What a batch strategy needs of a unit beside its score: an embedding, or probabilities."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Embeddings", "Feature", "embeddings_of"]


class Feature(StrEnum):
    """One array per unit, float32.

    EMBEDDING: D numbers, the input of the network's last layer with dropout off. PROBS: C probabilities with dropout
    off. LOG_PROBS: T x C log-probabilities of the MC samples (or of an ensemble's members), the same T sampled
    networks for every unit, as a joint distribution over units needs.
    """

    EMBEDDING = "embedding"
    PROBS = "probs"
    LOG_PROBS = "log_probs"


class Embeddings:
    """Filled by `embeddings_of` while the network runs."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def see(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A hook before a layer: what the last one got is the embedding."""
        self._last = inputs[0]

    def pooled(self) -> Tensor:
        """N x D of the last pass, in float32; feature maps N x D x H x W are averaged over their positions."""
        if self._last is None:
            raise ValueError(
                "embeddings are the input of the network's last linear layer or convolution, but none ran; name a "
                "layer that runs in the network's attribute feature_layer"
            )
        last = self._last.float()
        return last.flatten(start_dim=2).mean(dim=2) if last.ndim > 2 else last


@contextmanager
def embeddings_of(network: nn.Module) -> Iterator[Embeddings]:
    """Watch what goes into the network's last layer.

    That is the layer named by the network's attribute `feature_layer`, if it has one, or else whichever linear layer
    or convolution runs last: the classifier of usual networks.
    """
    named = getattr(network, "feature_layer", None)
    if named is not None:
        layers = [network.get_submodule(named)]
    else:
        layers = [m for m in network.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
    seen = Embeddings()
    handles = [layer.register_forward_pre_hook(seen.see) for layer in layers]
    try:
        # a graph compiled before knows nothing of these hooks
        with torch.compiler.set_stance("force_eager"):
            yield seen
    finally:
        for handle in handles:
            handle.remove()
