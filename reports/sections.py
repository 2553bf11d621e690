"""A report in sections, that a Markdown file and a page both show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from reports.study_table import markdown

__all__ = ["Section", "as_markdown"]


@dataclass(frozen=True)
class Section:
    """A part of a report; what is empty is left out.

    Args:
        name: Short, for links.
        title: Its heading; "" for none in Markdown.
        words: What its table and figure show, in sentences.
        table: Its table.
        figure: Name of a picture beside the report.
        caption: What the picture shows, in a few words.
        shaded: Columns of the table that a page shades by their values.
    """

    name: str
    title: str
    words: str = ""
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    figure: str = ""
    caption: str = ""
    shaded: Sequence[str] = ()

    @property
    def page_link(self) -> tuple[str, str]:
        """Its name and its heading, for links."""
        return self.name, self.title or self.caption.capitalize()


def as_markdown(heading: str, notes: Iterable[str], sections: Iterable[Section]) -> str:
    """The text of report.md.

    Args:
        heading: Of the whole.
        notes: What has to be known before all tables.
        sections: In their order.
    """
    blocks = [f"# {heading}", *notes]
    for section in sections:
        table, figure = markdown(section.table), f"![{section.caption}]({section.figure})" if section.figure else ""
        blocks += [f"## {section.title}" if section.title else "", section.words, table, figure]
    return "\n\n".join(block for block in blocks if block) + "\n"
