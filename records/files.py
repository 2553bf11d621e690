"""Files that are whole or not there: written beside, then renamed."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "Figure",
    "RunDirectoryError",
    "read_json",
    "read_metrics",
    "remove_leftovers",
    "replacing",
    "write_figure",
    "write_json",
]

_BESIDE = re.compile(r"\..+\.(\d{1,9})~(\.[^.]*)?")


class RunDirectoryError(OSError):
    """The run directory cannot be used."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a name beside `path`, with its suffix, to write to; rename it to `path` if nothing went wrong."""
    # a name that is as long as names may be has no room for more
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
    """Write a JSON file, whole or not at all."""
    with replacing(path) as beside:
        beside.write_text(json.dumps(content, indent=1))


class Figure(Protocol):
    """What can be saved as a picture: matplotlib's figures."""

    def savefig(self, fname: Any, *, dpi: int) -> None:
        """Draw into a file."""


def write_figure(path: Path, figure: Figure, dpi: int = 110) -> None:
    """Write a figure as a PNG, whole or not at all."""
    with replacing(path) as beside:
        figure.savefig(beside, dpi=dpi)


def read_json(path: Path, remedy: str, **keys: type) -> dict[str, Any]:
    """A JSON file's object; RunDirectoryError, with the remedy, where it is none with these keys of these types."""
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
    """A cycle's metrics.json: the labels that its fit had, and its scores."""
    return read_json(path, "delete it, then start the same command again", cycle=int, labelled_units=int)


def remove_leftovers(folders: Iterable[Path]) -> None:
    """Remove what processes that are no more were writing with `replacing` when they ended.

    Only where nobody else writes from another machine, and before this process writes: a number of its own in a name
    is a predecessor's.
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
    except OSError:  # somebody else's
        return True
    return True
