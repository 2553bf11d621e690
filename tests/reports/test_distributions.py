"""Random softmax distributions: bounds of figure 2.13 and cumulative means of figure 2.12."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acquisition import functional
from reports.distributions import (
    bounds_table,
    cumulative_table,
    draw_bounds,
    draw_cumulative,
    entropy_bounds,
    normalised_cumulative_mean,
    random_logits,
)


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=19), st.floats(0.01, 10))
def test_every_distribution_lies_between_the_bounds(logits: list[float], temperature: float) -> None:
    probs = functional.class_probabilities(torch.tensor([logits], dtype=torch.float64), temperature)
    low, high = entropy_bounds(probs.amax(dim=1).clamp(max=1).numpy(), len(logits))
    entropy = functional.entropy(probs).numpy()
    assert low[0] - 1e-7 <= entropy[0] <= high[0] + 1e-7


@given(st.integers(2, 19), st.floats(0, 1))
def test_the_bounds_are_reached(classes: int, share: float) -> None:
    largest = 1 / classes + share * (1 - 1 / classes)
    flat = np.full(classes, (1 - largest) / (classes - 1))
    flat[0] = largest
    steep = np.clip(1 - largest * np.arange(classes), 0, largest)
    assert steep.sum() == pytest.approx(1)
    found = functional.entropy(torch.tensor(np.stack([steep, flat]))).numpy()
    low, high = entropy_bounds([largest], classes)
    np.testing.assert_allclose([low[0], high[0]], found, atol=1e-6)


def test_bounds_by_hand() -> None:
    low, high = entropy_bounds([1, 0.5, 0.25], 4)
    np.testing.assert_allclose(low, [0, np.log(2), np.log(4)], atol=1e-12)
    np.testing.assert_allclose(high, [0, 0.5 * np.log(2) + 0.5 * np.log(6), np.log(4)], atol=1e-12)
    with pytest.raises(ValueError, match=r"from 1/4 to 1, got 0.2"):
        entropy_bounds([0.2], 4)


def test_cumulative_mean_by_hand() -> None:
    # means 1, 2, 4: from 1 to 4
    np.testing.assert_allclose(normalised_cumulative_mean([1, 3, 8]), [0, 1 / 3, 1])
    assert np.isnan(normalised_cumulative_mean([2, 2])).all()


def test_what_the_thesis_saw_in_random_distributions() -> None:
    logits = random_logits(8000, 19)
    torch.testing.assert_close(logits, random_logits(8000, 19))
    table = cumulative_table(logits)
    assert table["entropy"].is_monotonic_increasing
    assert table["entropy"].median() > 0.7 * np.log(19), "skewed towards high entropy"
    away = (table.drop(columns="entropy").sub(table["Entropy"], axis=0)).mean()
    assert abs(away["Max-softmax"]) == away.drop("Entropy").abs().min(), "max-softmax is closest to entropy"
    assert away["ODIN T=10"] > away["ODIN T=100"] > 0 > away["ODIN T=0.1"], "T = 10 is furthest on its side"


def test_figures_show_the_data() -> None:
    logits = random_logits(300, 5)
    table = bounds_table(logits)
    axes = draw_bounds(table, 5, {"log 2": 0.69}).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), table.to_numpy())
    assert [line.get_label() for line in axes.lines] == ["smallest entropy", "largest entropy", "log 2"]
    curves = draw_cumulative(cumulative_table(logits)).axes[0]
    assert len(curves.lines) == 8
    assert all(line.get_ydata()[[0, -1]] == pytest.approx([0, 1]) for line in curves.lines)
