"""What makes MC dropout fast, behind one class (docs/engine.md)."""

from acquisition.engine.mc_dropout import MCDropout, Report, logits_of
from acquisition.engine.recording import frozen

__all__ = ["MCDropout", "Report", "frozen", "logits_of"]
