"""Starting a fit from the weights of another one, which may have learned other classes (Long et al. 2015)."""

from pathlib import Path

import torch
from torch import Tensor, nn

from acquisition.checkpoints import network_tensors

__all__ = ["load_pretrained"]


def load_pretrained(network: nn.Module, path: str | Path) -> None:
    """Give a network the weights of a checkpoint, all but those of the layers that depend on the number of classes.

    These, which the network's `score_layers` names, stay as they are.

    Args:
        network: Takes them.
        path: The checkpoint of a fit of the same network with any classes, such as a cycle's best.ckpt.

    Raises:
        ValueError: There is no such file, it is no checkpoint, or another network's, its weights are no finite numbers,
            or the network does not say which layers are its score layers.
    """
    score_layers = getattr(network, "score_layers", None)
    if score_layers is None:
        raise ValueError(
            "model.pretrained leaves out the layers that depend on the number of classes, but "
            f"{type(network).__name__} does not name them; give its class an attribute score_layers, their names"
        )
    try:
        saved = network_tensors(Path(path))
    except ValueError as error:
        raise ValueError(f"model.pretrained: {error}") from error
    own = network.state_dict()
    theirs, ours = (
        {name: x for name, x in tensors.items() if not name.startswith(tuple(f"{layer}." for layer in score_layers))}
        for tensors in (saved, own)
    )
    wrong = [name for name in (*ours, *theirs) if _shape(ours.get(name)) != _shape(theirs.get(name))]
    if wrong:
        raise ValueError(
            f"the checkpoint {path} of model.pretrained belongs to another network than {type(network).__name__} as "
            f"model.network describes it: the first tensor that differs is {wrong[0]}, {_shape(theirs.get(wrong[0]))} "
            f"there and {_shape(ours.get(wrong[0]))} here; take the network's settings from that run's config.yaml, or "
            "give another checkpoint"
        )
    if broken := [name for name, tensor in theirs.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(
            f"the checkpoint {path} of model.pretrained has weights that are not numbers (in {broken[0]} first), so "
            "its training went wrong; give another, or train again with a lower learning rate"
        )
    network.load_state_dict(theirs, strict=False)


def _shape(tensor: Tensor | None) -> str:
    return "not there" if tensor is None else " x ".join(map(str, tensor.shape)) or "a number"
