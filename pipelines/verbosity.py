"""The option -v; read before anything is imported that has something to say."""

import os
from collections.abc import Sequence

__all__ = ["VERBOSE", "is_verbose", "takes_verbose"]

VERBOSE = ("-v", "--verbose")
"""The option that shows everything; it may stand before or after the verb."""

_VARIABLE = "DROPQUERY_VERBOSE"


def takes_verbose(arguments: Sequence[str]) -> list[str]:
    """Take -v and --verbose out of a command line, and remember it for this process and the jobs that it starts.

    Args:
        arguments: The words that follow the program's name.

    Returns:
        The other words. What follows submit stays, because it is the command of a job.

    """
    first = next((word for word in arguments if word not in VERBOSE), "")
    own = list(arguments[: arguments.index(first)] if first == "submit" else arguments)
    if any(word in VERBOSE for word in own):
        os.environ[_VARIABLE] = "1"
    return [word for word in own if word not in VERBOSE] + list(arguments[len(own) :])


def is_verbose() -> bool:
    """Whether everything is shown."""
    return bool(os.environ.get(_VARIABLE))
