"""The frame that all pages share: templates, style, scripts and the policy that keeps a page from the network."""

import base64
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup

from records.files import replacing

__all__ = ["Fact", "as_json", "bring_file", "write_page"]

_SCRIPTS = ("tables.js",)
"""Scripts of every page."""

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("reports.page"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Fact(NamedTuple):
    """Something that the head of a page says.

    Args:
        name: What it is, in a word or two.
        value: The value as text.
    """

    name: str
    value: str


def write_page(
    path: Path,
    template: str,
    title: str,
    kind: str,
    facts: Sequence[Fact] = (),
    data: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
    **context: Any,
) -> None:
    """Write a page, whole or not at all.

    Style, scripts and data stand in the file itself, so that a page is never newer than its data. The page's policy
    runs these scripts and no others, and loads pictures from beside the page only.

    Args:
        path: The HTML file. Its folder and what is below it is all that the page needs.
        template: A file of templates/ that extends base.html.
        title: The page's heading, such as the run's name.
        kind: What the page is about, in a word: run, study, difficulty.
        facts: What stands beneath the heading.
        data: What the scripts read, as JSON; numbers that are not finite become null.
        scripts: Files of assets/ that the page runs, in this order, after those of every page.
        styles: Files of assets/ that the page is drawn with, after those of every page.
        context: What the template reads beside this.

    Raises:
        RunDirectoryError: The file could not be written.
    """
    sources = [_asset(name) for name in (*_SCRIPTS, *scripts)]
    text = _ENVIRONMENT.get_template(template).render(
        title=title,
        kind=kind,
        facts=facts,
        style=Markup("\n".join(_asset(name) for name in ("page.css", *styles))),
        scripts=[Markup(source) for source in sources],
        policy=_policy(sources),
        data=None if data is None else as_json(data),
        **context,
    )
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def as_json(content: Any) -> Markup:
    """Write data as JSON for a script element, which no text in the data can end.

    Args:
        content: What JSON can hold; numbers that are not finite become null.
    """
    text = json.dumps(_finite(content), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def bring_file(source: Path, folder: Path) -> str:
    """Link a file into a page's folder, or copy it where links are not to be had.

    Args:
        source: The file.
        folder: The folder, which is made if it is missing.

    Returns:
        The name that the file has there, quoted for an address.

    Raises:
        RunDirectoryError: The file could not be written.
    """
    with replacing(folder / source.name) as beside:
        try:
            os.link(source, beside)
        except OSError:
            # another file system, or one without links
            shutil.copy2(source, beside)
    return quote(source.name)


def _asset(name: str) -> str:
    return (resources.files("reports.page") / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(source.encode()).digest()).decode() for source in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src 'self' file: data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _finite(content: Any) -> Any:
    kind = type(content)
    if kind in (str, int, bool, type(None)):
        return content
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    return [_finite(value) for value in content] if isinstance(content, list | tuple) else content
