"""A race for as many units as a budget in pixels pays for."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from acquisition.functions import BALD
from acquisition.predictors import MCDropout
from acquisition.racing import Race
from callbacks.query import QueryCallback
from records.run_directory import CycleDirectory

TOTAL = 64


def race(seed: int, sizes: np.ndarray, pixels: int, folder: Path) -> dict[str, Any]:
    """Picks, wrong picks and the report of one race; 64 samples of each unit, those of `test_racing`."""
    rng = np.random.default_rng(seed)
    names = [f"{i:03d}" for i in range(len(sizes))]
    truth, deviation = rng.gamma(2, 1, size=len(sizes)), 0.5 * np.exp(0.5 * rng.normal(size=len(sizes)))
    samples = pd.DataFrame(truth[:, None] + deviation[:, None] * rng.normal(size=(len(sizes), TOTAL)), index=names)

    def table(count: int, unit_ids: list[str]) -> pd.DataFrame:
        seen = samples.loc[unit_ids].to_numpy()[:, :count]
        spreads = seen.reshape(len(seen), 4, -1).mean(axis=2).std(axis=1, ddof=1) / 2
        return pd.DataFrame({"unit_id": unit_ids, "score": seen.mean(axis=1), "spread": spreads})

    query = QueryCallback(
        BALD(), budget=len(sizes), budget_pixels=pixels, predictor=MCDropout(TOTAL), race=Race(8, 0.95)
    )
    query._score_units = lambda *_: None  # type: ignore[method-assign]
    trainer = SimpleNamespace(strategy=SimpleNamespace(barrier=lambda _: None), is_global_zero=True)
    units = SimpleNamespace(
        pixels=lambda unit_ids: [int(sizes[int(u)]) for u in unit_ids], image_of=str, location=dict.fromkeys(names)
    )
    pool: Any = SimpleNamespace(seed=0, units=units)
    data: Any = SimpleNamespace(seed=0, pool=pool)
    shards: Any = SimpleNamespace(table=table)
    found = query._score_pool(trainer, None, data, names, CycleDirectory(folder), shards)  # type: ignore[arg-type]
    best = pd.DataFrame({"unit_id": names, "score": samples.mean(axis=1).to_numpy()})
    chosen, right = (
        set(ranked["unit_id"][ranked["selected"]])
        for ranked in (query.chooser.choose(pool, scores, 0) for scores in (found, best))
    )
    return {"picks": len(chosen), "wrong": len(right - chosen), **json.loads((folder / "race.json").read_text())}


@pytest.mark.parametrize(("smallest", "largest"), [(100, 100), (50, 150)])
def test_a_race_under_a_pixel_budget_ends_where_the_pixels_end(smallest: int, largest: int, tmp_path: Path) -> None:
    races = []
    for seed in range(20):
        sizes = np.random.default_rng(seed).integers(smallest, largest + 1, size=400)
        races.append(race(seed, sizes, 4000, tmp_path))
    mean = pd.DataFrame(races).mean()
    assert mean["picks"] == pytest.approx(40, abs=0 if smallest == largest else 2)
    assert mean["samples"] < 0.25 * mean["samples_without_race"]
    assert mean["wrong"] < 0.7
    assert mean["wrong"] / 3 < mean["expected_wrong_picks"] < 3 * mean["wrong"]


def test_a_race_spends_no_samples_where_nothing_is_affordable(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="budget_pixels must pay for at least one unit"):
        race(0, np.full(50, 100), 99, tmp_path)
    assert json.loads((tmp_path / "race.json").read_text())["samples"] == 8 * 50
