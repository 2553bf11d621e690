"""Files that are whole or not there: written beside, then renamed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["RunDirectoryError", "replacing", "write_json"]


class RunDirectoryError(OSError):
    """The run directory cannot be used."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`, with its suffix, to write to; rename it to `path` if nothing went wrong."""
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        raise RunDirectoryError(
            f"{path} could not be written ({error.strerror or error}); make room on the disk or the folder writable, "
            "then start the same command again"
        ) from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1))
