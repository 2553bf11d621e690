"""Random numbers that depend only on what they are for, never on when or where they are drawn."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["derive_seed", "generator_for", "uniform_for"]


def derive_seed(*parts: object) -> int:
    """A seed from what it is for, the same in every process and on every machine.

    Args:
        parts: Anything that can be printed: a seed, a cycle, a name.

    Returns:
        63 bits.
    """
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*parts: object) -> "torch.Generator":
    """A generator for what it is for, on the CPU, so that every device sees the same numbers.

    Args:
        parts: As in `derive_seed`.

    Returns:
        A generator of its own.
    """
    import torch  # seeds of what needs no tensor are asked for by verbs that do without

    return torch.Generator().manual_seed(derive_seed(*parts))


def uniform_for(*parts: object) -> float:
    """One number, drawn for what it is for.

    Args:
        parts: As in `derive_seed`.

    Returns:
        A number in [0, 1), uniform over the parts.
    """
    return (derive_seed(*parts) >> 10) / 2**53
