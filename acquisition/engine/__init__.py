"""What makes MC dropout fast, behind one class (docs/engine.md)."""

from acquisition.engine.recording import frozen
from acquisition.engine.sampler import Report, Sampler, logits_of

__all__ = ["Report", "Sampler", "frozen", "logits_of"]
