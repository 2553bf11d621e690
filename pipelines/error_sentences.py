"""What the command line says of a user's mistake: one sentence instead of a traceback."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

__all__ = ["in_one_sentence", "sentence"]


@contextmanager
def in_one_sentence() -> Iterator[None]:
    """Print a user's mistake as one sentence and exit with status 1; any other error passes.

    DROPQUERY_TRACEBACK in the environment lets mistakes pass as well.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, _mistakes()) or os.environ.get("DROPQUERY_TRACEBACK"):
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            error = OSError("the disk is full; make room, then start the same command again: nothing labelled is lost")
        print(f"dropquery: error: {sentence(str(error))}\n(set DROPQUERY_TRACEBACK=1 to see where)", file=sys.stderr)
        sys.exit(1)


def _mistakes() -> tuple[type[Exception], ...]:
    """Errors that a user can mend; Lightning's own among them, where it is imported at all."""
    lightning = sys.modules.get("pytorch_lightning.utilities.exceptions")
    own = (lightning.MisconfigurationException,) if lightning else ()
    return (ValueError, OSError, yaml.YAMLError, *own)


def sentence(message: str) -> str:
    """The part of an error that is for the user, freed from what others wrapped around it.

    Args:
        message: An exception as text.

    """
    lines = message.strip().splitlines() or ["unknown"]
    if lines[0].startswith("Caught "):  # a data loader's worker sends its traceback; the sentence is its last line
        return lines[-1].partition(": ")[2]
    if lines[0].startswith("Does not validate"):  # jsonargparse, when a class's own check failed
        reasons = (line.strip(" -") for line in lines if line.lstrip().startswith("- "))
        return next((r for r in reasons if not r.startswith("Does not validate")), message)
    return message
