"""Confident learning per pixel and per object, against loops, torch and cases worked by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from acquisition.annotation import VOID
from annotators.suspicion import ClassThresholds, confident_classes, evidence, find_wrong, softmin


def drawn(seed: int, classes: int = 3, height: int = 7, width: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels, some of them void."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(classes), size=(height, width)).transpose(2, 0, 1).astype(np.float32)
    label = rng.integers(0, classes, size=(height, width)).astype(np.uint8)
    label[rng.random(label.shape) < 0.2] = VOID
    return probs, label


def thresholds_of(*images: tuple[np.ndarray, np.ndarray], classes: int = 3) -> np.ndarray:
    sums = ClassThresholds(classes)
    for probs, label in images:
        sums.update(probs, label)
    return sums.values


def test_thresholds_are_means_over_all_images_and_a_half_at_least() -> None:
    images = [
        (p**4 / (p**4).sum(axis=0), np.where(y == 0, p.argmax(axis=0), y)) for p, y in (drawn(0), drawn(1, height=4))
    ]
    means = [np.mean([float(p[k, i, j]) for p, y in images for i, j in np.argwhere(y == k)]) for k in range(3)]
    assert min(means) < 0.5 < max(means)
    assert thresholds_of(*images).tolist() == pytest.approx([max(mean, 0.5) for mean in means], rel=1e-6)


def test_nothing_is_taken_for_a_class_without_a_label() -> None:
    probs, label = drawn(2)
    label[label == 1] = 0
    thresholds = thresholds_of((probs, label))
    assert thresholds[1] == np.inf
    assert 1 not in confident_classes(probs, thresholds)
    found = find_wrong(probs, label, thresholds)
    assert found.suggested != found.given
    assert np.isfinite([found.objects, found.confident, found.softmin, found.loss]).all()


def test_confident_class_and_evidence_of_each_pixel() -> None:
    probs, label = drawn(3)
    thresholds = thresholds_of((probs, label))
    classes, against = confident_classes(probs, thresholds), evidence(probs, label, thresholds)
    for i, j in np.ndindex(label.shape):
        reached = [k for k in range(3) if probs[k, i, j] >= thresholds[k]]
        assert classes[i, j] == max(reached, key=lambda k: probs[k, i, j], default=-1)
        if label[i, j] == VOID:
            assert against[i, j] == 0
            continue
        above = [float(probs[k, i, j]) - thresholds[k] for k in range(3)]
        margin = max(above[k] for k in range(3) if k != label[i, j]) - above[label[i, j]]
        assert against[i, j] == pytest.approx(min(max(margin, 0), 1), abs=1e-6)


def test_share_of_mislabelled_pixels_by_hand() -> None:
    # means of self-confidence: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 0.7
    probs = np.array([[[0.9, 0.8, 0.1, 0.3]]], dtype=np.float64)
    probs = np.concatenate([probs, 1 - probs])
    label = np.array([[0, 0, 0, 1]], dtype=np.uint8)
    thresholds = thresholds_of((probs, label), classes=2)
    assert thresholds.tolist() == pytest.approx([0.6, 0.7])
    # the third pixel is class 1 with 0.9 >= 0.7
    assert find_wrong(probs, label, thresholds).confident == 0.25


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_softmin_lies_between_the_minimum_and_the_mean(values: list[float]) -> None:
    confidence = np.array(values)
    found = softmin(confidence)
    tensor = torch.tensor(values, dtype=torch.float64)
    assert found == pytest.approx(float((((1 - tensor) / 0.1).softmax(0) * tensor).sum()), abs=1e-9)
    assert confidence.min() - 1e-9 <= found <= confidence.mean() + 1e-9


def test_loss_is_the_cross_entropy_of_labelled_pixels() -> None:
    probs, label = drawn(4)
    known = torch.from_numpy(label != VOID)
    logs = torch.from_numpy(probs).log().permute(1, 2, 0)[known]
    expected = torch.nn.functional.nll_loss(logs, torch.from_numpy(label)[known].long())
    assert find_wrong(probs, label, thresholds_of((probs, label))).loss == pytest.approx(float(expected), rel=1e-5)


def test_samples_that_disagree_say_little_of_a_label() -> None:
    probs, label = drawn(5)
    thresholds, none = thresholds_of((probs, label)), np.zeros(label.shape)
    known = label != VOID
    own = np.take_along_axis(probs, np.where(known, label, 0)[None].astype(int), 0)[0][known]
    assert find_wrong(probs, label, thresholds, probs, none).mc == pytest.approx(1 - own.mean(), rel=1e-5)
    assert find_wrong(probs, label, thresholds, probs, none + np.log(3)).mc == pytest.approx(0, abs=1e-9)
    assert np.isnan(find_wrong(probs, label, thresholds).mc)


def scene(size: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A label with two squares of class 1 on class 0, and a network that is sure of just that."""
    label = np.zeros((size, size), dtype=np.uint8)
    label[2:8, 3:9] = 1
    label[14:20, 12:20] = 1
    likely = np.where(label == 1, 0.95, 0.05)
    return np.stack([1 - likely, likely]), label


def test_an_object_that_is_missing_in_the_label_is_found() -> None:
    probs, label = scene()
    thresholds, right = np.array([0.95, 0.95]), find_wrong(probs, label, np.array([0.95, 0.95]))
    label[14:20, 12:20] = 0
    found = find_wrong(probs, label, thresholds)
    assert found.box == (14, 12, 6, 8)
    assert (found.given, found.suggested) == (0, 1)
    # 48 pixels of 576, each with the evidence (0.95 - 0.95) - (0.05 - 0.95)
    assert found.objects == pytest.approx(0.9 * (48 / 576) ** 0.25)
    assert right.objects == 0
    assert found.confident == pytest.approx(48 / 576)
    assert right.confident == 0


def test_an_object_that_is_not_there_is_found() -> None:
    probs, label = scene()
    label[14:20, 2:6] = 1
    found = find_wrong(probs, label, np.array([0.95, 0.95]))
    assert found.box == (14, 2, 6, 4)
    assert (found.given, found.suggested) == (1, 0)


def test_another_outline_is_no_missing_object() -> None:
    probs, label = scene()
    wider = label.copy()
    wider[1:9, 2:10] = 1
    missing = label.copy()
    missing[2:8, 3:9] = 0
    thresholds = np.array([0.95, 0.95])
    assert find_wrong(probs, wider, thresholds).objects < find_wrong(probs, missing, thresholds).objects


@given(st.integers(0, 1000))
def test_scores_do_not_depend_on_where_up_is(seed: int) -> None:
    probs, label = drawn(seed)
    label[0, 0] = 0
    thresholds = thresholds_of((probs, label))
    bald = np.random.default_rng(seed).random(label.shape)
    one = find_wrong(probs, label, thresholds, probs, bald)
    other = find_wrong(probs[:, ::-1], label[::-1], thresholds, probs[:, ::-1], bald[::-1])
    for name in ("objects", "confident", "softmin", "loss", "mc", "pixels"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-6)
        assert getattr(one, name) >= 0


def test_a_classified_image_is_one_pixel() -> None:
    probs = np.array([0.2, 0.7, 0.1])[:, None, None]
    found = find_wrong(probs, np.array([[2]], dtype=np.uint8), np.array([0.6, 0.6, 0.5]))
    assert found.box == (0, 0, 1, 1)
    assert (found.given, found.suggested, found.confident) == (2, 1, 1.0)
    assert found.objects == pytest.approx(0.1 + 0.4)
