"""The short form of `python -m tests.attack`: kills at the delicate events of a fit, a study and an ensemble."""

from dataclasses import replace
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("name", "who", "happens"),
    [
        (
            "fit-2",
            "parent",
            [
                "sql COMMIT", "write cycles/00/.last.ckpt", "rename cycles/00/metrics.json",
                "rename cycles/00/scores.parquet", "rename cycles/00/queried.csv", "sql COMMIT",
                "rmdir cycles/00/shards", "rename cycles/01/last.ckpt", "rename cycles/01/metrics.json",
                "write .learning_curve.csv",
            ],
        ),
    ],
)  # fmt: skip
def test_killed_all_along(tmp_path: Path, name: str, who: str, happens: list[str]) -> None:
    target = Target(SCENARIOS[name], tmp_path)
    result = target.attack(*(Aim(who, what) for what in happens))
    assert [kill.split(maxsplit=2)[2] for kill in result.kills] == happens
    assert not result.differing, str(result)
