"""What makes MC dropout fast, behind one class (docs/engine.md)."""

from acquisition.engine.recording import frozen
from acquisition.engine.sampler import Report, Sampler, active_dropouts, logits_of

__all__ = ["Report", "Sampler", "active_dropouts", "frozen", "logits_of"]
