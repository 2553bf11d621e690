"""The verb report, and what a fit draws after each cycle."""

import warnings
from pathlib import Path

import pandas as pd

from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory

__all__ = ["draw_run", "report"]


def report(
    run_dir: str, score: str | None = None, levels: list[float] | None = None, full_score: float | None = None
) -> None:
    """Draw the report of a fit, a study or a comparison of difficulty again, from the files in its folder alone.

    `dropquery report RUN_DIR` is enough. The page for a browser is RUN_DIR/report/index.html.

    Args:
        run_dir: Folder of a fit, of a study, or of the verb difficulty; it may stand without --run_dir.
        score: Metric to report, such as val/accuracy; the one that chose the best weights unless given.
        levels: Values of the metric for which the needed labels are reported; 95, 98 and 100% of the baseline's final
            value unless given.
        full_score: The metric after training on all labels, where the normalised area is 1; without it there is none.

    """
    folder = Path(run_dir)
    run = RunDirectory(folder)
    # what draws takes a second to import, and --help draws nothing
    if StudyDirectory(folder).table.is_file():
        from reports.study import write_study_report

        write_study_report(folder, score, levels, full_score)
    elif run.images.is_file():
        from reports.difficulty import compare

        compare(folder)
    else:
        from reports.page.run_page import write_run_page

        if not folder.is_dir():
            raise ValueError(f"expected the folder of a fit, a study or a comparison, got no folder {folder}")
        if run.metrics():
            _draw_curve(folder, score, full_score)
        write_run_page(folder)
    if run.report_page.is_file():
        print(f"page: {run.report_page}")


def draw_run(run_dir: Path) -> pd.DataFrame:
    """Draw the learning curve and the page of a run after a cycle; a page that cannot be drawn ends no fit.

    Args:
        run_dir: The run directory.

    Returns:
        The learning curve, from `reports.learning_curve.read_curve`.
    """
    from reports.learning_curve import write_curve
    from reports.page.run_page import write_run_page

    curve = write_curve(run_dir)
    try:
        write_run_page(run_dir)
    except Exception as error:
        warnings.warn(
            f"the page of {run_dir} could not be drawn ({type(error).__name__}: {error}); the run goes on, and "
            f"`dropquery report {run_dir}` draws it later",
            stacklevel=2,
        )
    return curve


def _draw_curve(run_dir: Path, score: str | None, full_score: float | None) -> None:
    from reports.learning_curve import area_sentence, main_metric, write_curve

    curve = write_curve(run_dir, score)
    print(curve.round(4).to_string(index=False))
    if len(curve) > 1:
        print(f"\n{area_sentence(curve, main_metric(curve, score), full_score)}")
    print(f"curve: {RunDirectory(run_dir).learning_curve_picture}")
