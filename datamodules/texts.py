"""Text files that people write, and tables that they open in a spreadsheet."""

import re
from pathlib import Path

from datamodules.files import DataError

__all__ = ["read_class_names", "read_lines", "read_text", "shielded", "unshielded"]

_FORMULA = re.compile(r"'*[=+\-@]")
_SHIELDED = re.compile(r"'+[=+\-@]")


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, with or without a byte order mark; DataError where it is something else."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"expected UTF-8 text in {path}, got other bytes ({error}); save it as UTF-8") from error
    if "\0" in text:
        raise DataError(f"expected UTF-8 text in {path}, got NUL characters; save it as UTF-8, not as UTF-16")
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of `read_text` that hold something, without white space around them."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_class_names(path: Path) -> list[str]:
    """Names of the classes 0, 1, ... from a file with one name a line; at least one, and no name twice."""
    if not path.is_file():
        raise DataError(f"expected the class names at {path}, one a line, got no such file; check data.source.root")
    names = read_lines(path)
    if not names:
        raise DataError(f"expected the class names in {path}, one a line, got an empty file; list them")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{path} names the class {twice!r} twice, but every class has a name of its own; correct it")
    return names


def shielded(text: str) -> str:
    """Text as a table for people holds it: with an apostrophe before what a spreadsheet would run as a formula.

    That is what begins with = + - or @. `unshielded` takes the apostrophe away again.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unshielded(text: str) -> str:
    """Text as it was before `shielded`."""
    return text[1:] if _SHIELDED.match(text) else text
