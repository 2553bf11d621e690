"""Pictures of queried units and of others beside them: which, what of them, and what a kill leaves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from acquisition.annotation import VOID
from callbacks.painter import Painter, add_annotations
from callbacks.shown import shown_units
from records.gallery import GalleryDirectory
from records.run_directory import RunDirectory
from tests.conftest import TINY_DIGITS


def ranked(count: int, selected: int) -> pd.DataFrame:
    ranks = np.arange(1, count + 1)
    names = [f"unit_{i:02d}" for i in ranks]
    return pd.DataFrame({"unit_id": names, "score": 1 / ranks, "rank": ranks, "selected": ranks <= selected})


def test_queried_units_have_as_many_others_beside_them() -> None:
    table = shown_units(ranked(30, 4), None, seed=3, cycle=1)
    assert table["kind"].tolist() == ["queried"] * 4 + ["control"] * 4 + ["lowest"] * 4
    assert table["rank"].tolist()[:4] == [1, 2, 3, 4]
    assert table["rank"].tolist()[8:] == [30, 29, 28, 27]
    assert (table["rank"][4:8] > 4).all()
    assert shown_units(ranked(30, 4)[::-1], None, seed=3, cycle=1).equals(table), "whatever the order"
    others = shown_units(ranked(30, 4), None, seed=3, cycle=2)
    assert set(others["unit_id"][4:8]) != set(table["unit_id"][4:8]), "another cycle draws others"
    assert shown_units(ranked(30, 4), 2, 3, 1)["unit_id"].tolist() == table["unit_id"][[0, 1, 4, 5, 8, 9]].tolist()
    assert set(shown_units(ranked(30, 4), None, 3, 1, with_lowest=False)["kind"]) == {"queried", "control"}
    assert len(shown_units(ranked(5, 4), None, 3, 1)) == 6, "one is left, drawn at random and the lowest"


def gallery(run_dir: Path) -> GalleryDirectory:
    return GalleryDirectory(RunDirectory(run_dir).cycle(0).gallery)


def test_every_queried_unit_has_its_layers(ask: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run = ask("run", "--strategy.gallery", "null")
    files, cycle = gallery(run), RunDirectory(run).cycle(0)
    units = files.read_units()
    scores = cycle.read_scores().set_index("unit_id")
    queried = units[units["kind"] == "queried"]
    assert queried["unit_id"].tolist() == pd.read_csv(cycle.queried)["unit_id"].tolist()
    assert units["kind"].value_counts().to_dict() == {"queried": 4, "control": 4, "lowest": 4}
    np.testing.assert_array_equal(units["score"], scores.loc[units["unit_id"], "score"])
    assert units["top"].isna().all(), "whole images have no box"
    about = files.read_about()
    assert about["values_name"] == "BALD"
    assert about["truth_name"] == "truth"
    assert len(about["classes"]) == 5
    means = {}
    for row in units.itertuples():
        layers = [files.image, files.prediction, files.uncertainty, files.truth]
        assert {Image.open(layer(row.number)).size for layer in layers} == {(96, 64)}, "twice 48 x 32"
        assert max(Image.open(files.thumb(row.number)).size) <= 160
        shades = np.asarray(Image.open(files.uncertainty(row.number))).astype(float)
        assert set(json.loads(row.classes)) <= {c["name"] for c in about["classes"]}
        means[row.unit_id] = shades.mean() / 255 * about["max_value"]
    assert max(np.asarray(Image.open(files.uncertainty(n))).max() for n in units["number"]) > 240
    # the mean of what is shown is the score, up to 256 shades
    np.testing.assert_allclose(list(means.values()), scores.loc[list(means), "score"], atol=about["max_value"] / 128)

    # killed while pictures are drawn: the ledger does not know of the query, which is made again
    painted: list[str] = []
    paint = Painter.paint

    def counted(self: Painter, image_id: str, *layers: np.ndarray) -> None:
        if len(painted) == 3:
            raise KeyboardInterrupt
        painted.append(image_id)
        paint(self, image_id, *layers)

    monkeypatch.setattr(Painter, "paint", counted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        ask("again", "--strategy.gallery", "null")
    cut = gallery(run.with_name("again"))
    assert len(list(cut.path.glob("*_thumb.jpg"))) >= 3
    assert not cut.units.exists()
    assert not RunDirectory(run.with_name("again")).cycle(0).queried.exists()
    first = set(painted)
    painted[:] = ["none"] * 4
    again = ask("again", "--strategy.gallery", "null")
    assert not first & set(painted), "nothing is drawn twice"
    assert cut.units.read_text() == files.units.read_text()
    assert {p.name for p in cut.path.iterdir()} == {p.name for p in files.path.iterdir()}
    assert RunDirectory(again).cycle(0).scores.read_bytes() == cycle.scores.read_bytes()


def test_pictures_never_change_or_stop_a_query(ask: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    without = ask("without")
    assert not gallery(without).path.exists()

    def broken(self: Painter, image_id: str, *layers: np.ndarray) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(Painter, "_paint", broken)
    with pytest.warns(UserWarning, match="could not be drawn, and the query goes on without: the disk is full"):
        run = ask("broken", "--strategy.gallery", "2")
    assert not len(gallery(run).read_units())
    tables = [pd.read_parquet(RunDirectory(r).cycle(0).scores) for r in (without, run)]
    assert tables[0].equals(tables[1])
    assert RunDirectory(run).cycle(0).queried.is_file()


def test_random_shows_images_and_truth_alone(ask: Callable[..., Path], tmp_path: Path) -> None:
    run = ask("run", "--strategy.acquisition", "Random", "--strategy.gallery", "2")
    files = gallery(run)
    assert files.read_units()["kind"].tolist() == ["queried"] * 2 + ["control"] * 2
    assert files.read_about()["max_value"] is None
    assert files.truth(0).is_file()
    assert files.prediction(0).is_file(), "the weights are a fit's"
    assert not files.uncertainty(0).exists()
    shutil.rmtree(run)


def test_classes_that_people_say_later_are_added(tmp_path: Path) -> None:
    said = {"a": 1, "b": VOID}
    pool: Any = SimpleNamespace(
        run_dir=tmp_path,
        oracle=SimpleNamespace(knows_truth=False),
        ledger=SimpleNamespace(labelled=lambda: list(said)),
        source=SimpleNamespace(target="label", class_names=["cat", "dog"]),
        image_of=str,
        read_class=said.get,
    )
    files = gallery(tmp_path)
    rows = [(n, unit_id, unit_id, "queried", 0.5, n + 1) for n, unit_id in enumerate(["a", "b", "NA"])]
    files.write_units(pd.DataFrame(rows, columns=["number", "unit_id", "image_id", "kind", "score", "rank"]))
    assert set(files.read_units()["truth"]) == {""}
    add_annotations(pool)
    assert dict(files.read_units()[["unit_id", "truth"]].to_numpy()) == {"a": "dog", "b": "void", "NA": ""}
    add_annotations(SimpleNamespace(**vars(pool) | {"oracle": SimpleNamespace(knows_truth=True)}))  # type: ignore[arg-type]


def test_classified_images_have_classes(ask: Callable[..., Path]) -> None:
    run = ask("digits", "--strategy.gallery", "3", settings=TINY_DIGITS)
    files = gallery(run)
    units = files.read_units()
    assert len(units) == 9
    assert units[["predicted", "truth"]].isin([str(c) for c in range(10)]).all(axis=None)
    assert (units["predicted"] == units["truth"]).any()
    assert [json.loads(text) for text in units["classes"]] == [[name] for name in units["predicted"]]
    assert {p.name.partition("_")[2] for p in files.path.glob("0*")} == {"thumb.jpg", "image.jpg"}
    assert Image.open(files.image(0)).size == (128, 128)
    assert json.loads(files.about.read_text())["classes"][3]["name"] == "3"
