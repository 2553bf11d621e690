"""The verb report, and what a fit draws after each cycle."""

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
        # it has named its page before its last sentence
        return
    if run.images.is_file():
        from reports.difficulty import compare

        compare(folder)
    else:
        from reports.page.run_page import write_run_page

        if run.metrics():
            _draw_curve(folder, score, full_score)
        write_run_page(folder)
        print(f"page: {run.report_page}")


def draw_run(run_dir: Path) -> pd.DataFrame:
    """Draw the page and the learning curve of a run after a cycle.

    Args:
        run_dir: The run directory.

    Returns:
        The learning curve, from `reports.learning_curve.read_curve`.
    """
    from reports.learning_curve import write_curve
    from reports.page.run_page import try_run_page

    # a curve that is up to date says that the page is, too
    try_run_page(run_dir)
    return write_curve(run_dir)


def _draw_curve(run_dir: Path, score: str | None, full_score: float | None) -> None:
    from reports.learning_curve import area_sentence, main_metric, write_curve

    curve = write_curve(run_dir, score)
    print(curve.round(4).to_string(index=False))
    if len(curve) > 1:
        print(f"\n{area_sentence(curve, main_metric(curve, score), full_score)}")
    print(f"curve: {RunDirectory(run_dir).learning_curve_picture}")
