"""Loading pretrained weights, with a clear error if they are not available."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["WeightsUnavailableError", "downloading", "wanted_weights"]


class WeightsUnavailableError(OSError):
    """Pretrained weights are neither cached nor downloadable."""


def wanted_weights(name: str | None) -> str | None:
    """Undo jsonargparse's reading of a nested null as the string "None" in the name of some weights."""
    return None if name == "None" else name


@contextmanager
def downloading(what: str, option: str) -> Iterator[None]:
    """Turn the errors of a download into one sentence.

    Args:
        what: What is downloaded.
        option: The setting that avoids the download.

    Raises:
        ValueError: There are no such weights.
        WeightsUnavailableError: They could not be downloaded.
    """
    try:
        yield
    except KeyError as error:
        raise ValueError(f"there are no {what}: {error.args[0]}") from error
    # the hubs raise OSError, RuntimeError or HTTP errors of their own, whose only common base is Exception
    except Exception as error:
        raise WeightsUnavailableError(
            f"{what} could not be downloaded ({type(error).__name__}: {str(error).partition(chr(10))[0]}); set "
            f"{option} to train from scratch, or bring the file into torch's cache (TORCH_HOME)"
        ) from error
