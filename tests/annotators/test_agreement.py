"""Agreement over many images, and the published figures of the real data."""

import warnings
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import VOID
from annotators.agreement import fleiss_kappa, krippendorff_alpha, retest, vote_table
from annotators.disagreement import against_others, difficulty, pairwise
from datamodules.sources.multi_annotator import MultiAnnotatorFolder
from datamodules.sources.synthetic_annotators import SyntheticAnnotators

# Fleiss 1971's method, worked on Wikipedia: ten subjects, fourteen raters, five categories, kappa 0.210
FLEISS = np.array([[0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
                   [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]])  # fmt: skip


def test_kappa_of_a_published_table() -> None:
    assert fleiss_kappa(FLEISS) == pytest.approx(0.210, abs=5e-4)
    # the same votes as masks: pixels are subjects
    masks = np.array([np.repeat(np.arange(5), row) for row in FLEISS], dtype=np.uint8).T.reshape(14, 2, 5)
    assert np.array_equal(vote_table([masks], 5), FLEISS)
    assert np.array_equal(vote_table([masks[:, :1], masks[:, 1:]], 5), FLEISS)


def test_alpha_with_missing_votes() -> None:
    # the example of krippendorff's own documentation (nominal, 0.691358)
    gap = np.nan
    coders = np.array([[gap, gap, gap, gap, gap, 3, 4, 1, 2, 1, 1, 3, 3, gap, 3],
                       [1, gap, 2, 1, 3, 3, 4, 3, gap, gap, gap, gap, gap, gap, gap],
                       [gap, gap, 2, 1, 3, 4, 4, gap, 2, 1, 1, 3, 3, gap, 4]])  # fmt: skip
    masks = np.nan_to_num(coders, nan=VOID).astype(np.uint8).reshape(3, 3, 5)
    table = vote_table([masks], 5)
    assert krippendorff_alpha(table) == pytest.approx(0.691358, abs=1e-6)
    with pytest.raises(ValueError, match=r"equally many votes everywhere, got 0 to 3; use krippendorff_alpha"):
        fleiss_kappa(table)


@pytest.mark.parametrize("value", [0, 1, VOID])
def test_undefined_coefficients(value: int) -> None:
    table = vote_table([np.full((3, 4, 4), value, dtype=np.uint8)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(fleiss_kappa(table))
        assert np.isnan(krippendorff_alpha(table))
        assert np.isnan(fleiss_kappa(vote_table([])))


def test_coefficients_of_agreement_and_of_chance() -> None:
    rng = np.random.default_rng(0)
    same = np.repeat(rng.integers(0, 2, size=(1, 40, 40)), 4, axis=0)
    assert fleiss_kappa(vote_table([same])) == pytest.approx(1)
    assert krippendorff_alpha(vote_table([same])) == pytest.approx(1)
    chance = rng.integers(0, 2, size=(4, 100, 100))
    assert fleiss_kappa(vote_table([chance])) == pytest.approx(0, abs=0.02)
    assert krippendorff_alpha(vote_table([chance])) == pytest.approx(0, abs=0.02)


def test_retest_uses_the_same_people_both_times() -> None:
    data = SyntheticAnnotators(num_images=40, repeats=True, size=(48, 48))
    first = {i: data.drawings(i) for i in data.all_images()}
    second = {i: data.repeats(i) for i in data.all_images()}
    names = list(first)
    for name in names[:10]:
        del second[name]["guesses"]
    second[names[10]] = {}
    second[names[11]] = {"guesses": second[names[11]]["guesses"]}
    found = retest(first, second)
    assert found.images == 38
    values = [
        [difficulty([m[image][p] for p in second[image]]).total for m in (first, second)]
        for image in names
        if len(second[image]) > 1
    ]
    assert found.pearson == pytest.approx(np.corrcoef(np.transpose(values))[0, 1])
    assert found.ceiling == pytest.approx(found.pearson**0.5)
    # whoever is careful repeats themselves, whoever guesses does not
    assert found.within_iou["careful"] > 0.85 > found.within_iou["guesses"]
    # identical drawings are a perfect repeat
    same = retest(first, first)
    assert (same.pearson, same.spearman, same.ceiling) == pytest.approx((1, 1, 1))
    assert set(same.within_iou.values()) == {1}


def test_retest_without_enough_to_go_by() -> None:
    one = {"a": {"x": np.ones((2, 2), np.uint8), "y": np.zeros((2, 2), np.uint8)}}
    found = retest(one, one)
    assert found.images == 1
    assert np.isnan([found.pearson, found.spearman, found.ceiling, found.within_iou["y"]]).all()
    assert found.within_iou["x"] == 1
    nobody = retest(one, {})
    assert (nobody.images, nobody.within_iou) == (0, {})


@pytest.mark.real
def test_figures_of_the_readme(bubil: Path) -> None:
    data = MultiAnnotatorFolder(str(bubil), repeats="masks_amira")
    first = {i: data.drawings(i) for i in data.all_images()}
    second = {name: data.repeats(name) for name in first}
    masks = {name: list(drawn.values()) for name, drawn in first.items()}
    upper = np.triu_indices(5, 1)
    ious = {name: pairwise(m)[upper] for name, m in masks.items()}
    assert np.mean(list(ious.values())) == pytest.approx(0.744, abs=5e-4)
    by_pair = np.mean(list(ious.values()), axis=0)
    assert (by_pair.min(), by_pair.max()) == pytest.approx((0.67, 0.81), abs=5e-3)
    lowest = min(ious, key=lambda name: ious[name].mean())
    assert (lowest, ious[lowest].mean()) == ("ds2_p23", pytest.approx(0.50, abs=5e-3))
    against = [against_others(m) for m in masks.values()]
    means = [[np.mean([a[p].precision for a in against]), np.mean([a[p].recall for a in against])] for p in range(5)]
    expected = [[0.95, 0.84], [0.85, 0.95], [0.78, 0.89], [0.79, 0.96], [0.86, 0.94]]
    assert np.allclose(means, expected, atol=6e-3)
    again = retest(first, second)
    assert list(again.within_iou.values()) == pytest.approx([0.77, 0.83, 0.70, 0.81, 0.77], abs=5e-3)
    # measured here, printed nowhere else
    assert (again.images, again.pearson) == (116, pytest.approx(0.800, abs=1e-3))
    assert np.mean([difficulty(m).total for m in masks.values()]) == pytest.approx(538.5, abs=0.1)
    table = vote_table(list(masks.values())[::4])
    assert 0.8 < krippendorff_alpha(table) == pytest.approx(fleiss_kappa(table), abs=1e-5)
