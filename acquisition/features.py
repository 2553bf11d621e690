"""What a batch strategy needs of a unit beside its score: an embedding, or probabilities."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from acquisition.regions import Regions

__all__ = ["Embeddings", "Feature", "embeddings_of", "means_over", "per_unit"]


class Feature(StrEnum):
    """One array per unit, float32.

    EMBEDDING: D numbers, the input of the network's last layer with dropout off, averaged over the unit. PROBS: C
    probabilities with dropout off. LOG_PROBS: T x C log-probabilities of the MC samples (or of an ensemble's members),
    the same T sampled networks for every unit, as a joint distribution over units needs. These two are for networks
    with one prediction per image, which is one unit then. VARIANCES: 1 + C numbers of the MC samples, averaged over the
    unit: the epistemic variance, and each class's part of the aleatoric (`acquisition.functional.variance_parts`).
    """

    EMBEDDING = "embedding"
    PROBS = "probs"
    LOG_PROBS = "log_probs"
    VARIANCES = "variances"


class Embeddings:
    """Filled by `embeddings_of` while the network runs."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def see(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        """A hook before a layer; what the last one got is the embedding.

        Args:
            layer: Of the network.
            inputs: What it is called with.
        """
        self._last = inputs[0]

    def pooled(self, regions: Regions) -> Tensor:
        """The embedding of each unit in the last pass.

        Args:
            regions: The units of the images that were passed.

        Returns:
            U x D, in float32: the mean of the feature maps, N x D x h x w, over the unit's positions.

        Raises:
            ValueError: If no layer ran.
        """
        if self._last is None:
            raise ValueError(
                "embeddings are the input of the network's last linear layer or convolution, but none ran; name a "
                "layer that runs in the network's attribute feature_layer"
            )
        last = self._last.float()
        # what has no place in the image is each unit's of the image
        return means_over(last if last.ndim == 4 else last.reshape(*last.shape[:2], -1).mean(dim=2), regions)


def means_over(maps: Tensor, regions: Regions) -> Tensor:
    """The means of D numbers per pixel over units.

    Args:
        maps: N x D x h x w, or N x D where they are the image's.
        regions: The units of the N images.

    Returns:
        U x D, in float32.
    """
    maps = maps if maps.ndim == 4 else maps[:, :, None, None]
    height, width = maps.shape[2:]
    return regions.segments((height, width), maps.device).mean_rows(maps)


@contextmanager
def embeddings_of(network: nn.Module, layer: str | None = None) -> Iterator[Embeddings]:
    """Watch what goes into the network's last layer.

    That is the layer named by the network's attribute `feature_layer`, if it has one, or else whichever linear layer
    or convolution runs last: the classifier of usual networks.

    Args:
        network: The one that runs inside the `with` block.
        layer: Watch what goes into this one instead, such as the layer behind an encoder.

    Returns:
        What to ask for the embeddings after the pass.
    """
    named = layer or getattr(network, "feature_layer", None)
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


def per_unit(logits: Tensor, regions: Regions, what: str) -> Tensor:
    """Predictions of units, each of which has its image's.

    Args:
        logits: N x C.
        regions: The units.
        what: What they are needed for, for the error.

    Returns:
        U x C.

    Raises:
        ValueError: If the predictions are dense, N x C x H x W.
    """
    if logits.ndim != 2:
        shape = " x ".join(map(str, logits.shape[1:]))
        raise ValueError(
            f"{what} needs one prediction per unit, N x C, got N x {shape} from a network with dense predictions; "
            "choose CoreSet, or a selection by scores"
        )
    return logits[regions.places[:, 0].long().to(logits.device)]
