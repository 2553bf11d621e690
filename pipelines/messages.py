"""What reaches the terminal: the program's own lines, and with -v also what the libraries below it say."""

import logging
import os
import warnings
from pathlib import Path
from typing import Literal

import lightning_fabric
import pytorch_lightning

from callbacks.processes import is_first_process

__all__ = ["arrange_messages"]

_LIGHTNING = tuple(Path(str(library.__file__)).parent for library in (pytorch_lightning, lightning_fabric))
# a user who sets early stopping or a model summary wants to read what it says
_ASKED_FOR = _LIGHTNING[0] / "callbacks"
_LIBRARIES = (
    "pytorch_lightning|lightning_fabric|albumentations|albucore|timm|segmentation_models_pytorch|wandb|jsonargparse|"
    r"pydantic|huggingface_hub|torch\.utils\.data|torch\.optim|torch\.nn\.parallel"
)
"""Modules whose warnings are about this program's own choices, not about a user's."""


def arrange_messages(verbose: bool = False) -> None:
    """Show the program's own lines alone, or those of Lightning and other libraries as well.

    What data sets say of themselves is shown as Lightning shows its notes. Of several processes the first alone speaks
    of the data.

    Args:
        verbose: Show everything.

    """
    handlers = logging.getLogger("pytorch_lightning").handlers
    for handler in {*handlers, *logging.getLogger("lightning_fabric").handlers}:
        if verbose:
            handler.removeFilter(_is_for_users)
        else:
            handler.addFilter(_is_for_users)
    # it would ask the network for a newer version, and wait up to two seconds for the answer
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    logging.getLogger("huggingface_hub").setLevel(logging.NOTSET if verbose else logging.ERROR)
    action: Literal["default", "ignore"] = "default" if verbose else "ignore"
    warnings.filterwarnings(action, module=_LIBRARIES)
    warnings.filterwarnings(action, message=".*pytorch_lightning.*")
    # deprecations of torch are for its callers, and these are not the user
    warnings.filterwarnings(action, module="torch", category=FutureWarning)
    warnings.formatwarning = _formatwarning if verbose else _in_one_line
    notes = logging.getLogger("datamodules")
    notes.handlers = handlers
    notes.setLevel(logging.INFO if is_first_process() else logging.ERROR)
    if not is_first_process():
        warnings.filterwarnings("ignore", module="datamodules")


_formatwarning = warnings.formatwarning


def _in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"warning: {message}\n"


def _is_for_users(record: logging.LogRecord) -> bool:
    """Whether a note is the program's own, more than a note, or what a user's callback says."""
    said_by = Path(record.pathname)
    return (
        record.levelno >= logging.WARNING
        or said_by.is_relative_to(_ASKED_FOR)
        or not any(said_by.is_relative_to(library) for library in _LIGHTNING)
    )
