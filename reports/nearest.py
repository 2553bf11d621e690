"""Which of a study's first models is the most ordinary one."""

from pathlib import Path

import numpy as np
import pandas as pd

from records.study_directory import StudyDirectory
from reports.learning_curve import main_metric

__all__ = ["find_nearest", "nearest"]


def find_nearest(run_dir: Path, score: str | None = None) -> tuple[str, pd.Series, str]:
    """Find the run of a study whose cycle 0 scored nearest to the mean of all runs.

    Args:
        run_dir: The study's folder.
        score: The score; the one that chose the best weights unless given.

    Returns:
        The run's name, of several equally near ones the first; the scores of all, by name; and the score's name.

    Raises:
        ValueError: There is no study, one of its runs has no fit or no such score.
    """
    study = StudyDirectory(run_dir)
    if not study.states.is_file():
        raise ValueError(
            f"expected a finished study at {run_dir}, got no {study.states.name} there; run study to its end first, or "
            "give another --run_dir"
        )
    names = pd.read_csv(study.states, dtype=str, keep_default_na=False)["name"].tolist()
    if missing := [name for name in names if not study.run(name).cycle(0).is_fitted]:
        raise ValueError(
            f"{len(missing)} of the {len(names)} runs of {run_dir} have no fit ({missing[0]} first), so their mean is "
            "not known; start the study again"
        )
    table = pd.DataFrame([study.run(name).cycle(0).read_metrics() for name in names], index=names)
    score = main_metric(table, score)
    scores = table[score].astype(float)
    if not np.isfinite(scores).all():
        raise ValueError(f"{scores[~np.isfinite(scores)].index[0]} of {run_dir} has no {score}; name another --score")
    return str((scores - scores.mean()).abs().idxmin()), scores, score


def nearest(run_dir: str, score: str | None = None) -> None:
    """Name the run of a study whose first model is the nearest to the mean, for others to begin with.

    So Chen 2020, section 2.1.2, chooses one of ten models with which all strategies begin.

    Args:
        run_dir: Folder of a study, such as of configs/cityscapes_initial_models.yaml.
        score: The score that is compared, such as val/miou; the one that chose the best weights unless given.

    Raises:
        ValueError: There is no study, one of its runs has no fit or no such score.
    """
    name, scores, score = find_nearest(Path(run_dir), score)
    run = StudyDirectory(Path(run_dir)).run(name).path
    print(
        f"{run} has {score} {scores[name]:.4f} in cycle 0, nearest to the mean {scores.mean():.4f} of {len(scores)} "
        f"runs ({scores.min():.4f} to {scores.max():.4f}): begin others with --initial_run {run}"
    )
