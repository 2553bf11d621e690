"""What the parts of a strategy have to be, to go together."""

from acquisition.batch import BatchSelection
from acquisition.limits import Allowance
from acquisition.racing import Race
from acquisition.scorer import Scorer
from acquisition.selection import PowerSampling, Selection, TopK

__all__ = ["check_numbers", "check_strategy"]


def check_numbers(**pictures: int | None) -> None:
    """Refuse numbers of pictures below 0.

    Args:
        pictures: By the name of their setting.

    Raises:
        ValueError: If there is one.
    """
    for name, number in pictures.items():
        if number is not None and number < 0:
            raise ValueError(f"strategy.{name} must be 0 or more, got {number}")


def check_strategy(
    scorer: Scorer,
    selection: Selection,
    allowance: Allowance,
    race: Race | None,
    candidates: int | None,
    scores_csv: str | None,
) -> None:
    """Refuse parts that do not go together.

    Args:
        scorer: What is uncertain.
        selection: Which scores are queried.
        allowance: How much may be.
        race: Fewer samples for most units; None for none.
        candidates: How many units of the pool are scored; None for all.
        scores_csv: Name of a column of scores; None for no such file.

    Raises:
        ValueError: If they do not.
    """
    name = f"{scorer.name}-{selection.name}"
    if candidates is not None and candidates < allowance.units:
        raise ValueError(
            f"strategy.candidates must be at least the budget of {allowance.units} units, got {candidates}; raise it, "
            "or set it to null for the whole pool"
        )
    if scores_csv in ("", "name"):
        raise ValueError(
            f"strategy.scores_csv is the name of the column of scores, such as entropy_value, got {scores_csv!r}"
        )
    by = selection.by
    if isinstance(by, BatchSelection) and by is not selection:
        raise ValueError(
            f"{type(selection).__name__} needs a selection by scores, got {by.name}, which chooses a batch as a whole; "
            "choose another selection"
        )
    if isinstance(by, PowerSampling) and scorer.acquisition.sign < 0:
        raise ValueError("PowerSampling needs scores above 0, but Inverse gives none; choose another selection")
    draws = scorer.draws_samples and scorer.num_samples
    if race is not None and not (draws and isinstance(selection, TopK)):
        raise ValueError(f"a race needs an acquisition that draws MC samples and TopK, got {name}; set race to null")
    if race is not None and allowance.counted:
        got = ", ".join(f"strategy.budget_{what} {limit}" for what, limit in allowance.counted.items())
        raise ValueError(f"a race takes budgets in units and pixels, got {got}; set it or strategy.race to null")
