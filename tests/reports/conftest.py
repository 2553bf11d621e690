"""A study's folder with curves that are known."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

Curves = Mapping[str, Sequence[Sequence[float]]]


def study_rows(curves: Curves, **columns: object) -> list[dict[str, object]]:
    """Rows from strategy -> a curve per seed; 10, 15, 20, ... labelled units."""
    return [
        {"strategy": name, "seed": seed, "cycle": cycle, "labelled_units": 10 + 5 * cycle, "val/accuracy": score}
        | columns
        for name, seeds in curves.items()
        for seed, scores in enumerate(seeds)
        for cycle, score in enumerate(scores)
    ]


@pytest.fixture
def rows() -> Callable[..., list[dict[str, object]]]:
    """(strategy to curves of seeds, more columns) to rows of a study's table."""
    return study_rows


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[[list[dict[str, object]]], Path]:
    """Rows to a study's folder."""

    def make(rows: list[dict[str, object]]) -> Path:
        folder = tmp_path / "study"
        folder.mkdir(exist_ok=True)
        pd.DataFrame(rows).to_csv(folder / "study.csv", index=False)
        return folder

    return make
