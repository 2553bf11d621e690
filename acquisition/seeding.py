"""Random numbers that depend only on what they are for, never on when or where they are drawn."""

import hashlib

import torch

__all__ = ["derive_seed", "generator_for", "uniform_for"]


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same in every process and on every machine."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_for(*parts: object) -> torch.Generator:
    """A CPU generator seeded from the parts; draws are made on the CPU so that every device sees the same numbers."""
    return torch.Generator().manual_seed(derive_seed(*parts))


def uniform_for(*parts: object) -> float:
    """One number in [0, 1), uniform over the parts."""
    return (derive_seed(*parts) >> 10) / 2**53
