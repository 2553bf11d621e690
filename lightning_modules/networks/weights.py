"""Loading pretrained weights, with one clear error where they cannot be had."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["WeightsUnavailableError", "downloading", "wanted_weights"]


class WeightsUnavailableError(OSError):
    """Pretrained weights are neither cached nor downloadable."""


def wanted_weights(name: str | None) -> str | None:
    """The name of weights as a config gives it: jsonargparse makes the string "None" of a nested null."""
    return None if name == "None" else name


@contextmanager
def downloading(what: str, option: str) -> Iterator[None]:
    """Turn whatever a download raises into one sentence. option: the setting that avoids the download."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"there are no {what}: {error.args[0]}") from error
    # the hubs raise OSError, RuntimeError or their own http classes, which share no base but Exception
    except Exception as error:
        raise WeightsUnavailableError(
            f"{what} could not be downloaded ({type(error).__name__}: {str(error).partition(chr(10))[0]}); set "
            f"{option} to train from scratch, or bring the file into torch's cache (TORCH_HOME)"
        ) from error
