"""Which of several processes this is, before any trainer knows, and what is said when one of the others has gone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed
from pytorch_lightning.utilities import rank_zero_only

__all__ = ["LostProcessError", "is_first_process", "others_explained"]


class LostProcessError(OSError):
    """Another process of the job has gone, or does not answer."""


def is_first_process() -> bool:
    """Whether this process is rank 0 of the job, or the only one; read from the launcher's environment."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


@contextmanager
def others_explained() -> Iterator[None]:
    """Turn what torch says of a lost process into a LostProcessError."""
    try:
        yield
    except RuntimeError as error:
        # gloo, the backend of CPUs, has no class of its own; torch without processes has none at all
        if not isinstance(error, getattr(torch.distributed, "DistError", ())) and "/gloo/" not in str(error):
            raise
        reason = str(error).partition("] ")[2].partition(". ")[0] or str(error).partition("\n")[0]
        raise LostProcessError(
            f"another process of this job has ended or does not answer ({reason.strip()}); its own output says why: "
            "mend that, then start the same command again"
        ) from error
