"""Batch strategies against their definitions, brute force and scikit-learn."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import kmeans_plusplus

from acquisition import greedy
from acquisition.functional import bald, entropy
from acquisition.greedy import gradient_kmeans, joint_entropy_greedy, k_center

seeds = st.integers(0, 10_000)


def sampled_networks(units: int, samples: int, classes: int, seed: int, sharpness: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(units, samples, classes)) * sharpness
    return (logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))).astype(np.float32)


def joint_information(log_probs: np.ndarray, batch: list[int]) -> float:
    """I(y1..yb; w) by enumeration of every joint outcome."""
    probs = np.exp(log_probs.astype(np.float64))
    samples, classes = probs.shape[1:]
    joint_entropy = 0.0
    for outcome in itertools.product(range(classes), repeat=len(batch)):
        p = (
            sum(math.prod(probs[u, t, y] for u, y in zip(batch, outcome, strict=True)) for t in range(samples))
            / samples
        )
        joint_entropy -= p * math.log(p) if p > 0 else 0
    conditional = sum(-(probs[u] * np.log(probs[u])).sum() / samples for u in batch)
    return joint_entropy - conditional


@given(seeds, st.integers(2, 4), st.integers(2, 3))
@settings(max_examples=15)
def test_joint_information_is_that_of_brute_force(seed: int, samples: int, classes: int) -> None:
    log_probs = sampled_networks(6, samples, classes, seed)
    chosen = joint_entropy_greedy(log_probs, 4, 10_000, torch.Generator())
    batch: list[int] = []
    for unit, information in chosen:
        best = max(joint_information(log_probs, [*batch, u]) for u in range(6) if u not in batch)
        batch.append(unit)
        assert information == pytest.approx(joint_information(log_probs, batch), abs=1e-6)
        assert information == pytest.approx(best, abs=1e-6), "the greedy choice"


@given(seeds)
def test_the_first_choice_is_that_of_bald_and_information_only_grows(seed: int) -> None:
    log_probs = sampled_networks(12, 5, 3, seed)
    probs = torch.from_numpy(log_probs).double().exp()
    scores = bald(probs.mean(dim=1), entropy(probs.flatten(end_dim=1)).view(12, 5).mean(dim=1))
    chosen = joint_entropy_greedy(log_probs, 6, 10_000, torch.Generator())
    assert chosen[0][0] == scores.argmax().item()
    assert chosen[0][1] == pytest.approx(scores.max().item(), abs=1e-6)
    information = [i for _, i in chosen]
    gains = np.diff([0.0, *information])
    assert (gains >= -1e-9).all()
    assert (np.diff(gains) <= 1e-6).all(), "each unit adds less than the one before: submodular"
    assert information[-1] <= math.log(5) + 1e-9, "five networks hold log 5 nats"


def test_drawn_configurations_estimate_what_enumeration_gives() -> None:
    log_probs = sampled_networks(8, 6, 3, 1)
    errors = []
    for seed in range(5):
        # 3, 9, then drawn
        chosen = joint_entropy_greedy(log_probs, 5, 8000 if seed else 20, torch.Generator().manual_seed(seed))
        batch = [u for u, _ in chosen]
        errors.append(abs(chosen[-1][1] - joint_information(log_probs, batch)))
    assert max(errors[1:]) < 1e-6, "3 ** 5 outcomes are enumerated"
    drawn = [joint_entropy_greedy(log_probs, 5, 200, torch.Generator().manual_seed(s)) for s in range(20)]
    exact = [joint_information(log_probs, [u for u, _ in chosen]) for chosen in drawn]
    differences = np.array([chosen[-1][1] for chosen in drawn]) - exact
    assert 0 < np.abs(differences).max() < 0.2
    assert abs(differences.mean()) < 0.03, "without bias"


def test_many_units_do_not_underflow() -> None:
    log_probs = sampled_networks(420, 4, 10, 2, sharpness=1.0)
    chosen = joint_entropy_greedy(log_probs, 400, 50, torch.Generator().manual_seed(0))
    assert len({u for u, _ in chosen}) == 400
    spent = -(np.exp(log_probs) * log_probs).sum(axis=2).mean(axis=1)[[u for u, _ in chosen]].sum()
    assert spent > 760, "the probability of an outcome is below the smallest float64"
    # the logarithm of an outcome's probability scatters by about 20 nats, its mean over 50 outcomes by 3
    assert chosen[-1][1] == pytest.approx(math.log(4), abs=12), "then the networks are told apart"


def test_a_copy_of_a_unit_adds_less_than_another_unit() -> None:
    certain = math.log(0.99), math.log(0.01)
    unsure = math.log(0.9), math.log(0.1)
    # the first two units tell network 0 from 1 and the last network 0 from 2, a little less surely
    apart = [certain, certain[::-1], certain, certain[::-1]]
    other = [unsure, unsure, unsure[::-1], unsure[::-1]]
    log_probs = np.array([apart, apart, other], dtype=np.float32)
    assert [u for u, _ in joint_entropy_greedy(log_probs, 2, 100, torch.Generator())] == [0, 2]


def plain_k_center(points: np.ndarray, labelled: np.ndarray, count: int) -> list[int]:
    chosen: list[int] = []
    for _ in range(count):
        centres = [*labelled, *points[chosen]]
        nearest = [min(math.dist(p, c) for c in centres) if i not in chosen else -1 for i, p in enumerate(points)]
        chosen.append(max(range(len(points)), key=nearest.__getitem__))
    return chosen


@pytest.mark.parametrize("block", [1 << 22, 16])
@given(seed=seeds)
@settings(max_examples=15)
def test_k_center_is_the_naive_loop(block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, labelled = rng.normal(size=(15, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greedy, "_BLOCK", block)
        patch.setattr(greedy, "_CENTRES", 8)
        assert k_center(points, labelled, 8) == plain_k_center(points, labelled, 8)


def radius(points: np.ndarray, centres: np.ndarray) -> float:
    return max(min(math.dist(p, c) for c in centres) for p in points)


@given(seeds)
@settings(max_examples=15)
def test_k_center_covers_within_twice_the_best(seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(10, 2))
    labelled = points[:1]
    got = radius(points, np.vstack([labelled, points[k_center(points, labelled, 3)]]))
    best = min(radius(points, np.vstack([labelled, points[list(c)]])) for c in itertools.combinations(range(10), 3))
    assert got <= 2 * best + 1e-9


def test_k_center_of_equal_points_names_each_once() -> None:
    assert sorted(k_center(np.ones((5, 2)), np.ones((1, 2)), 5)) == [0, 1, 2, 3, 4]
    assert k_center(np.arange(4.0)[:, None], np.empty((0, 1)), 2) == [0, 3]


def gradients(probs: np.ndarray, embeddings: np.ndarray) -> np.ndarray:
    """The explicit N x CD gradient of -log p(argmax) by the last layer's weights, from autograd."""
    rows = []
    for p, h in zip(probs, embeddings, strict=True):
        weight = torch.zeros(len(p), len(h), dtype=torch.float64, requires_grad=True)
        logits = torch.from_numpy(np.log(p)) + weight @ torch.from_numpy(h)
        torch.nn.functional.cross_entropy(logits[None], torch.tensor([int(p.argmax())])).backward()
        rows.append(weight.grad.numpy().ravel())
    return np.array(rows)


def plain_kmeans(points: np.ndarray, count: int, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < count:
        nearest = np.square(points[:, None] - points[None, chosen]).sum(axis=2).min(axis=1)
        chosen.append(int(np.searchsorted(nearest.cumsum(), rng.random() * nearest.sum(), side="right")))
    return chosen


@given(seeds)
@settings(max_examples=20)
def test_badge_is_kmeans_seeding_of_the_explicit_gradients(seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs, embeddings = rng.dirichlet(np.ones(4), size=12), rng.normal(size=(12, 5))
    assert gradient_kmeans(probs, embeddings, 6, seed) == plain_kmeans(gradients(probs, embeddings), 6, seed)


def test_badge_draws_like_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    probs, embeddings = rng.dirichlet(np.ones(3), size=4), rng.normal(size=(4, 2)) * 2
    explicit = gradients(probs, embeddings)
    draws = 3000
    ours = Counter(tuple(gradient_kmeans(probs, embeddings, 2, s)) for s in range(draws))
    theirs = Counter(
        tuple(kmeans_plusplus(explicit, 2, random_state=s, n_local_trials=1)[1].tolist()) for s in range(draws)
    )
    for pair in itertools.permutations(range(4), 2):
        # five standard deviations of the difference of two shares of 3000
        share = (ours[pair] + theirs[pair]) / (2 * draws)
        assert abs(ours[pair] - theirs[pair]) / draws < 5 * math.sqrt(2 * share * (1 - share) / draws) + 1e-9


def test_badge_names_units_without_gradient_last_and_once() -> None:
    probs = np.array([[1.0, 0.0], [0.6, 0.4], [1.0, 0.0], [0.5, 0.5]])
    for seed in range(20):
        chosen = gradient_kmeans(probs, np.ones((4, 3)), 4, seed)
        assert sorted(chosen) == [0, 1, 2, 3]
        # two of them have no gradient, so they are one point, drawn once
        assert {1, 3} < set(chosen[:3])
