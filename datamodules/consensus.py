"""What several people's masks say together, when some of them are better than others: STAPLE and Dawid-Skene.

Both are one model and one expectation maximisation: a pixel's true class is hidden, each person has a confusion matrix,
and given the class people err independently of one another. What differs is over what a confusion runs and where the
prior comes from. People's masks are no such thing (they err together, along boundaries), so a consensus is a statement
of the model, not the truth.

Ours, because votes are pixels: `crowd-kit`'s Dawid-Skene takes a table with a row per vote, 2 x 10^7 of them for a
hundred images of five people, and SimpleITK's filters know no void. Pixels with the same votes are counted instead.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from acquisition.annotation import VOID
from datamodules.votes import stack_masks, vote_counts

__all__ = ["Confusions", "dawid_skene", "staple"]

Masks = Sequence[np.ndarray] | np.ndarray

_TINY = 1e-300  # for logarithms: what never happened is all but impossible
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Confusions:
    """How far each person is to be believed.

    Args:
        confusion: N people x C true classes x C classes that were said; rows sum to 1. NaN where it is not known: a
            class that is nowhere, or a person without a vote.
        prior: C, how often each class is the true one.
        log_likelihood: Of the votes, before each step of the expectation maximisation; it never falls.
    """

    confusion: np.ndarray
    prior: np.ndarray
    log_likelihood: tuple[float, ...]

    @property
    def sensitivity(self) -> np.ndarray:
        """Of two classes: how much of class 1 each of N people finds."""
        self._check_binary("sensitivity")
        return self.confusion[:, 1, 1]

    @property
    def specificity(self) -> np.ndarray:
        """Of two classes: how much of class 0 each of N people leaves alone."""
        self._check_binary("specificity")
        return self.confusion[:, 0, 0]

    def posterior(self, masks: Masks) -> np.ndarray:
        """Probability of each true class given the votes, C x H x W float64.

        Args:
            masks: N x H x W, of the same people in the same order; void pixels are no vote.

        Raises:
            ValueError: If there are more or fewer people, or a value is no class.
        """
        people, classes = self.confusion.shape[:2]
        stacked = _checked(masks, classes)
        if len(stacked) != people:
            raise ValueError(f"expected the masks of the {people} people who were judged, got {len(stacked)}")
        patterns, inverse, _ = _patterns(stacked, classes)
        # a class that was never there before can still be what all say
        prior = np.maximum(self.prior, _TINY)
        joint = _log_joint(_indicators(patterns, classes), self.confusion, prior)
        found = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        return found[inverse].T.reshape(classes, *stacked.shape[1:])

    def labels(self, masks: Masks) -> np.ndarray:
        """The most probable class, H x W uint8; void where nobody votes, and where two are as probable.

        Args:
            masks: As in `posterior`.
        """
        posterior = self.posterior(masks)
        highest = np.sort(posterior, axis=0)[-2:]
        chosen = posterior.argmax(axis=0)
        silent = (np.asarray(stack_masks(masks)) == VOID).all(axis=0)
        return np.where(silent | (highest[1] - highest[0] < _TIE), VOID, chosen).astype(np.uint8)

    def _check_binary(self, what: str) -> None:
        if self.confusion.shape[1] != 2:
            raise ValueError(
                f"{what} is of two classes, got {self.confusion.shape[1]}; read the diagonal of confusion instead"
            )


def staple(masks: Masks, num_classes: int = 2, iterations: int = 200, tolerance: float = 1e-6) -> Confusions:
    """Judge the people who drew one image (STAPLE, Warfield, Zou and Wells 2004; of two or more classes).

    The prior is how often each class is said in this image, and stays. Confusions begin with 0.99999 on the diagonal,
    as there. Pixels are independent: the paper's optional Markov field between neighbours is left out.

    Args:
        masks: N x H x W, classes or void, which is no vote.
        num_classes: C, at least 2.
        iterations: The most steps.
        tolerance: Ends when no entry of a confusion changes by more.

    Returns:
        Each person's confusion in this image; its `labels` and `posterior` are the consensus.

    Raises:
        ValueError: If there is no mask, or sizes or values are wrong.
    """
    stacked = _checked(masks, num_classes)
    patterns, _, counts = _patterns(stacked, num_classes)
    said = vote_counts(stacked, num_classes).reshape(num_classes, -1).sum(axis=1)
    prior = said / said.sum() if said.any() else np.full(num_classes, 1 / num_classes)
    votes, counts = _heard(_indicators(patterns, num_classes), counts)
    sure = 0.99999
    first = np.full((num_classes, num_classes), (1 - sure) / (num_classes - 1))
    np.fill_diagonal(first, sure)
    confusion = np.repeat(first[None], len(stacked), axis=0)
    return _maximise(votes, counts, confusion, prior, False, iterations, tolerance)


def dawid_skene(
    images: Iterable[Masks], num_classes: int = 2, iterations: int = 200, tolerance: float = 1e-6
) -> Confusions:
    """Judge people over many images, each by one confusion for all of them (Dawid and Skene 1979).

    The prior is estimated too. The first guess of the truth is the share of votes for each class, as there.

    Args:
        images: Of each image N x H x W masks, of the same people in the same order; those of somebody who has not drawn
            it are void throughout. They are read one by one.
        num_classes: C, at least 2.
        iterations: The most steps.
        tolerance: Ends when no entry of a confusion changes by more.

    Returns:
        Each person's confusion; its `labels` and `posterior` are an image's consensus.

    Raises:
        ValueError: If there is no image or no mask, or sizes, values or numbers of people are wrong.
    """
    counted: Counter[bytes] = Counter()
    people: int | None = None
    for masks in images:
        stacked = _checked(masks, num_classes)
        people = len(stacked) if people is None else people
        if len(stacked) != people:
            raise ValueError(
                f"expected the masks of {people} people, as of the first image, got {len(stacked)}; give void masks "
                "for those who have not drawn an image"
            )
        patterns, _, counts = _patterns(stacked, num_classes)
        for pattern, count in zip(patterns, counts.tolist(), strict=True):
            counted[pattern.tobytes()] += count
    if people is None:
        raise ValueError("expected at least one image, got none")
    # in one order, so that the sums do not depend on the images'
    keys = sorted(counted)
    patterns = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, people)
    counts = np.array([counted[key] for key in keys], dtype=np.float64)
    votes, counts = _heard(_indicators(patterns, num_classes), counts)
    given = votes.sum(axis=1)
    guess = given / given.sum(axis=1, keepdims=True)
    nobody = np.full((people, num_classes, num_classes), 1 / num_classes)
    confusion, _ = _confusions(votes, counts, guess, nobody)
    prior = counts @ guess / counts.sum() if len(counts) else np.full(num_classes, 1 / num_classes)
    return _maximise(votes, counts, confusion, prior, True, iterations, tolerance)


def _maximise(
    votes: np.ndarray,
    counts: np.ndarray,
    confusion: np.ndarray,
    prior: np.ndarray,
    learn_prior: bool,
    iterations: int,
    tolerance: float,
) -> Confusions:
    """Expectation maximisation: P x N x C votes, how often each of P patterns occurs, and where to begin."""
    history: list[float] = []
    weights = np.zeros(confusion.shape[:2])
    for _ in range(iterations):
        joint = _log_joint(votes, confusion, prior)
        total = np.logaddexp.reduce(joint, axis=1)
        history.append(float(counts @ total))
        posterior = np.exp(joint - total[:, None])
        before = confusion
        confusion, weights = _confusions(votes, counts, posterior, before)
        if learn_prior and len(counts):
            prior = counts @ posterior / counts.sum()
        if np.abs(confusion - before).max() <= tolerance:
            break
    return Confusions(np.where(weights[..., None] > 0, confusion, np.nan), prior, tuple(history))


def _heard(votes: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without pixels that nobody votes on: they say nothing of people, and nothing of how frequent classes are."""
    heard = votes.any(axis=(1, 2))
    return votes[heard], counts[heard]


def _confusions(
    votes: np.ndarray, counts: np.ndarray, posterior: np.ndarray, before: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest confusions, N x C x C, and on how many pixels of each class they rest, N x C."""
    patterns, people, classes = votes.shape
    said = (counts[:, None] * posterior).T @ votes.reshape(patterns, people * classes)
    joint = said.reshape(classes, people, classes).transpose(1, 0, 2)
    weights = joint.sum(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = joint / weights[..., None]
    return np.where(weights[..., None] > 0, found, before), weights


def _log_joint(votes: np.ndarray, confusion: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """Logarithm of the probability of votes and true class, P x C."""
    patterns, people, classes = votes.shape
    # who or what is not known says nothing
    known = np.where(np.isnan(confusion), 1 / classes, confusion)
    logs = np.log(np.maximum(known, _TINY)).transpose(0, 2, 1)
    with np.errstate(divide="ignore"):
        joint: np.ndarray = np.log(prior) + votes.reshape(patterns, people * classes) @ logs.reshape(-1, classes)
    return joint


def _checked(masks: Masks, num_classes: int) -> np.ndarray:
    if num_classes < 2:
        raise ValueError(f"a consensus is about at least 2 classes, got {num_classes}")
    stacked = stack_masks(masks)
    vote_counts(stacked, num_classes)  # refuses what is no class
    return stacked.astype(np.uint8)


def _patterns(stacked: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Different votes, P x N uint8; which of them each pixel has; and how often each occurs, P float64."""
    votes = stacked.reshape(len(stacked), -1)
    code = np.zeros(votes.shape[1], dtype=np.int64)
    distinct = 1
    for of_person in votes:
        if distinct > 2**62 // (num_classes + 1):
            _, code = np.unique(code, return_inverse=True)
            distinct = int(code.max(initial=0)) + 1
        code = code * (num_classes + 1) + np.where(of_person == VOID, num_classes, of_person)
        distinct *= num_classes + 1
    _, first, inverse, counts = np.unique(code, return_index=True, return_inverse=True, return_counts=True)
    return votes[:, first].T.copy(), inverse, counts.astype(np.float64)


def _indicators(patterns: np.ndarray, num_classes: int) -> np.ndarray:
    """P x N votes as P x N x C zeros and ones; void is all zeros."""
    return (patterns[..., None] == np.arange(num_classes)).astype(np.float64)
