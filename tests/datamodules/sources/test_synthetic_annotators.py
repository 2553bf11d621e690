"""Cells drawn by people of known habits."""

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_gradient_magnitude
from scipy.stats import spearmanr

from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.sources.synthetic_annotators import (
    HABITS,
    Cell,
    Habit,
    SyntheticAnnotators,
    draw_cells,
    draw_mask,
    expected_variance,
    marking_probability,
)

ROUND = Cell(row=15.5, column=15.5, radius=8.0, waves=(), contrast=0.9, softness=1.0)


def test_the_same_everywhere_and_seeds() -> None:
    data, other = SyntheticAnnotators(num_images=6), SyntheticAnnotators(num_images=9)
    assert other.all_images()[:6] == data.all_images()
    for image_id in data.all_images():
        assert np.array_equal(data.read_image(image_id), other.read_image(image_id))
        assert np.array_equal(data.read_image(image_id), SyntheticAnnotators().read_image(image_id))
    first = data.all_images()[0]
    assert data.read_image(first).shape == (64, 64, 3)
    drawn = data.drawings(first)
    assert list(drawn) == sorted(HABITS)
    assert all(m.dtype == np.uint8 and m.shape == data.size(first) == (64, 64) for m in drawn.values())
    changed = SyntheticAnnotators(num_images=6, scene_seed=1)
    assert not np.array_equal(changed.read_image(first), data.read_image(first))
    assert SyntheticAnnotators(num_images=2, size=(40, 48)).read_image(first).shape == (40, 48, 3)
    # what is read may be written to without changing the data set
    drawn["careful"][:] = 1
    assert not data.drawings(first)["careful"].all()


def test_habits_do_what_they_are_called() -> None:
    def area(habit: Habit, cell: Cell = ROUND) -> np.ndarray:
        return np.mean([draw_mask([cell], habit, seed, 32, 32) for seed in range(300)], axis=0)

    true = np.pi * ROUND.radius**2
    assert area(HABITS["careful"]).sum() == pytest.approx(true, rel=0.02)
    assert area(HABITS["dilates"]).sum() == pytest.approx(np.pi * 9.2**2, rel=0.03)
    assert area(HABITS["erodes"]).sum() == pytest.approx(np.pi * 7.0**2, rel=0.03)
    rows, columns = np.mgrid[:32, :32]
    moved = area(HABITS["shifts_down"])
    assert (moved * rows).sum() / moved.sum() == pytest.approx(15.5 + 1.5, abs=0.05)
    assert (moved * columns).sum() / moved.sum() == pytest.approx(15.5, abs=0.05)
    small = Cell(15.5, 15.5, 4.5, (), contrast=0.9, softness=1.0)
    faint = Cell(15.5, 15.5, 8.0, (), contrast=0.35, softness=1.0)
    assert area(HABITS["misses_small"], small)[15, 15] == pytest.approx(0.5, abs=0.1)
    assert area(HABITS["misses_faint"], faint)[15, 15] == pytest.approx(0.5, abs=0.1)
    assert min(area(HABITS[miss])[15, 15] for miss in ("misses_small", "misses_faint")) > 0.98
    # the guesser's boundary is anywhere where the edge is soft, and is steady where it is sharp
    spread = [np.var([draw_mask([c], HABITS["guesses"], s, 32, 32).sum() for s in range(200)]) for c in
              (Cell(15.5, 15.5, 8, (), 0.9, 0.2), Cell(15.5, 15.5, 8, (), 0.9, 3.0))]  # fmt: skip
    assert spread[1] > 10 * spread[0]


@pytest.mark.parametrize("seed", [0, 3])
def test_the_known_difficulty_is_what_drawings_come_to(seed: int) -> None:
    _, cells = draw_cells(seed, 40, 40)
    habits = list(HABITS.values())
    p = np.stack([marking_probability(cells, h, 40, 40) for h in habits])
    # variance over annotators of one drawing each, numpy's own, averaged over many drawings
    rounds = [
        np.var([draw_mask(cells, h, 1000 * r + n, 40, 40) for n, h in enumerate(habits)], axis=0, ddof=1)
        for r in range(250)
    ]
    expected = expected_variance(p)
    assert np.abs(np.mean(rounds, axis=0) - expected).max() < 0.05
    assert np.sum(np.mean(rounds, axis=0)) == pytest.approx(expected.sum(), rel=0.02)


def test_expected_variance_by_hand() -> None:
    certain = np.array([1.0, 1.0, 0.0, 0.0, 0.0])[:, None, None]
    assert expected_variance(certain).item() == pytest.approx(np.var([1, 1, 0, 0, 0], ddof=1))
    assert expected_variance(np.full((4, 1, 1), 0.3)).item() == pytest.approx(0.3 * 0.7)
    with pytest.raises(ValueError, match="at least two annotators, got 1; variance needs two"):
        expected_variance(np.ones((1, 2, 2)))


def test_difficulty_can_be_seen_in_the_image() -> None:
    data = SyntheticAnnotators(num_images=80)
    truth = np.array([data.true_difficulty(i) for i in data.all_images()])
    assert truth.std() > 0.25 * truth.mean()
    # where people disagree is where brightness changes gradually: a fixed filter finds it, so a network can
    greys = [data.read_image(i)[..., 0].astype(float) for i in data.all_images()]
    slopes = [np.minimum(gaussian_gradient_magnitude(g, 2), 8).sum() for g in greys]
    assert spearmanr(slopes, truth)[0] > 0.5
    one = data.all_images()[0]
    assert data.true_variance(one).sum() == pytest.approx(truth[0])


def test_some_of_the_annotators_and_second_drawings() -> None:
    data = SyntheticAnnotators(num_images=5, annotators=["guesses", "careful"], repeats=True)
    one = data.all_images()[0]
    assert data.annotators == data.annotators_of(one) == ["careful", "guesses"]
    again = data.repeats(one)
    assert list(again) == data.annotators
    assert not np.array_equal(again["guesses"], data.drawings(one)["guesses"])
    assert SyntheticAnnotators(num_images=5).repeats(one) == {}
    assert data.true_difficulty(one) != SyntheticAnnotators(num_images=5).true_difficulty(one)
    for wrong in (["careful"], ["careful", "nobody"]):
        with pytest.raises(ValueError, match="at least two of the annotators careful, dilates"):
            SyntheticAnnotators(annotators=wrong)
    with pytest.raises(DataError, match=r"id from cells_000000 to cells_000004, got '\.\./x'"):
        data.drawings("../x")


def test_a_loader_without_files(tmp_path: Path) -> None:
    source = SyntheticAnnotators(num_images=12, size=(32, 32), annotator="dilates", fold=1)
    data = PoolDataModule(source, batch_size=4, flip=0.0, run_dir=str(tmp_path))
    data.prepare_data()
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 3, 32, 32)
    for image_id, mask in zip(batch["image_id"], batch["mask"], strict=True):
        assert np.array_equal(mask, source.drawings(image_id)["dilates"])
