"""The short form of `python -m tests.attack`: kills at the delicate events of fits, also in a study and in a stack."""

from dataclasses import replace
from pathlib import Path

from tests.attack.attack import Aim, Target
from tests.attack.scenarios import SCENARIOS


def test_a_kill_at_a_new_best_loses_nothing(tmp_path: Path) -> None:
    scenario = SCENARIOS["fit-1"]
    target = Target(replace(scenario, settings=scenario.settings | {"cycles": 1}), tmp_path)
    # whichever of the two is written first, the other one is missing at one of these events
    numbers = {what: aim for aim, what in target.events}
    for what in ("open cycles/00/.best.ckpt", "open cycles/00/.last.ckpt"):
        result = target.attack(numbers[what])
        assert [kill.split(maxsplit=2)[2] for kill in result.kills] == [what]
        assert not result.differing, str(result)


def chain(target: Target, who: list[str], happens: list[str]) -> None:
    result = target.attack(*map(Aim, who, happens))
    assert [kill.split(maxsplit=2)[2] for kill in result.kills] == happens
    assert not result.differing, str(result)


def test_a_fit_killed_all_along(tmp_path: Path) -> None:
    happens = [
        "sql INSERT INTO events", "write cycles/00/.last.ckpt", "rename cycles/00/metrics.json",
        "rename cycles/00/queried.csv", "sql COMMIT", "rename cycles/01/last.ckpt", "write .learning_curve.csv",
    ]  # fmt: skip
    chain(Target(SCENARIOS["fit-2"], tmp_path), ["parent"] * len(happens), happens)


def test_a_study_killed_with_its_run_and_without(tmp_path: Path) -> None:
    scenario = SCENARIOS["study-2"]
    grid = scenario.settings["grid"]
    random = {"strategies": {"random": grid["strategies"]["random"]}}
    target = Target(replace(scenario, settings=scenario.settings | {"grid": grid | random}), tmp_path)
    run = "runs/base/random/seed-0/cycles"
    happens = ["sql INSERT INTO events", f"rename {run}/00/metrics.json", f"write {run}/01/.best.ckpt"]
    chain(target, ["all", "all", "member"], happens)


def test_a_stack_killed_all_along(tmp_path: Path) -> None:
    first, second = (f"runs/base/{strategy}/seed-0/cycles" for strategy in ("bald", "random"))
    happens = [
        f"rename {first}/00/metrics.json", f"rename {second}/00/queried.csv", f"rmdir {second}/00/shards",
        f"write {second}/01/.best.ckpt",
    ]  # fmt: skip
    chain(Target(SCENARIOS["stacked"], tmp_path), ["parent"] * len(happens), happens)
