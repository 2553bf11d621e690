"""Greedy choices of a batch, as functions of arrays; every one returns positions, first choice first.

Rows may be a memory map: they are read in blocks, once per chosen unit.
"""

import numpy as np
import torch
from torch import Tensor

__all__ = ["gradient_kmeans", "joint_entropy_greedy", "k_center"]

_BLOCK = 1 << 22
"""Numbers held at once."""
_CENTRES = 256
"""Labelled units compared with at once."""


def k_center(embeddings_ND: np.ndarray, labelled_LD: np.ndarray, count: int) -> list[int]:
    """The unit farthest from all centres, again and again (Sener and Savarese 2018, algorithm 1).

    Centres are the labelled units and what was chosen before; distances are Euclidean. The radius of the result is
    at most twice the smallest possible. Of equals the first is taken; with nothing labelled the first row begins.

    Args:
        embeddings_ND: D numbers of each of N units.
        labelled_LD: The same of L labelled units.
        count: How many units are to be chosen.

    Returns:
        Rows of the units, first choice first.
    """
    nearest = np.full(len(embeddings_ND), np.inf)
    for rows in _blocks(len(embeddings_ND), embeddings_ND.shape[1]):
        for centres in _blocks(len(labelled_LD), _BLOCK // _CENTRES):
            distances = _squared_distances(embeddings_ND[rows], labelled_LD[centres])
            np.minimum(nearest[rows], distances.min(axis=1), out=nearest[rows])
    chosen: list[int] = []
    for _ in range(min(count, len(embeddings_ND))):
        choice = int(nearest.argmax())
        chosen.append(choice)
        centre = np.asarray(embeddings_ND[choice], dtype=np.float64)
        for rows in _blocks(len(embeddings_ND), embeddings_ND.shape[1]):
            gaps = np.square(embeddings_ND[rows] - centre).sum(axis=1)
            np.minimum(nearest[rows], gaps, out=nearest[rows])
        nearest[chosen] = -1
    return chosen


def gradient_kmeans(probs_NC: np.ndarray, embeddings_ND: np.ndarray, count: int, seed: int) -> list[int]:
    """k-means++ seeding over hypothetical gradients (BADGE; Ash et al. 2020, algorithm 1).

    A unit's gradient is the outer product of p - onehot(argmax p), C numbers, and its embedding, D numbers: what the
    last layer would learn from its own answer. The first unit is drawn uniformly, each next one with probability
    proportional to the squared distance from the nearest chosen before (Arthur and Vassilvitskii 2007). The C x D
    outer product is never formed: <a1 h1, a2 h2> = <a1, a2> <h1, h2>.

    Args:
        probs_NC: C probabilities of each of N units.
        embeddings_ND: D numbers of each.
        count: How many units are to be chosen.
        seed: Of the draws.

    Returns:
        Rows of the units, first choice first.
    """
    rng = np.random.default_rng(seed)
    units = len(probs_NC)
    residuals = np.array(probs_NC, dtype=np.float64)
    residuals[np.arange(units), residuals.argmax(axis=1)] -= 1
    blocks = list(_blocks(units, embeddings_ND.shape[1]))
    norms = np.concatenate([np.square(np.asarray(embeddings_ND[b], np.float64)).sum(axis=1) for b in blocks])
    norms *= np.square(residuals).sum(axis=1)
    nearest = np.full(units, np.inf)
    chosen: list[int] = []
    while len(chosen) < min(count, units):
        total = nearest.sum()
        if not chosen:
            choice = int(rng.integers(units))
        elif total > 0:
            # the last one that has a chance, should rounding put the draw beyond the sum
            reached = np.searchsorted(nearest.cumsum(), rng.random() * total, side="right")
            choice = int(min(reached, np.flatnonzero(nearest)[-1]))
        else:
            break
        chosen.append(choice)
        centre = np.asarray(embeddings_ND[choice], dtype=np.float64)
        alike = residuals @ residuals[choice]
        for rows in blocks:
            gaps = norms[rows] + norms[choice] - 2 * alike[rows] * (embeddings_ND[rows] @ centre)
            # what rounding leaves of the distance between equals is no distance
            gaps[gaps <= 1e-12 * (norms[rows] + norms[choice])] = 0
            np.minimum(nearest[rows], gaps, out=nearest[rows])
        nearest[choice] = 0
    taken = set(chosen)
    return chosen + [i for i in range(units) if i not in taken][: max(0, min(count, units) - len(chosen))]


def joint_entropy_greedy(
    log_probs_NTC: np.ndarray, count: int, num_configurations: int, generator: torch.Generator
) -> list[tuple[int, float]]:
    """Units of the largest joint mutual information with the network, and that information in nats after each.

    BatchBALD (Kirsch et al. 2019, equations 8 to 12): I(y1..yb; w) = H(y1..yb) - sum of E_w H(yi | w), grown greedily,
    which is at least 1 - 1/e of the best. The joint entropy is exact while the C**m configurations of the m units
    chosen so far are at most num_configurations, and then estimated from so many configurations drawn from p(y1..ym).
    All in float64; probabilities of configurations as logarithms.

    Args:
        log_probs_NTC: C log-probabilities of N units by T networks, the same ones for all units.
        count: How many units are to be chosen.
        num_configurations: How many joint outcomes are kept.
        generator: For those that are drawn.

    Returns:
        Rows of the units with the information, first choice first.
    """
    units, samples, classes = log_probs_NTC.shape
    conditional = np.concatenate(
        [_conditional_entropies(_double(log_probs_NTC[b])) for b in _blocks(units, samples * classes)]
    )
    # log p(configuration | w), M x T, and the log of each one's weight in the sum over configurations
    configurations, weights = torch.zeros(1, samples, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    sampled = False
    chosen: list[tuple[int, float]] = []
    spent = 0.0
    while len(chosen) < min(count, units):
        gains = np.concatenate(
            [
                _joint_entropies(configurations, weights, _double(log_probs_NTC[b]))
                for b in _blocks(units, max(samples, len(weights)) * classes)
            ]
        )
        gains -= conditional + spent
        gains[[i for i, _ in chosen]] = -np.inf
        choice = int(gains.argmax())
        chosen.append((choice, float(gains[choice])))
        spent += conditional[choice]
        picked = [_double(log_probs_NTC[i]) for i, _ in chosen]
        if not sampled and len(weights) * classes <= num_configurations:
            configurations = (configurations[:, None, :] + picked[-1].T[None]).flatten(end_dim=1)
            weights = torch.zeros(len(configurations), dtype=torch.float64)
            continue
        # configurations drawn from the mixture p(y1..ym): each from one network, in equal shares
        if sampled:
            configurations += _draw(picked[-1], len(configurations), generator)
        else:
            configurations = torch.zeros(num_configurations, samples, dtype=torch.float64)
            for log_probs_TC in picked:
                configurations += _draw(log_probs_TC, num_configurations, generator)
            sampled = True
        weights = -_log_mean(configurations) - np.log(num_configurations)
    return chosen


def _joint_entropies(configurations_MT: Tensor, weights_M: Tensor, log_probs_NTC: Tensor) -> np.ndarray:
    """H(y1..ym, y) for each candidate y: -sum over configurations and classes of weight x p log p.

    Exactly, where the configurations are all there are, each of weight 1; as an estimate of importance sampling, where
    they were drawn from p(y1..ym), each of weight 1 / (M p(y1..ym)).
    """
    units, samples, classes = log_probs_NTC.shape
    # relative to each configuration's largest probability, so that none is lost to underflow
    largest = configurations_MT.amax(dim=1)
    relative = (configurations_MT - largest[:, None]).exp() / samples
    joint = relative @ log_probs_NTC.exp().permute(1, 0, 2).reshape(samples, units * classes)
    scale = (weights_M + largest).exp()
    logs = joint.clamp_min(1e-300).log() + largest[:, None]
    return -(scale[:, None] * joint * logs).sum(dim=0).view(units, classes).sum(dim=1).numpy()


def _conditional_entropies(log_probs_NTC: Tensor) -> np.ndarray:
    return torch.special.entr(log_probs_NTC.exp()).sum(dim=2).mean(dim=1).numpy()


def _draw(log_probs_TC: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """For each of `count` configurations a class from network (its number modulo T); log p(class | w), count x T."""
    samples = len(log_probs_TC)
    which = torch.arange(count) % samples
    classes = torch.multinomial(log_probs_TC.exp()[which], 1, generator=generator)[:, 0]
    return log_probs_TC.T[classes]


def _log_mean(log_values_MT: Tensor) -> Tensor:
    return log_values_MT.logsumexp(dim=1) - np.log(log_values_MT.shape[1])


def _double(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


def _squared_distances(first_ND: np.ndarray, second_LD: np.ndarray) -> np.ndarray:
    first, second = np.asarray(first_ND, np.float64), np.asarray(second_LD, np.float64)
    gaps = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    return gaps.clip(0)


def _blocks(rows: int, numbers_per_row: int) -> list[slice]:
    size = max(1, _BLOCK // max(numbers_per_row, 1))
    return [slice(i, min(i + size, rows)) for i in range(0, rows, size)]
