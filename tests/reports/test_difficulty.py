"""The comparison on made-up run directories whose answer is known."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats
from sklearn.metrics import roc_auc_score

from records.files import RunDirectoryError
from reports.difficulty import compare, write_difficulty_report
from reports.difficulty_correlations import MAPS
from reports.difficulty_figures import choose_images, draw_variance_maps
from reports.difficulty_report import combinations_text, comparison_text
from reports.page.difficulty_page import StripWriter, ranking
from tests.reports.page.elements import Elements

SIZE = 24
PEOPLE = 4
HABITS = (-1.2, -0.4, 0.4, 1.2)


def discs(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """One image: a disc drawn by people who agree more or less, and maps that know a part of it."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE / 2
    radius, doubt = rng.uniform(4, 8), rng.uniform(0.3, 2.5)
    masks = np.stack([np.hypot(y, x) < radius + doubt * h for h in HABITS]).astype(np.uint8)
    variance = masks.var(axis=0, ddof=1).astype(np.float32)
    mean = (1 / (1 + np.exp((np.hypot(y, x) - radius) / doubt))).astype(np.float32)
    informed = (mean * (1 - mean)).astype(np.float32)
    maps = {name: (informed * rng.uniform(0.9, 1.1)).astype(np.float32) for name in MAPS}
    maps["bald"] = rng.uniform(0, 0.1, (SIZE, SIZE)).astype(np.float32)
    stored = {
        "image": rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8),
        "masks": masks,
        "annotators": np.array([f"person{k}" for k in range(PEOPLE)]),
        "members": np.array([f"person{k}" for k in range(PEOPLE)]),
        "annotator_variance": variance,
        "mean": mean,
        "member_probabilities": np.stack([mean] * PEOPLE).astype(np.float16),
        **maps,
    }
    area, outline = float((mean > 0.5).sum()), 2 * np.pi * radius + rng.normal()
    row = {
        "difficulty": float(variance.sum()),
        "difficulty_per_object_pixel": float(variance.sum() / area),
        "difficulty_per_boundary_pixel": float(variance.sum() / outline),
        "mean_pairwise_iou": float(np.exp(-doubt / 4)),
        "repeat_difficulty": float(variance.sum() * rng.uniform(0.8, 1.2)),
        **{name: float(maps[name].sum()) for name in MAPS},
        "predicted_area": area,
        "predicted_boundary_length": float(outline),
        "constant": 1.0,
    }
    return stored, row


@pytest.fixture
def made_up_run(tmp_path: Path) -> Callable[..., Path]:
    """(number of images) to a run directory as the verb difficulty leaves it before it compares, of two groups."""

    def make(number: int = 24) -> Path:
        rng = np.random.default_rng(0)
        rows = []
        for k in range(number):
            stored, row = discs(rng)
            # a name in a folder, and one that looks like a number
            name = "ds/0" if k == 0 else f"{k:02d}"
            path = tmp_path / "run" / "predictions" / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, **stored)
            rows.append({"image": name, "fold": k % 3, "group": "ab"[k % 2], "annotators": PEOPLE, **row})
        pd.DataFrame(rows).to_csv(tmp_path / "run" / "images.csv", index=False)
        return tmp_path / "run"

    return make


def rewrite(run_dir: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = run_dir / "images.csv"
    change(pd.read_csv(path, dtype={"image": str})).to_csv(path, index=False)


def test_everything_is_written_and_agrees_with_scipy(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run()
    returned = write_difficulty_report(run_dir, draws=200, pictures=0).set_index("predictor")
    images = pd.read_csv(run_dir / "images.csv")
    table = pd.read_csv(run_dir / "difficulty" / "correlations.csv").set_index(["target", "predictor"])
    targets = ["difficulty", "difficulty_per_object_pixel", "difficulty_per_boundary_pixel", "pairwise_disagreement"]
    assert list(table.index.unique("target")) == targets
    for target in targets:
        measured = images.get(target, 1 - images["mean_pairwise_iou"])
        best = {}
        for name in (*MAPS, "predicted_area", "predicted_boundary_length", "repeat_difficulty"):
            row = table.loc[(target, name)]
            assert row["pearson"] == pytest.approx(stats.pearsonr(images[name], measured)[0])
            assert row["spearman"] == pytest.approx(stats.spearmanr(images[name], measured)[0])
            assert row["spearman_low"] <= row["spearman"] <= row["spearman_high"]
            best[name] = row["spearman"]
        trivial = max(("predicted_area", "predicted_boundary_length"), key=lambda n: abs(best[n]))
        row = table.loc[(target, "total")]
        assert row["spearman_best_trivial"] == trivial
        assert row["spearman_minus_trivial"] == pytest.approx(best["total"] - abs(best[trivial]))
        assert table.loc[(target, trivial), "spearman_minus_trivial"] == pytest.approx(
            best[trivial] - abs(best[trivial])
        )
    # some target is harder for small images
    assert (table["spearman"].loc[:, "predicted_area"] < 0).any()
    # the informed predictor is seen to know more than size, noise is not
    assert returned.loc["total", "spearman_minus_trivial_low"] > 0
    assert returned.loc["total", "spearman_given_size_low"] > 0
    assert returned.loc["bald", "spearman_given_size_low"] < 0
    assert returned.loc["repeat_difficulty", "kind"] == "ceiling"
    assert np.isnan(returned.loc["predicted_area", "spearman_given_size"])
    x, v = (
        np.concatenate([np.load(p)[key].ravel() for p in sorted((run_dir / "predictions").rglob("*.npz"))])
        for key in ("total", "annotator_variance")
    )
    assert returned.loc["total", "auroc_pooled"] == pytest.approx(roc_auc_score(v > 0, x), abs=1e-3)


def test_the_constant_knows_nothing(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(10)
    row = write_difficulty_report(run_dir, draws=50, pictures=0).set_index("predictor").loc["constant"]
    assert np.isnan(row[["pearson", "spearman", "spearman_low", "pearson_minus_trivial"]].astype(float)).all()
    assert row["auroc_pooled"] == 0.5
    precision = pd.read_csv(run_dir / "difficulty" / "precision_at_k.csv")
    constant = precision[precision["predictor"] == "constant"]
    assert constant["precision"].to_numpy() == pytest.approx(constant["chance"].to_numpy())
    assert "constant (trivial): no correlation is defined" in (run_dir / "difficulty" / "report.md").read_text()


def test_figures_are_pictures_and_old_ones_go(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(5)
    panels = run_dir / "difficulty" / "panels"
    panels.mkdir(parents=True)
    (panels / "hardest_9_gone.png").write_bytes(b"")
    write_difficulty_report(run_dir, draws=20, pictures=1)
    assert sorted(p.name.partition("_")[0] for p in panels.iterdir()) == ["easiest", "hardest", "misjudged"]
    drawn = sorted(p.stem for p in (run_dir / "difficulty").glob("*.png"))
    assert drawn == ["calibration", "intervals", "scatter"]
    for path in [*panels.iterdir(), *(run_dir / "difficulty").glob("*.png")]:
        with Image.open(path) as picture:
            assert min(picture.size) > 300
            assert np.ptp(np.asarray(picture.convert("L"))) > 100
    assert not list((run_dir / "difficulty").rglob(".*"))

    # the page shows the same, from its own folder alone
    page = run_dir / "report" / "index.html"
    shown = Elements(page)
    addresses = [str(attributes["src"]) for attributes, _ in shown.named("img")]
    strips = [a for a in addresses if a.endswith(".jpg")]
    assert len(strips) == 5, "one for each image"
    assert len(addresses) == 5 + 3 + 3, "beside figures and panels"
    for address in addresses:
        with Image.open(page.parent / unquote(address)) as picture:
            assert min(picture.size) > 100
    with Image.open(page.parent / strips[0]) as picture:
        assert picture.size == (3 * 120, 120), "image, people's variance, networks' variance"
    images = pd.read_csv(run_dir / "images.csv", dtype={"image": str})
    hardest = ranking(images)
    assert hardest["image"].tolist() == images.sort_values("difficulty", ascending=False)["image"].tolist()
    assert hardest["rank"].tolist() == [1, 2, 3, 4, 5]
    # each picture stands beside its own image
    cells = [text for text in page.read_text().split("<td") if 'class="strip"' in text]
    found = {c.partition(">")[2].rpartition("</td>")[0].rpartition(">")[2].strip(): c for c in cells}
    for number, name in enumerate(images["image"]):
        assert f"{number:05d}.jpg" in found[name]


def test_a_second_report_leaves_no_old_pictures(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(4)
    old = run_dir / "report" / "strips" / "00009.jpg"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"")
    writer = StripWriter(old.parent)
    with np.load(run_dir / "predictions" / "01.npz") as stored:
        writer.add(dict(stored) | {"image": stored["image"][..., 0], "annotator_variance": np.full((2, 2), np.nan)})
    assert [p.name for p in old.parent.iterdir()] == ["00000.jpg"]


def test_networks_are_named_after_their_own_people() -> None:
    stored, _ = discs(np.random.default_rng(0))
    # of four networks' people, another drew this image
    stored["members"] = np.array(["person3", "person1", "person0", "anna"])
    shown = [axes.get_title() for axes in draw_variance_maps(stored, "").axes]
    assert [t for t in shown if t.startswith("network")] == [
        "network person3", "network person1", "network person0", "network anna",
    ]  # fmt: skip


def test_three_classes_and_void(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(4)
    for path in (run_dir / "predictions").rglob("*.npz"):
        with np.load(path) as stored:
            content = dict(stored)
        mean = content["mean"]
        content["mean"] = np.stack([1 - mean, mean * 0.9, mean * 0.1])
        content["member_probabilities"] = np.stack([content["mean"]] * PEOPLE).astype(np.float16)
        content["annotator_variance"][:2] = np.nan
        np.savez(path, **content)
    write_difficulty_report(run_dir, draws=20, pictures=1)
    pixels = pd.read_csv(run_dir / "difficulty" / "pixels.csv").set_index("map")
    assert pixels.loc["total", "auroc_pooled"] > 0.9
    assert pixels.loc["boundary_nearness", "auroc_pooled"] > 0.5
    for path in (run_dir / "difficulty" / "panels").iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 300


def test_choice_of_pictures_by_hand() -> None:
    images = pd.DataFrame({"image": list("abcd"), "difficulty": [4.0, 3, 2, 1], "total": [40.0, 10, 30, 20]})
    assert choose_images(images, 1) == [("hardest_1", "a"), ("easiest_1", "d"), ("misjudged_1", "b")]


def test_the_same_seed_gives_the_same_report(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(8)
    first = write_difficulty_report(run_dir, seed=1, draws=50, pictures=0)
    pd.testing.assert_frame_equal(first, write_difficulty_report(run_dir, seed=1, draws=50, pictures=0))
    other = write_difficulty_report(run_dir, seed=2, draws=50, pictures=0)
    assert (other["spearman"].dropna() == first["spearman"].dropna()).all()
    assert (other["spearman_low"].dropna() != first["spearman_low"].dropna()).any()


def test_second_drawings_of_some_images_and_a_known_truth(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(12)

    def change(images: pd.DataFrame) -> pd.DataFrame:
        images.loc[:4, "repeat_difficulty"] = np.nan
        return images.assign(true_difficulty=images["difficulty"] ** 2)

    rewrite(run_dir, change)
    write_difficulty_report(run_dir, draws=50, pictures=0)
    table = pd.read_csv(run_dir / "difficulty" / "correlations.csv").set_index(["target", "predictor"])
    images = pd.read_csv(run_dir / "images.csv").dropna()
    row = table.loc[("difficulty", "repeat_difficulty")]
    assert row["images"] == 7
    assert row["pearson"] == pytest.approx(stats.pearsonr(images["difficulty"], images["repeat_difficulty"])[0])
    assert table.loc[("difficulty", "total"), "images"] == 12
    assert table.loc[("true_difficulty", "difficulty"), "spearman"] == pytest.approx(1)
    assert "second drawings agree with the first" in (run_dir / "difficulty" / "report.md").read_text()
    # where fewer drew again, the ceiling is theirs and the predictors' target stays everybody's
    rewrite(run_dir, lambda t: t.assign(repeated_difficulty=t["repeat_difficulty"] + 1))
    returned = write_difficulty_report(run_dir, draws=50, pictures=0).set_index("predictor")
    assert returned.loc["repeat_difficulty", "pearson"] == pytest.approx(1)
    assert returned.loc["total", "pearson"] == pytest.approx(table.loc[("difficulty", "total"), "pearson"])
    rewrite(run_dir, lambda t: t.assign(repeat_difficulty=np.nan))
    assert "repeat_difficulty" not in write_difficulty_report(run_dir, draws=50, pictures=0)["predictor"].tolist()
    assert "how well difficulty could be predicted is not known" in (run_dir / "difficulty" / "report.md").read_text()


def test_words_claim_only_what_the_intervals_show(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run()
    write_difficulty_report(run_dir, draws=200, pictures=0)
    report = (run_dir / "difficulty" / "report.md").read_text()
    of_difficulty = report.partition("## difficulty\n")[2].partition("\n## ")[0].splitlines()
    said = {line[2:].partition(" (")[0]: line for line in of_difficulty if line.startswith("- ")}
    assert "better than predicted" in said["total"]
    assert "says something that size does not" in said["total"]
    assert "not shown to say more than size" in said["bald"]
    assert "better than" not in said["bald"]
    assert "Given group and size" in said["total"]
    table = pd.read_csv(run_dir / "difficulty" / "parts.csv", dtype={"name": str})
    (row,) = table.query("part == 'group' and name == 'a' and predictor == 'total'").to_dict("records")
    cell = f"{row['spearman']:.2f} [{row['spearman_low']:.2f}, {row['spearman_high']:.2f}]"
    assert "| predictor | group a (12 images) | group b (12 images) |" in report
    assert f"| total | {cell} |" in report
    combined = report.partition("## Combined predictors")[2].partition("\n## ")[0]
    assert "- ensemble: Spearman" in combined
    assert "Have the networks learned?" not in report, "their scores are not known"


def test_the_networks_scores_are_in_the_report(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(4)
    pd.DataFrame(
        {
            "network": ["anna", "anna", "majority"], "fold": [0, 1, 0],
            "iou_with_own": [0.8, 0.4, np.nan], "iou_with_majority": [0.9, 0.5, 0.75],
            # in fold 0 anna drew 10 of 30
            "images_own": [10, 10, 0], "images_majority": [30, 10, 40],
        }
    ).to_csv(run_dir / "networks.csv", index=False)  # fmt: skip
    write_difficulty_report(run_dir, draws=5, pictures=0)
    report = (run_dir / "difficulty" / "report.md").read_text()
    assert (
        "- anna: IoU 0.80 with the majority of people (by fold 0.90, 0.50); 0.60 with that person's own masks" in report
    )
    assert "- majority: IoU 0.75 with the majority of people (by fold 0.75)\n" in report


def test_too_few_images(made_up_run: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"at least 3 of them, got 2 in .*images\.csv"):
        write_difficulty_report(made_up_run(2))
    write_difficulty_report(made_up_run(3), draws=20, pictures=0)


def test_what_is_missing_is_named(made_up_run: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"expected the table of images at .*nothing.*images\.csv"):
        write_difficulty_report(tmp_path / "nothing")
    run_dir = made_up_run(4)
    path = run_dir / "predictions" / "02.npz"
    whole = path.read_bytes()
    with np.load(path) as stored:
        np.savez(path, **{k: v for k, v in stored.items() if k != "aleatoric"})
    with pytest.raises(RunDirectoryError, match=r"02\.npz lacks the map aleatoric"):
        write_difficulty_report(run_dir, draws=5)
    path.write_bytes(whole[:100])
    with pytest.raises(RunDirectoryError, match=r"02\.npz is no readable prediction"):
        write_difficulty_report(run_dir, draws=5)
    path.unlink()
    with pytest.raises(RunDirectoryError, match=r"1 of 4 predictions are missing: .*02\.npz; run"):
        write_difficulty_report(run_dir, draws=5)
    assert not (run_dir / "difficulty").exists()
    rewrite(run_dir, lambda t: t.drop(columns=["bald", "constant"]))
    with pytest.raises(RunDirectoryError, match="lacks the columns bald, constant"):
        write_difficulty_report(run_dir)


def test_a_predictor_without_a_number(made_up_run: Callable[..., Path]) -> None:
    run_dir = made_up_run(4)
    rewrite(run_dir, lambda t: t.assign(total=[1, np.nan, 2, np.inf]))
    with pytest.raises(RunDirectoryError, match=r"column total of .* got none for '01' and 1 more"):
        write_difficulty_report(run_dir)


def test_the_verb_prints_the_table(made_up_run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    run_dir = made_up_run(6)
    compare(run_dir, draws=20, pictures=0)
    printed = capsys.readouterr().out
    table = write_difficulty_report(run_dir, draws=20, pictures=0)
    assert comparison_text(table) in printed
    assert combinations_text(pd.read_csv(run_dir / "difficulty" / "combinations.csv")) in printed
    row = table.set_index("predictor").loc["total"]
    assert f"{row['spearman']:.2f} [{row['spearman_low']:.2f}, {row['spearman_high']:.2f}]" in printed
    assert "undefined" in printed
