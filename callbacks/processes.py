"""Which of several processes this is, before any trainer knows."""

from pytorch_lightning.utilities import rank_zero_only

__all__ = ["is_first_process"]


def is_first_process() -> bool:
    """Whether this process is rank 0 of the job, or the only one; read from the launcher's environment."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0
