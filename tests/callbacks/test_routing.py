"""Columns action and reason of queried.csv."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from acquisition.features import Feature
from acquisition.functions import BALD, Entropy
from acquisition.predictors import MCDropout
from acquisition.racing import Race
from callbacks.query import QueryCallback
from callbacks.routing import Routing
from datamodules.datamodule import PoolDataModule
from datamodules.initial import RandomSubset
from datamodules.partitions import Grid
from datamodules.sources.synthetic_annotators import SyntheticAnnotators
from tests.conftest import TINY

ROUTED = ("--strategy.routing", '{"budget": 2}')


class Kept:
    def __init__(self, rows: dict[str, list[float]]) -> None:
        self.rows = rows

    def of_pool(self, feature: Feature, unit_ids: Sequence[str]) -> np.ndarray:
        assert feature is Feature.VARIANCES
        return np.array([self.rows[u] for u in unit_ids], dtype=np.float32)


POOL: Any = SimpleNamespace(source=SimpleNamespace(class_names=["background", "cell"]))
FEATURES: Any = Kept({"a": [0.01, 0.1, 0.1], "b": [0.01, 0.0, 0.0], "c": [0.03, 0.2, 0.2], "d": [0.001, 0.15, 0.15]})
RANKED = pd.DataFrame({"unit_id": ["c", "a", "b", "d"], "selected": [True, True, True, False]})


def test_reasons_say_what_is_known_and_what_to_do() -> None:
    columns = Routing(budget=2, prices={"guidelines": 50}).columns(POOL, RANKED, FEATURES)
    assert columns["action"].tolist() == ["expert", "second", "label"]
    assert columns["reason"].tolist() == [
        "the network is unsure (0.03, usually 0.01) and people disagree about class cell (0.4, usually 0.25): give it "
        "to an expert",
        "the network is sure (0.01, usually 0.01) and people agree about class cell (0.2, usually 0.25): have a second "
        "person draw it too",
        "the network is sure (0.01, usually 0.01) and people agree about class cell (0, usually 0.25): a label will do",
    ]
    by_line = Routing(budget=1.5, prices={"guidelines": 0.5, "second": 1}).columns(POOL, RANKED, FEATURES)
    assert by_line["action"].tolist() == ["second", "guidelines", "guidelines"]
    assert by_line["reason"][0].endswith("have a second person draw it too, by the new line in the guidelines")
    assert by_line["reason"][1].endswith(
        "write a line about class cell in the guidelines first, worth it for 3 units here, then label it"
    )


def test_where_several_people_have_drawn_they_are_named() -> None:
    source = SyntheticAnnotators(num_images=20)
    images = source.all_images()
    units = SimpleNamespace(images_of=lambda units: units, of_image={i: [i] for i in images})
    pool: Any = SimpleNamespace(
        source=source, seed=0, ledger=SimpleNamespace(labelled=lambda: images, training=lambda: images), units=units
    )
    reasons = Routing(prices={"guidelines": 50}).columns(pool, RANKED, FEATURES)["reason"]
    assert "give it to careful, the most reliable (0." in reasons[0]
    assert "have a second person, " in reasons[1]
    assert "careful" not in reasons[1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prices": {"lable": 1}}, "got one of 'lable'"),
        ({"prices": {"label": -1}}, "price of label must be a number of labels, 0 or more, got -1"),
        ({"budget": 0.5}, "must pay for the cheapest action, a label at 1, got 0.5"),
        ({"budget": float("inf")}, r"strategy\.routing\.budget is in labels per queried unit"),
        ({"mended": 2.0}, "mended must be a share"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Routing(**changes)


def test_a_strategy_that_cannot_be_routed() -> None:
    with pytest.raises(ValueError, match="routing needs an acquisition that draws MC samples, got Entropy"):
        QueryCallback(Entropy(), routing=Routing())
    with pytest.raises(ValueError, match="which a race does not draw"):
        QueryCallback(BALD(), predictor=MCDropout(16), race=Race(), routing=Routing())


def queried(run_dir: Path) -> pd.DataFrame:
    return pd.read_csv(run_dir / "cycles" / "00" / "queried.csv")


def test_a_query_writes_two_more_columns_and_chooses_the_same(ask: Callable[..., Path]) -> None:
    plain, routed = queried(ask("plain")), queried(ask("routed", *ROUTED))
    assert routed.columns.tolist() == [*plain.columns, "action", "reason"]
    pd.testing.assert_frame_equal(routed.drop(columns=["action", "reason"]), plain)
    assert set(routed["action"]) <= {"label", "second", "expert", "guidelines"}
    assert routed["reason"].str.match(r"the network is (un)?sure \(.*\) (and|but) people (dis)?agree about class").all()


def test_parts_of_images_chosen_by_features_are_routed_too(ask: Callable[..., Path]) -> None:
    settings = copy.deepcopy(TINY)
    settings["data"]["partition"] = {
        "class_path": "datamodules.partitions.Grid", "init_args": {"height": 16, "width": 16},
    }  # fmt: skip
    settings["strategy"]["selection"] = {"class_path": "acquisition.batch.CoreSet"}
    settings["strategy"]["routing"] = {"budget": 1.5, "prices": {"guidelines": 1}}
    assert queried(ask("cells", settings=settings))["action"].isin(["label", "second", "expert", "guidelines"]).all()


def test_people_are_compared_where_an_image_is_labelled_throughout(tmp_path: Path) -> None:
    source = SyntheticAnnotators(num_images=10, size=(32, 32), annotator="careful", folds=2)
    data = PoolDataModule(source, Grid(16, 16), initial=RandomSubset(1), run_dir=str(tmp_path))
    pool = data.pool
    pool.start()
    assert Routing()._known_people(pool) == [], "the other parts of its image are the pool's"
    image_id = pool.units.image_of(pool.labelled[0])
    pool.label([u for u in pool.units.of_image[image_id] if u not in pool.labelled])
    assert {p.images for p in Routing()._known_people(pool)} == {1}
