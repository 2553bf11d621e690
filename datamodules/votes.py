"""Several people's masks of one image as votes."""

from collections.abc import Sequence

import numpy as np

from acquisition.annotation import VOID

__all__ = ["majority", "stack_masks", "vote_counts"]


def stack_masks(masks: Sequence[np.ndarray] | np.ndarray, least: int = 1) -> np.ndarray:
    """N annotators' masks as one array, N x H x W (any shape behind N will do).

    Refuses fewer than `least` masks and masks of unequal size.
    """
    if len(masks) < least:
        raise ValueError(f"expected the masks of at least {least} annotators, got {len(masks)}; variance needs two")
    sizes = [np.shape(mask) for mask in masks]
    if len(set(sizes)) > 1:
        other = next(i for i, size in enumerate(sizes) if size != sizes[0])
        raise ValueError(
            f"expected masks of one size, got {sizes[0]} from the first annotator and {sizes[other]} from number "
            f"{other + 1}; resize them (nearest neighbour) or redraw"
        )
    return np.stack([np.asarray(mask) for mask in masks])


def vote_counts(masks: Sequence[np.ndarray] | np.ndarray, num_classes: int = 2) -> np.ndarray:
    """How many annotators chose each class: masks N x H x W to counts C x H x W. Void pixels are no vote."""
    stacked = stack_masks(masks)
    wrong = (stacked != VOID) & ((stacked < 0) | (stacked >= num_classes))
    if wrong.any():
        raise ValueError(
            f"expected mask values from 0 to {num_classes - 1}, or {VOID} for void, got {stacked[wrong].max()}; "
            "correct the mask or give the right number of classes"
        )
    return np.stack([(stacked == c).sum(axis=0) for c in range(num_classes)])


def majority(masks: Sequence[np.ndarray] | np.ndarray, num_classes: int = 2, tie: int = VOID) -> np.ndarray:
    """The class that most annotators chose, H x W uint8; `tie` where several classes have most votes.

    Ties are void unless told otherwise: Wilhelmsson (section 2.1.1) takes a pixel that five of ten call road for a
    large ambiguity, not for road or for background, and a network should be taught neither. With tie=0, a pixel of two
    classes is foreground when more than half of those who voted say so. Void where nobody voted.
    """
    counts = vote_counts(masks, num_classes)
    most = counts.max(axis=0)
    chosen = np.where((counts == most).sum(axis=0) > 1, tie, counts.argmax(axis=0))
    return np.where(most == 0, VOID, chosen).astype(np.uint8)
