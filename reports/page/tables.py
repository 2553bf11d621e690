"""Data frames as the sortable tables of a page."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

__all__ = ["Cell", "PageTable", "as_text", "page_table"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Args:
        text: What is shown.
        order: The number that the column is sorted by; None for a text, which sorts by itself, and an empty cell.
        share: From 0 to 1, how deep the cell is shaded; None for not at all.
        link: An address beside the page, quoted; "" for none.
        picture: The address of a picture above the text; "" for none.
    """

    text: str
    order: float | None
    share: float | None
    link: str = ""
    picture: str = ""


class PageTable(NamedTuple):
    """What the macro `table` of macros.html draws.

    Args:
        titles: Of the columns.
        numeric: Whether each column holds numbers.
        rows: The cells of each row.
        caption: What the table shows, in a sentence; "" for none.
    """

    titles: list[str]
    numeric: list[bool]
    rows: list[list[Cell]]
    caption: str


def page_table(
    table: pd.DataFrame,
    caption: str = "",
    titles: Mapping[str, str] | None = None,
    shaded: Collection[str] = (),
    digits: int = 4,
    links: Mapping[str, Sequence[str]] | None = None,
    pictures: Mapping[str, Sequence[str]] | None = None,
) -> PageTable:
    """Prepare a data frame, without its index, for a page.

    Args:
        table: The data frame.
        caption: What it shows, in a sentence.
        titles: Titles of columns that are not called by their names.
        shaded: Columns of numbers whose cells are shaded from the lowest to the highest value of them all.
        digits: Significant digits of numbers that are not whole.
        links: By column, an address for each row, or "".
        pictures: By column, the address of a picture for each row, or "".
    """
    table = table.rename(columns=str)
    names = list(table.columns)
    numeric = [pd.api.types.is_numeric_dtype(d) and not pd.api.types.is_bool_dtype(d) for d in table.dtypes]
    of_shaded = table[[c for c, number in zip(table, numeric, strict=True) if c in shaded and number]]
    low, high = of_shaded.min().min(), of_shaded.max().max()
    columns = []
    for name, number in zip(names, numeric, strict=True):
        # what is compared by its shade is compared by its digits, too
        places = _places(of_shaded if name in of_shaded else table[[name]], digits) if number else None
        shade = number and name in shaded and high > low
        columns.append(
            [
                Cell(
                    as_text(value, digits) if places is None else _fixed(value, places),
                    float(value) if number and pd.notna(value) else None,
                    float((value - low) / (high - low)) if shade and pd.notna(value) else None,
                )
                for value in table[name]
            ]
        )
    for name, addresses in (links or {}).items():
        place = names.index(name)
        columns[place] = [replace(c, link=a) for c, a in zip(columns[place], addresses, strict=True)]
    for name, addresses in (pictures or {}).items():
        place = names.index(name)
        columns[place] = [replace(c, picture=a) for c, a in zip(columns[place], addresses, strict=True)]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return PageTable([(titles or {}).get(n, n) for n in names], numeric, rows, caption)


def as_text(value: Any, digits: int = 4) -> str:
    """Format a value for people; a missing one is "".

    Args:
        value: A text, a number or a truth value.
        digits: Significant digits of a number that is not whole.
    """
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return ""
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    if number.is_integer() and abs(number) < 1e15:
        return f"{int(number):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{number:.{digits}g}"


def _places(table: pd.DataFrame, digits: int) -> int | None:
    """How many decimal places the numbers of columns have in common; None where each has its own."""
    values = table.to_numpy(dtype=float, na_value=np.nan)
    values = np.abs(values[np.isfinite(values) & (values != 0)])
    if not values.size or (values % 1 == 0).all() or values.max() / values.min() > 1e4:
        return None
    # of 1.00 and 0.25 both have two
    return int(max(0, digits - math.ceil(math.log10(values.max()))))


def _fixed(value: Any, places: int) -> str:
    return "" if pd.isna(value) else f"{float(value):.{places}f}"
