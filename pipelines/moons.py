"""The verb moons; what it does is imported when it is run."""

from pathlib import Path

__all__ = ["moons"]


def moons(
    run_dir: str = "runs/moons", count: int = 800, hidden: float = 0.5, seeds: int = 5, epochs: int = 300,
    rate: float = 0.01,
) -> None:  # fmt: skip
    """Fit small networks to two moons, of which the positive one is half labelled, with several losses.

    Networks are 2 - 8 - 8 - 2 with relu, trained by Adam in batches of 100; those of all seeds as one stack. The run
    directory gets a table that analyse --name moons draws.

    Args:
        run_dir: The run directory.
        count: How many points, half of them positive.
        hidden: The share of positives that is labelled negative, below 1.
        seeds: How many times; points are the same, which of them are hidden, weights and batches are not.
        epochs: Of each fit.
        rate: The learning rate.

    Raises:
        ValueError: If a number is out of its range.
    """
    from pipelines.moon_fits import fit_moons

    path = fit_moons(Path(run_dir), count, hidden, seeds, epochs, rate)
    print(f"{path}\nnext: analyse --name moons --run_dir {run_dir}")
