"""A study's report: what its strategies reached, and how certain that is, in tables, figures and text."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from records.files import write_figure, write_table, write_text
from records.study_directory import StudyDirectory
from reports.closing import closing_sentences, curves_text, savings
from reports.comparison import (
    area_table,
    find_gaps,
    labels_table,
    paired_table,
    penalty_matrix,
    rank_table,
    run_areas,
    without_gaps,
)
from reports.costs import cost_columns, cost_table
from reports.figures import draw_costs, draw_curves, draw_matrix
from reports.intervals import BOOTSTRAP_FROM
from reports.learning_curve import LOWER_IS_BETTER, main_metric, refresh_curve
from reports.page.run_page import try_run_page
from reports.page.study_page import write_study_page
from reports.sections import Section, as_markdown
from reports.settings import settings_table, settings_text
from reports.statistics import friedman, smallest_sign_flip_p
from reports.study_table import read_baseline, read_study

__all__ = ["write_study_report"]


def write_study_report(
    run_dir: Path, metric: str | None = None, levels: Sequence[float] | None = None, full_score: float | None = None
) -> pd.DataFrame:
    """Write report/ in a study's folder from its study.csv; print its main table, its curves and what was saved.

    Args:
        run_dir: The study's folder.
        metric: The metric to report; `reports.learning_curve.main_metric` unless given.
        levels: Values of the metric for which the needed labels are reported.
        full_score: The metric after training on all labels, where the normalised area is 1; without it there is none.

    Returns:
        The table of areas, from `reports.comparison.area_table`; of a study of one cycle, which has no curves, that of
        its scores, from `reports.settings.settings_table`.

    Raises:
        ValueError: The study's table is not valid, or lower values of the metric are better.
    """
    table = read_study(run_dir)
    study = StudyDirectory(run_dir)
    for run in study.runs():
        if refresh_curve(run.path) and run.report_page.is_file():
            try_run_page(run.path)
    metric = main_metric(table, metric)
    if metric.endswith(LOWER_IS_BETTER):
        raise ValueError(
            f"a study's tables take larger values for better ones, but for {metric} smaller ones are; report another "
            f"metric, or draw only its curves with analyse strategies --score {metric}"
        )
    folder = study.report
    baseline = read_baseline(run_dir, table["strategy"].unique())
    jobs = _jobs(run_dir)
    gaps = find_gaps(table, jobs.loc[jobs["state"].str.lower().str.startswith("fail"), "name"].tolist())
    stopped = _stopped_words(jobs)
    whole = without_gaps(table)
    if whole["cycle"].nunique() == 1:
        notes = [_seed_words(whole), _gap_words(gaps), stopped]
        scores = _write_scores(run_dir, whole, metric, baseline, notes)
        words = "Means over seeds with 95% intervals, and differences to the first value, paired by seed."
        one = [Section("scores", "Scores", words, scores, shaded=["mean"])]
        print(f"page:   {write_study_page(run_dir, table, jobs, metric, baseline, notes, one)}")
        return scores
    areas = run_areas(whole, metric, full_score)
    table_of_areas = area_table(areas)
    labels = labels_table(whole, metric, baseline, levels)
    ranks, blocks, block = rank_table(areas)
    matrix, used = penalty_matrix(whole, metric)
    paired = paired_table(areas, baseline) if baseline else pd.DataFrame()

    saved = savings(whole, metric, baseline) if baseline else pd.DataFrame()
    closing = closing_sentences(saved, metric, baseline) if baseline else []
    costs = cost_columns(whole)
    table_of_costs = cost_table(whole, metric, costs, baseline) if baseline else pd.DataFrame()
    tables = {
        "alc": table_of_areas, "runs": areas, "labels_needed": labels, "ranks": ranks, "gaps": gaps, "paired": paired,
        "costs": table_of_costs, "savings": saved,
    }  # fmt: skip
    for name, content in tables.items():
        if len(content.columns):
            write_table(folder / f"{name}.csv", content)
    write_table(folder / "penalty_matrix.csv", matrix, index="beats")
    write_figure(folder / "curves.png", draw_curves(whole, metric, baseline=baseline), dpi=130)
    if costs:
        write_figure(folder / "costs.png", draw_costs(whole, metric, costs, baseline=baseline), dpi=130)
    if used:
        title = f"how often the row beat the column, of {used} (t-test in every cycle, 5%)\nmean: lower is better"
        write_figure(folder / "penalty_matrix.png", draw_matrix(matrix, title), dpi=130)

    warnings = [_seed_words(whole), _gap_words(gaps), stopped]
    notes = [*closing, *warnings]
    against = baseline or "random"
    sections = [Section("curves", "", figure="curves.png", caption="learning curves")]
    if costs:
        words, caption = _cost_words(baseline), "learning curves over costs"
        sections.append(Section("costs", "What labels cost", words, table_of_costs, "costs.png", caption))
    scaled = "" if full_score is None else f"Normalised: a run's first score is made 0, and {full_score:g} 1. "
    penalties = matrix.rename_axis("beats").reset_index() if used else pd.DataFrame()
    sections += [
        Section(
            "areas",
            "Area under the learning curve",
            f"ALC: the score's trapezoid integral over labelled units. {scaled}Cycle sum: the same integral with a "
            f"step of 1 per cycle. Mean and standard deviation over seeds.{_unit_words(whole)}",
            table_of_areas,
            shaded=["alc_mean"],
        ),
        Section(
            "differences", f"Differences to {against}, paired by seed", _paired_words(baseline, paired), paired
        ),
        Section(
            "penalties", "Pairwise penalties", _penalty_words(used), penalties,
            "penalty_matrix.png" if used else "", "penalties" if used else "",
        ),
        Section(
            "labels",
            "Labels needed",
            "On mean curves, straight between cycles. labels: where a curve first reaches the level; saving: against "
            f"{against}; break_even: the labels from which the curve stays above that one's. Empty: never.",
            labels,
        ),
        Section("ranks", "Ranks", _rank_words(block, blocks), ranks),
    ]  # fmt: skip
    write_text(folder / "report.md", as_markdown(f"{run_dir.name}: {metric}", notes, sections))
    page = write_study_page(run_dir, table, jobs, metric, baseline, notes, sections)
    print(table_of_areas.round(4).to_string(index=False))
    for said in filter(None, [*warnings, curves_text(whole, metric, baseline)]):
        print(f"\n{said}")
    print(f"\nreport: {folder / 'report.md'}")
    print(f"page:   {page}")
    for sentence in closing:
        print(f"\n{sentence}")
    return table_of_areas


def _write_scores(
    run_dir: Path, table: pd.DataFrame, metric: str, baseline: str | None, words: Sequence[str]
) -> pd.DataFrame:
    """Write the report of a study of one cycle, and print its table."""
    of_splits = [c for c in table if c.startswith("val/") and c.count("/") == 1 and not c.endswith(LOWER_IS_BETTER)]
    metrics = list(dict.fromkeys([metric, *of_splits]))
    names = sorted(table["strategy"].unique(), key=lambda name: (name != baseline, name))
    variants = {"variant": table["variant"].astype("category")} if table["variant"].nunique() > 1 else {}
    scores = settings_table(
        table.drop(columns="variant").assign(**variants, strategy=pd.Categorical(table["strategy"], names)),
        "strategy",
        metrics,
    )
    folder = StudyDirectory(run_dir).report
    write_table(folder / "last_cycle.csv", scores)
    text = settings_text(scores, "strategy")
    write_text(folder / "report.md", "\n\n".join(t for t in (f"# {run_dir.name}: one cycle", *words, text) if t))
    print(scores[scores["metric"] == metric].drop(columns="metric").round(4).to_string(index=False))
    for said in (f"The column mean is of {metric}.", *words):
        if said:
            print(f"\n{said}")
    print(f"\nreport: {folder / 'report.md'}")
    return scores


def _jobs(run_dir: Path) -> pd.DataFrame:
    """Read jobs.csv; without it the table has no rows."""
    path = StudyDirectory(run_dir).states
    table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.is_file() else pd.DataFrame()
    return table.reindex(columns=["name", "state", "reason"]).fillna("").astype(str)


def _seed_words(table: pd.DataFrame) -> str:
    seeds = table.groupby(["variant", "strategy"])["seed"].nunique()
    if seeds.max() == 1:
        return "One seed only: no intervals, no tests. Differences between strategies may be luck; run more seeds."
    if seeds.min() == 1:
        return "Some strategies have one seed only: for them there are no intervals and no tests."
    return ""


def _gap_words(gaps: pd.DataFrame) -> str:
    if gaps.empty:
        return ""
    lines = [
        f"- {g.strategy}, seed {g.seed}{f', {g.variant}' if g.variant else ''}: {g.cycles} of {g.expected} cycles"
        if g.strategy else f"- failed job: {g.failed_job}"
        for g in gaps.itertuples()
    ]  # fmt: skip
    return "Gaps, left out of all tables:\n\n" + "\n".join(lines)


def _stopped_words(jobs: pd.DataFrame) -> str:
    stopped = jobs[(jobs["state"] == "stopped") & (jobs["reason"] != "")]
    if stopped.empty:
        return ""
    reasons = "\n".join(f"- {name}: {reason}" for name, reason in zip(stopped["name"], stopped["reason"], strict=True))
    return (
        f"A stopping criterion ended {len(stopped)} of {len(jobs)} runs. Runs shorter than the longest count as gaps, "
        "so the tables may hold only those that the criterion let go on, and say nothing fair about strategies: "
        f"study without stop to compare them.\n\n{reasons}"
    )


def _cost_words(baseline: str | None) -> str:
    if not baseline:
        return (
            "Units differ in what they cost. No strategy is called random and the study names no baseline, so there "
            "are no differences to it."
        )
    return (
        f"Units differ in what they cost, so strategies are compared with {baseline} over pixels, objects and clicks: "
        "mean of the score from `first` to `last`, the costs that all runs of both have, straight between cycles, and "
        "the difference paired by seed with its 95% interval (Student's t; from "
        f"{BOOTSTRAP_FROM} seeds on the BCa bootstrap). Empty: no costs in common."
    )


def _unit_words(table: pd.DataFrame) -> str:
    sizes = table.groupby(["variant", "cycle"])["labelled_units"].nunique().max()
    if sizes == 1:
        return ""
    return " Runs differ in labelled units at the same cycle, so their areas are over different ranges: compare curves."


def _paired_words(baseline: str | None, paired: pd.DataFrame) -> str:
    if baseline is None:
        return "No strategy is named random and the study names no baseline, so there is nothing to compare with."
    if paired.empty or paired["seeds"].max() < 2:
        return f"The mean difference to {baseline}; no intervals or tests without at least two common seeds."
    seeds = int(paired["seeds"].max())
    smallest = smallest_sign_flip_p(seeds)
    verdict = (
        f"So with {seeds} seeds no difference can be significant at 5% here: {_seeds_for_five_percent()} are needed "
        "before any correction. Look at intervals and signs instead."
        if smallest > 0.05
        else ""
    )
    return (
        f"Mean difference with its 95% interval (Student's t; from {BOOTSTRAP_FROM} seeds on the BCa bootstrap), "
        "Wilcoxon's signed-rank test and the sign-flip test, both two-sided; _holm: corrected over the strategies of "
        f"one variant and measure. The smallest p that {seeds} seeds can give is 2/2^{seeds} = {smallest:.4g} "
        f"two-sided ({smallest / 2:.4g} one-sided). {verdict}"
    ).strip()


def _seeds_for_five_percent() -> int:
    return next(n for n in range(1, 20) if smallest_sign_flip_p(n) <= 0.05)


def _penalty_words(used: int) -> str:
    if not used:
        return "No penalty matrix: it takes two strategies with at least two common seeds."
    return (
        "Ash et al. 2020 (BADGE), Ji et al. 2023: in every cycle after the first, a two-sided paired t-test at 5% for "
        "each two strategies; row i, column j: the share of cycles in which i beats j, summed over "
        f"{used} variant(s). mean: of the column over the other strategies, lower is better. No correction for the "
        "number of tests."
    )


def _rank_words(block: str, blocks: pd.DataFrame) -> str:
    words = f"Mean rank by ALC over {len(blocks)} {block}(s), 1 is best."
    test = friedman(blocks)
    if test is None:
        return f"{words} Friedman's test needs at least 3 strategies and 3 blocks."
    few = " (its chi-square approximation is coarse for few blocks)" if len(blocks) < 10 else ""
    return f"{words} Friedman's test: chi-square {test.statistic:.3g}, p {test.p:.3g}{few}."
