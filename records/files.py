"""Files that are complete or absent: written under a temporary name, then renamed."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

__all__ = [
    "Figure",
    "RunDirectoryError",
    "read_json",
    "read_metrics",
    "remove_leftovers",
    "replacing",
    "write_figure",
    "write_json",
    "write_table",
    "write_text",
]

_BESIDE = re.compile(r"\..+\.(\d{1,9})~(\.[^.]*)?")


class RunDirectoryError(OSError):
    """The run directory cannot be used."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Replace a file atomically: yield a temporary path to write to, and rename it to `path` on success.

    Args:
        path: The file to replace; missing parent folders are created. The temporary file lies in the same folder and
            has the same suffix.

    Raises:
        RunDirectoryError: The file could not be written.
    """
    # file systems limit a name to 255 bytes, and the process id needs some of them
    stem = path.stem.encode()[:200].decode(errors="ignore")
    beside = path.with_name(f".{stem}.{os.getpid()}~{path.suffix}")
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
    """Write a JSON file atomically."""
    write_text(path, json.dumps(content, indent=1))


class Figure(Protocol):
    """What can be saved as a picture, such as matplotlib's figures; `records` does not import matplotlib."""

    def savefig(self, fname: Any, *, dpi: int) -> None:
        """Draw the figure into a file."""


def write_figure(path: Path, figure: Figure, dpi: int = 110) -> None:
    """Write a figure atomically, in the format of the path's suffix."""
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi)


def write_table(path: Path, table: pd.DataFrame, index: str | None = None) -> None:
    """Write a table as CSV atomically.

    Args:
        path: The file.
        table: Its content.
        index: Name of the column for the table's index; the index is left out unless given.
    """
    with replacing(path) as beside:
        table.to_csv(beside, index=index is not None, index_label=index)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as beside:
        beside.write_text(text)


def read_json(path: Path, remedy: str, **keys: type) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: The file.
        remedy: What the user should do about a damaged file; ends the error message.
        keys: Keys that must be there, and the types of their values.

    Raises:
        RunDirectoryError: The file cannot be read, holds no object, or a key is missing or has another type.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise RunDirectoryError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise RunDirectoryError(f"expected an object in {path}, got a {type(content).__name__}; {remedy}")
    for key, kind in keys.items():
        if not isinstance(content.get(key), kind):
            raise RunDirectoryError(
                f"expected {key} of type {kind.__name__} in {path}, got {content.get(key)!r:.50}; {remedy}"
            )
    return content


def read_metrics(path: Path) -> dict[str, Any]:
    """Read a cycle's metrics.json: how many labels its fit had, and the network's metrics."""
    return read_json(path, "delete it, then start the same command again", cycle=int, labelled_units=int)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove the temporary files of `replacing` that dead processes left behind.

    Call it only while no process on another machine writes there, and before this process writes: a temporary file
    with this process's id is taken for that of an earlier process with the same id.

    Args:
        folders: Folders to search, without their subfolders.
    """
    for folder in folders:
        for path in folder.glob(".*~*"):
            if (match := _BESIDE.fullmatch(path.name)) and not _is_writing(int(match[1])):
                with suppress(OSError):
                    path.unlink()


def _is_writing(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process belongs to another user
        return True
    return True
