"""What a study consists of."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.grid import StudyGrid, run_settings, runs_of

STUDY = {
    "seed_everything": 7,
    "run_dir": "somewhere",
    "model": {"class_path": "M", "init_args": {"network": {"class_path": "N", "init_args": {"width": 16}}}},
    "strategy": {"acquisition": {"class_path": "A", "init_args": {"temperature": 2}}, "budget": 5},
    "grid": {"seeds": 2},
}


def test_runs_are_all_combinations_with_a_folder_each() -> None:
    grid = StudyGrid(
        strategies={"a": {}, "b": {}}, seeds=[3, 5], vary={"model.network.width": [4, 8], "data.class_path": ["x.Y"]}
    )
    runs = list(runs_of(grid))
    assert [(r.variant, r.strategy, r.seed) for r in runs[:3]] == [
        ("width=4,class_path=Y", "a", 3),
        ("width=4,class_path=Y", "a", 5),
        ("width=4,class_path=Y", "b", 3),
    ]
    assert len({r.folder for r in runs}) == len(runs) == 8
    assert next(runs_of(StudyGrid(strategies={"a": {}}))).folder == Path("runs/base/a/seed-0")


def test_values_of_one_class_are_told_apart_by_their_arguments() -> None:
    cells = [{"class_path": "p.Grid", "init_args": {"height": n, "width": n}} for n in (16, 32)]
    nested = {"class_path": "p.Of", "init_args": {"what": cells[0], "root": "../a b", "names": ["c/d", "e"]}}
    plain = [{"class_path": "p.WholeImages"}, {"class_path": "p.Other", "init_args": {}}, "p.Third"]
    runs = runs_of(StudyGrid(strategies={"a": {}}, vary={"data.partition": [*cells, nested, *plain]}))
    assert [run.variant for run in runs] == [
        "partition=Grid(height=16,width=16)",
        "partition=Grid(height=32,width=32)",
        "partition=Of(what=Grid(height=16,width=16),root=.._a_b,names=c_d_e)",
        "partition=WholeImages",
        "partition=Other",
        "partition=Third",
    ]


def test_settings_of_a_run_differ_in_seed_folder_strategy_and_what_is_varied() -> None:
    grid = StudyGrid(
        strategies={"b": {"acquisition": {"class_path": "B"}}}, seeds=[3], vary={"model.network.width": [4]}
    )
    settings = run_settings(STUDY, grid, next(runs_of(grid)), Path("root"))
    assert settings == {
        "seed_everything": 3,
        "run_dir": "root/runs/width=4/b/seed-3",
        "model": {"class_path": "M", "init_args": {"network": {"class_path": "N", "init_args": {"width": 4}}}},
        "strategy": {"acquisition": {"class_path": "B"}, "budget": 5},
    }
    assert STUDY["model"]["init_args"]["network"]["init_args"]["width"] == 16  # type: ignore[index]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": []}, "at least one seed"),
        ({"at_once": 0}, "at_once"),
        ({"part": "2"}, "0/2"),
        ({"vary": {"data.size": 3}}, "list of values"),
        ({"strategies": {"a/b": {}}}, "names of strategies"),
        ({"variants": {"a b": {}}}, "names of variants"),
        ({"strategies": {"a": {}}, "baseline": "b"}, r"grid.baseline is one of the strategies \(a\), got 'b'"),
    ],
)
def test_mistakes_are_explained(wrong: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        StudyGrid(**wrong)


def test_a_study_needs_strategies_and_settings_to_vary() -> None:
    with pytest.raises(ValueError, match=r"grid\.strategies"):
        list(runs_of(StudyGrid()))
    grid = StudyGrid(strategies={"a": {}}, vary={"model.nothing.width": [1]})
    with pytest.raises(ValueError, match="nothing at 'nothing'"):
        run_settings(STUDY, grid, next(runs_of(grid)), Path("root"))


def test_a_strategy_may_change_what_a_unit_is() -> None:
    study = STUDY | {"data": {"source": "S", "partition": "P", "oracle": "O"}}
    grid = StudyGrid(strategies={"a": {}, "b": {"budget": 9, "data": {"partition": "Q"}}})
    first, second = (run_settings(study, grid, run, Path("root")) for run in runs_of(grid))
    assert first["data"] == study["data"]
    assert second["data"] == {"source": "S", "partition": "Q", "oracle": "O"}
    assert second["strategy"] == {**STUDY["strategy"], "budget": 9}
    assert grid.strategies["b"]["data"] == {"partition": "Q"}, "and stays as it is"


def test_variants_and_strategies_change_any_settings_and_know_whose_run_it_is() -> None:
    weights = "runs/first/runs/{variant}/{strategy}/seed-{seed}/a.ckpt"
    study = STUDY | {"data": {"source": "S", "oracle": {"class_path": "O", "init_args": {"seed": 0}}}}
    grid = StudyGrid(
        strategies={"plain": {}, "after": {"model.pretrained": weights, "data.oracle.seed": "{seed}", "budget": 9}},
        seeds=[3],
        variants={"few": {"model.network.width": 2, "data.source": "few"}, "many": {"data.source": ["{seed}"]}},
        vary={"strategy.acquisition.temperature": [1]},
        baseline="plain",
    )
    runs = list(runs_of(grid))
    assert [str(run.folder) for run in runs] == [
        f"runs/{variant},temperature=1/{strategy}/seed-3" for variant in ("few", "many") for strategy in grid.strategies
    ]
    assert dict(runs[0].values) == {"grid.variants": "few", "strategy.acquisition.temperature": 1}
    _, few, plain, many = (run_settings(study, grid, run, Path("root")) for run in runs)
    network = few["model"]["init_args"].pop("network")
    assert network["init_args"] == {"width": 2}
    assert few["model"]["init_args"] == {"pretrained": "runs/first/runs/few,temperature=1/after/seed-3/a.ckpt"}
    assert few["data"] == {"source": "few", "oracle": {"class_path": "O", "init_args": {"seed": 3}}}
    assert few["strategy"] == {"acquisition": {"class_path": "A", "init_args": {"temperature": 1}}, "budget": 9}
    assert plain["model"] == STUDY["model"]
    assert plain["data"]["source"] == many["data"]["source"] == [3]
    assert grid.strategies["after"]["model.pretrained"] == weights, "and stays as it is"


@pytest.mark.parametrize("where", ["variants", "strategies"])
def test_settings_that_are_not_there_are_named(where: str) -> None:
    given: dict = {"strategies": {"a": {}}, where: {"a": {"model.nothing.width": 1}}}
    grid = StudyGrid(**given)
    with pytest.raises(ValueError, match=rf"grid.{where} names 'model.nothing.width', but the settings have nothing"):
        run_settings(STUDY, grid, next(runs_of(grid)), Path("root"))


@pytest.mark.parametrize(
    "given",
    [
        {"strategies": {"a": {"model.loss": "x"}}, "vary": {"model.loss": ["y"]}},
        {"strategies": {"a": {"model.loss": "x"}}, "variants": {"v": {"model.loss": "y"}}},
        {"variants": {"v": {"model.loss": "x"}}, "vary": {"model.loss": ["y"]}},
    ],
)
def test_a_setting_is_changed_in_one_place(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"in one place, but model\.loss stands in grid"):
        StudyGrid(**given)
