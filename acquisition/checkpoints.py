"""Networks that others have trained: members of an ensemble, or an expert."""

import glob
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

__all__ = ["load_network", "matching_checkpoints", "network_state", "network_tensors"]

_PREFIX = "network."


def matching_checkpoints(patterns: Sequence[str], cycle: int) -> list[Path]:
    """Files that match patterns.

    Args:
        patterns: Globs in which {cycle} stands for the cycle's number, and {cycle:02d} writes it with two digits, as
            run directories do: runs/seed*/cycles/{cycle:02d}/best.ckpt.
        cycle: The number.

    Returns:
        Each file once, sorted.

    Raises:
        ValueError: If a pattern matches none, or has other braces.
    """
    found: set[Path] = set()
    for pattern in patterns:
        try:
            name = pattern.format(cycle=cycle)
        except (KeyError, IndexError, AttributeError, ValueError):
            raise ValueError(
                f"a pattern of checkpoints may hold {{cycle}} or {{cycle:02d}} and no other braces, got {pattern!r}; "
                "write * for what varies"
            ) from None
        matches = [p for p in map(Path, glob.glob(name, recursive=True)) if p.is_file()]  # noqa: PTH207 - absolute too
        if not matches:
            raise ValueError(
                f"expected checkpoints at {name}, got none; train them first, or give other files or patterns"
            )
        found.update(matches)
    return sorted(found)


def network_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors that a module's checkpoint holds for its network, whatever network that is.

    Args:
        path: The checkpoint.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        ValueError: If there is no such file, or it is no readable checkpoint.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise ValueError(f"expected a checkpoint at {path}, got {found}; give the path of a .ckpt")
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        state = {k.removeprefix(_PREFIX): v for k, v in saved.items() if k.startswith(_PREFIX)}
        if not all(isinstance(v, Tensor) for v in state.values()):
            raise TypeError
    # torch raises what the reader of the day raises: RuntimeError, EOFError, struct.error, UnpicklingError, KeyError
    except Exception as error:
        raise ValueError(f"{path} is not a readable checkpoint ({type(error).__name__}); give another file") from error
    return state


def network_state(path: Path, like: nn.Module) -> dict[str, Tensor]:
    """The weights that a module's checkpoint holds for its network.

    Args:
        path: The checkpoint.
        like: A network of the same architecture, whose device and layout they take.

    Returns:
        Tensors by name.

    Raises:
        ValueError: If there is no such file, it cannot be read, or it belongs to another architecture.
    """
    state = network_tensors(path)
    own = like.state_dict()
    wrong = sorted(
        k for k in own.keys() | state.keys() if k not in own or k not in state or own[k].shape != state[k].shape
    )
    if wrong:
        raise ValueError(
            f"the checkpoint {path} belongs to another network ({len(wrong)} tensors differ, {wrong[0]} first); "
            "give one of the same architecture"
        )
    # copied into the layout of the network's own weights: channels-last stays channels-last
    return {k: torch.empty_like(own[k]).copy_(state[k]) for k in own}


def load_network(network: nn.Module, path: Path) -> None:
    """Give a network the weights of a checkpoint.

    Args:
        network: Takes them.
        path: The checkpoint.

    Raises:
        ValueError: If there is no such file, it cannot be read, or it belongs to another architecture.
    """
    network.load_state_dict(network_state(path, network))
