"""What a query's scores depend on, as one short text."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from acquisition.identity import describe

__all__ = ["query_fingerprint"]


def query_fingerprint(network: nn.Module, *settings: object, files: Iterable[Path] = ()) -> str:
    """A hash of the network's architecture and weights, of settings and of the content of files."""
    digest = hashlib.blake2b(describe([*settings, *map(_plain, network.modules())]).encode(), digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()


def _plain(module: nn.Module) -> tuple[type, dict[str, object]]:
    """What makes a layer beside its weights: rates, strides, dilations, sizes."""
    kept = {k: v for k, v in vars(module).items() if isinstance(v, bool | int | float | str | tuple | None)}
    return type(module), {k: v for k, v in kept.items() if not k.startswith("_") and k != "training"}
