"""A study's report: tables worked by hand, files, and what is said where something is missing."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import cli
from records.study_directory import StudyDirectory
from reports.comparison import area_table, run_areas
from reports.learning_curve import main_metric
from reports.page.study_page import study_runs, write_study_page
from reports.sections import Section
from reports.study import write_study_report
from reports.study_table import markdown, read_baseline, read_study
from tests.reports.page.elements import Elements

Rows = Callable[..., list[dict[str, object]]]
MakeStudy = Callable[[list[dict[str, object]]], Path]

RANDOM = [[0.5, 0.6, 0.7], [0.5, 0.62, 0.72], [0.5, 0.6, 0.71]]
MARGIN = [[0.5, 0.55, 0.8], [0.5, 0.6, 0.8], [0.5, 0.56, 0.83]]
BETTER = [[0.5, 0.7, 0.8], [0.5, 0.72, 0.82], [0.5, 0.7, 0.81]]
CURVES = {"random": RANDOM, "margin": MARGIN, "better": BETTER}


def test_a_study_of_one_cycle_compares_scores(
    rows: Rows, make_study: MakeStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_study(rows({"random": [[0.5], [0.6], [0.7]], "better": [[0.6], [0.8], [0.8]]}))
    table = write_study_report(folder).set_index(["strategy", "metric"])
    assert table.loc[("better", "val/accuracy"), "mean"] == pytest.approx(0.7333333)
    difference = table.loc[("better", "val/accuracy"), ["difference", "difference_low", "difference_high"]]
    half = 4.302653 * np.std([0.1, 0.2, 0.1], ddof=1) / 3**0.5  # three seeds: 4.303 deviations of the mean
    expected = [0.4 / 3, 0.4 / 3 - half, 0.4 / 3 + half]
    assert difference.tolist() == pytest.approx(expected, rel=1e-4)
    assert "0.733" in (folder / "report" / "report.md").read_text()
    assert "alc" not in capsys.readouterr().out, "there is no curve to take the area of"


def test_the_tables_by_hand(rows: Rows, make_study: MakeStudy, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(rows(CURVES))
    table = write_study_report(folder).set_index("strategy")
    assert list(table.index) == ["better", "margin", "random"], "best first"
    # seeds' sums: 0.5/2 + 0.6 + 0.7/2, 0.25 + 0.62 + 0.36, 0.25 + 0.6 + 0.355
    sums = [1.2, 1.23, 1.205]
    assert table.loc["random", "cycle_sum_mean"] == pytest.approx(np.mean(sums))
    assert table.loc["random", "cycle_sum_sd"] == pytest.approx(np.std(sums, ddof=1))
    assert table.loc["random", "alc_mean"] == pytest.approx(5 * np.mean(sums))
    assert "normalised_mean" not in table, "no score of the study stands for the full one"
    areas = run_areas(read_study(folder), "val/accuracy", full_score=0.9)
    normalised = area_table(areas).set_index("strategy")["normalised_mean"]
    # (score - 0.5) / (0.9 - 0.5) over 10 units
    assert normalised["random"] == pytest.approx((5 * np.mean(sums) - 5) / 0.4)

    paired = pd.read_csv(folder / "report" / "paired.csv").set_index(["measure", "strategy"])
    better = paired.loc[("alc", "better")]
    # 0.1 more in the second and in the last cycle of every seed
    assert better["difference"] == pytest.approx(5 * (0.1 + 0.05))
    assert better[["low", "high"]].tolist() == pytest.approx([0.75, 0.75])
    assert better["smallest_p"] == better["p_sign_flip"] == better["p_wilcoxon"] == 0.25
    assert better["p_sign_flip_holm"] == 0.5
    final = paired.loc[("final", "margin")]
    assert final["difference"] == pytest.approx(0.1)
    # three seeds: 4.303 deviations of the mean to either side
    half = 4.3027 * np.std([0.1, 0.08, 0.12], ddof=1) / 3**0.5
    assert final[["low", "high"]].tolist() == pytest.approx([0.1 - half, 0.1 + half], rel=1e-4)

    penalties = pd.read_csv(folder / "report" / "penalty_matrix.csv", index_col="beats")
    assert penalties.loc["better", "random"] == 1
    assert penalties.loc["random", "better"] == 0
    assert penalties.loc["mean", "random"] == pytest.approx((1 + penalties.loc["margin", "random"]) / 2)

    labels = pd.read_csv(folder / "report" / "labels_needed.csv").set_index("strategy")
    level = 0.95 * 0.71
    first = labels[np.isclose(labels["level"], level)]
    random_needs = 15 + 5 * (level - np.mean([0.6, 0.62, 0.6])) / (0.71 - np.mean([0.6, 0.62, 0.6]))
    better_needs = 10 + 5 * (level - 0.5) / (np.mean([0.7, 0.72, 0.7]) - 0.5)
    assert first.loc["random", "labels"] == pytest.approx(random_needs)
    assert first.loc["better", "labels"] == pytest.approx(better_needs)
    assert first.loc["better", "saving"] == pytest.approx(1 - better_needs / random_needs)
    assert first.loc["better", "break_even"] == 10
    behind, ahead = np.mean([0.05, 0.02, 0.04]), np.mean([0.1, 0.08, 0.12])
    assert first.loc["margin", "break_even"] == pytest.approx(15 + 5 * behind / (behind + ahead))
    assert np.isnan(first.loc["random", "break_even"])

    ranks = pd.read_csv(folder / "report" / "ranks.csv").set_index("strategy")["mean_rank"]
    assert ranks["better"] == 1
    assert "cycle_sum_mean" in capsys.readouterr().out


def test_words_and_pictures(rows: Rows, make_study: MakeStudy) -> None:
    folder = make_study(rows(CURVES)) / "report"
    write_study_report(folder.parent)
    text = (folder / "report.md").read_text()
    assert "2/2^3 = 0.25 two-sided (0.125 one-sided)" in text
    assert "no difference can be significant at 5% here: 6 are needed" in text
    assert "Friedman's test: chi-square" in text
    assert "Gaps" not in text
    for name in ("curves", "penalty_matrix"):
        with Image.open(folder / f"{name}.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        assert len(np.unique(pixels, axis=0)) > 20, "not an empty page"
    shown = Elements(folder / "index.html")
    assert [attributes["src"] for attributes, _ in shown.named("img")] == ["curves.png", "penalty_matrix.png"]
    headings = [text.strip() for _, text in shown.named("h2")]
    assert headings == [
        "Learning curves", "Area under the learning curve", "Differences to random, paired by seed",
        "Pairwise penalties", "Labels needed", "Ranks", "Runs",
    ]  # fmt: skip
    assert "2/2^3 = 0.25 two-sided" in (folder / "index.html").read_text()


def test_the_page_of_a_study_leads_to_its_runs(rows: Rows, tmp_path: Path) -> None:
    study = StudyDirectory(tmp_path / "study")
    table = pd.DataFrame(rows({"random": RANDOM, "<b>&": MARGIN})).assign(variant="")
    page = study.run("base/<b>&/seed-1").report_page
    page.parent.mkdir(parents=True)
    page.write_text("")
    jobs = pd.DataFrame([("base/<b>&/seed-1", "stopped", "enough <i>labels</i>")], columns=["name", "state", "reason"])
    notes = ["Gaps:\n\n- <script>alert(1)</script>", ""]
    ranks = pd.DataFrame({"variant": "", "strategy": ["<b>&"], "mean_rank": [1.5]})
    sections = [Section("ranks", "Ranks", "Words.", ranks)]
    write_study_page(study.path, table, jobs, "val/accuracy", "random", notes, sections)
    shown = Elements(study.report_page)
    links = [
        (attributes["href"], text) for attributes, text in shown.named("a") if not attributes["href"].startswith("#")
    ]
    assert [text for _, text in links] == ["<b>&"]
    assert (study.report / unquote(links[0][0])).samefile(page)
    assert [text.strip() for _, text in shown.named("button")][:2] == ["strategy", "mean rank"], "no column is empty"
    assert not any("alert" in text for _, text in shown.named("script"))
    assert "&lt;script&gt;alert(1)" in study.report_page.read_text()
    runs = study_runs(study, table, jobs, "val/accuracy")
    assert len(runs) == 6
    assert runs["state"].tolist().count("stopped") == 1
    by_name = runs.set_index(["strategy", "seed"]).loc[("random", 1)]
    assert by_name[["cycles", "labelled units", "first", "best", "last"]].tolist() == [3, 20, 0.5, 0.72, 0.72]


def test_one_seed_gets_no_intervals(rows: Rows, make_study: MakeStudy, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(rows({name: seeds[:1] for name, seeds in CURVES.items()}))
    table = write_study_report(folder)
    assert table["alc_sd"].isna().all()
    paired = pd.read_csv(folder / "report" / "paired.csv")
    assert paired[["low", "high"]].isna().all(axis=None)
    assert (paired["p_sign_flip"] == 1).all()
    assert "One seed only: no intervals, no tests" in capsys.readouterr().out
    assert "No penalty matrix" in (folder / "report" / "report.md").read_text()
    assert not (folder / "report" / "penalty_matrix.png").exists()


def test_gaps_are_shown_and_left_out(rows: Rows, make_study: MakeStudy, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_study(rows({"random": RANDOM, "margin": [MARGIN[0], MARGIN[1][:2]], "better": BETTER}))
    (folder / "jobs.csv").write_text("name,state\nmargin-2,failed\nrandom-0,done\n")
    table = write_study_report(folder).set_index("strategy")
    assert table["seeds"].to_dict() == {"better": 3, "margin": 1, "random": 3}
    said = capsys.readouterr().out
    for gap in ("margin, seed 1: 2 of 3 cycles", "margin, seed 2: 0 of 3 cycles", "failed job: margin-2"):
        assert gap in said
    assert "random-0" not in said
    assert "Some strategies have one seed only" in said
    assert len(pd.read_csv(folder / "report" / "gaps.csv")) == 3


def test_runs_that_a_criterion_ended_are_named(
    rows: Rows, make_study: MakeStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_study(rows({"random": RANDOM, "margin": [MARGIN[0], MARGIN[1][:2]]}))
    lines = ["random-0,finished,", "random-1,stopped,", 'margin-1,stopped,"LevelReached: val/accuracy is 0.9"']
    (folder / "jobs.csv").write_text("\n".join(["name,state,reason", *lines]) + "\n")
    write_study_report(folder)
    said = capsys.readouterr().out
    assert "A stopping criterion ended 1 of 3 runs." in said
    assert "- margin-1: LevelReached: val/accuracy is 0.9" in said
    assert "study without stop" in (folder / "report" / "report.md").read_text()


@pytest.mark.parametrize("score", ["val/loss", "val/calibration_error"])
def test_scores_of_which_less_is_better_are_not_ranked(rows: Rows, make_study: MakeStudy, score: str) -> None:
    folder = make_study([row | {score: 1 - row["val/accuracy"]} for row in rows({"random": RANDOM})])
    with pytest.raises(ValueError, match=f"but for {score} smaller ones are"):
        write_study_report(folder, score)
    assert not (folder / "report").exists()


def test_variants_are_ranked_and_borrow_random(rows: Rows, make_study: MakeStudy) -> None:
    folder = make_study(
        [
            *rows({"random": RANDOM, "margin": MARGIN}, variant=""),
            *rows({"margin": BETTER}, variant="stride=4"),
            *rows({"margin": MARGIN}, variant="stride=8"),
        ]
    )
    write_study_report(folder, levels=[0.7])
    paired = pd.read_csv(folder / "report" / "paired.csv", keep_default_na=False)
    alc = paired[paired["measure"] == "alc"].set_index("variant")["difference"].astype(float)
    assert alc["stride=4"] == pytest.approx(0.75)
    assert alc[""] == pytest.approx(alc["stride=8"])
    labels = pd.read_csv(folder / "report" / "labels_needed.csv", keep_default_na=False)
    assert (labels["level"].astype(float) == 0.7).all()
    assert labels.groupby("variant")["strategy"].nunique().to_dict() == {"": 2, "stride=4": 2, "stride=8": 2}


def test_a_strategy_may_be_called_na(rows: Rows, make_study: MakeStudy) -> None:
    table = read_study(make_study(rows({"NA": MARGIN, "null": BETTER}, variant="")))
    assert set(table["strategy"]) == {"NA", "null"}
    assert set(table["variant"]) == {""}


def test_without_random_nothing_is_compared(rows: Rows, make_study: MakeStudy) -> None:
    folder = make_study(rows({"margin": MARGIN, "better": BETTER}))
    write_study_report(folder)
    assert "No strategy is named random" in (folder / "report" / "report.md").read_text()
    assert "saving" not in pd.read_csv(folder / "report" / "labels_needed.csv")


def test_a_study_names_its_baseline(rows: Rows, make_study: MakeStudy) -> None:
    folder = make_study(rows({"margin": MARGIN, "better": BETTER}))
    (folder / "config.yaml").write_text("grid: {baseline: margin}")
    write_study_report(folder)
    text = (folder / "report" / "report.md").read_text()
    assert "Differences to margin, paired by seed" in text
    assert set(pd.read_csv(folder / "report" / "paired.csv")["strategy"]) == {"better"}
    (folder / "config.yaml").write_text("grid: {baseline: gone}")
    assert read_baseline(folder, ["margin", "random"]) == "random"


def test_mistakes(rows: Rows, make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a study's table at .*study.csv, got none; run study first"):
        read_study(tmp_path)
    folder = make_study(rows({"random": RANDOM}))
    with pytest.raises(ValueError, match="expected a metric among val/accuracy, got val/miou"):
        main_metric(read_study(folder), "val/miou")
    make_study(rows({"random": RANDOM}) * 2)
    with pytest.raises(ValueError, match="two rows for strategy random, seed 0, cycle 0"):
        read_study(folder)
    make_study([{"strategy": "random", "seed": 0}])
    with pytest.raises(ValueError, match="got none named cycle, labelled_units"):
        read_study(folder)


def test_markdown() -> None:
    table = pd.DataFrame({"a": ["x|y"], "b": [float("nan")], "c": [0.123456], "d": [2345.67]})
    assert markdown(table) == "| a | b | c | d |\n| --- | --- | --- | --- |\n| x/y |  | 0.1235 | 2345.7 |"


def test_the_verb_reports_studies_and_single_runs(
    rows: Rows, make_study: MakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_study(rows(CURVES))
    cli.main(["report", "--run_dir", str(folder), "--full_score", "1"])
    assert "a run's first score is made 0, and 1 1." in (folder / "report" / "report.md").read_text()
    metrics = tmp_path / "run" / "cycles" / "00" / "metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.write_text('{"cycle": 0, "labelled_units": 10, "labelled_pixels": 9, "val/accuracy": 0.5}')
    cli.main(["report", "--run_dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "learning_curve.png").stat().st_size > 5000
    with pytest.raises(SystemExit):
        cli.main(["report", "--run_dir", str(tmp_path / "nothing")])
    assert "expected a finished cycle below" in capsys.readouterr().err
