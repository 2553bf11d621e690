"""Whether annotations are what they should be, and teach anything at all."""

from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.files import DataError

if TYPE_CHECKING:
    from datamodules.corruptions import Corruption

__all__ = ["check_classes", "check_content", "check_known", "check_left", "check_mask", "check_named"]


def check_mask(where: str | Path, size: tuple[int, int], mask: np.ndarray, num_classes: int) -> None:
    """Refuse a mask of another size than its image, or with values outside the classes.

    Args:
        where: The mask's file or the image's id, for the message.
        size: Height and width of the image.
        mask: H x W.
        num_classes: How many classes there are.

    Raises:
        DataError: If it is refused.
    """
    if mask.shape != tuple(size):
        raise DataError(
            f"expected a mask of the image's size {size[0]} x {size[1]}, got {' x '.join(map(str, mask.shape))} in "
            f"{where}; redraw or resize it (nearest neighbour)"
        )
    wrong = (mask >= num_classes) & (mask != VOID) & (mask != UNANSWERED)
    if wrong.any():
        raise DataError(
            f"expected mask values from 0 to {num_classes - 1}, or {VOID} for void, got {mask[wrong].max()} in "
            f"{where}; correct the mask, list the class in classes.txt, or say what each value means with "
            "data.mask_values"
        )


def check_content(
    masks: Iterable[np.ndarray], count: int, first: str | Path, where: str, void_is_named: bool = False
) -> None:
    """Refuse masks that teach or judge nothing, all of them together.

    Those that are void throughout; and those of class 0 and void alone, because that is what masks of 0 and 255 look
    like, whose 255 is meant as a class. A few such masks among others are fine, and so is nothing but class 0 without
    any void. Masks are read until one shows another class: the first, as a rule.

    Args:
        masks: H x W each.
        count: How many there are.
        first: File or image id of the first, for the message.
        where: What they are, for the message.
        void_is_named: Whether somebody has said which value means void, so that nothing else is meant.

    Raises:
        DataError: If they are refused.
    """
    found: set[int] = set()
    for mask in masks:
        found.update(np.unique(mask).tolist())
        if found - {0, VOID, UNANSWERED}:
            return
    found.discard(UNANSWERED)
    if found == {VOID}:
        raise DataError(
            f"all {count} masks of the {where} are void throughout (value {VOID}), {first} first, so no pixel counts; "
            "correct the masks, or take other images"
        )
    if found == {0, VOID} and not void_is_named:
        raise DataError(
            f"the {count} masks of the {where} hold only 0 and {VOID}, {first} first, and {VOID} means void: set "
            f"data.mask_values to '{{0: 0, {VOID}: 1}}' if {VOID} is meant as class 1, or take images with other "
            f"classes into the {where}"
        )


def check_classes(classes: Sequence[int], names: Sequence[str], allow_missing: bool) -> None:
    """Refuse an initial set of classified images that lacks a class.

    Args:
        classes: Of its images, class indices or `VOID`.
        names: Of the classes 0, 1, ...
        allow_missing: Whether classes may be missing.

    Raises:
        DataError: If it is refused.
    """
    if not 2 <= len(names) <= UNANSWERED:
        raise DataError(
            f"expected 2 to {UNANSWERED} classes, got {len(names)} ({', '.join(names)}); add images of another class"
        )
    missing = [name for index, name in enumerate(names) if index not in set(classes)]
    if missing and not allow_missing:
        raise DataError(
            f"the initial set of {len(classes)} has no image of {', '.join(missing)}, so the network could not learn "
            "what it is; choose datamodules.initial.PerClass or a larger set, or set data.allow_missing_classes to true"
        )


def check_left(
    labels: Iterable[tuple[np.ndarray, np.ndarray]], names: Sequence[str], corruption: "Corruption", allow_missing: bool
) -> None:
    """Refuse a corruption that leaves nothing to learn from, or a class without a label.

    Args:
        labels: Of each unit of the initial set, what the data set says and what the corruption makes of it.
        names: Of the classes 0, 1, ...
        corruption: The rule.
        allow_missing: Whether classes may be without a label. Class 0 alone teaches nothing in any case.

    Raises:
        DataError: If it is refused.
    """
    there: set[int] = set()
    left: set[int] = set()
    classes = set(range(len(names)))
    for truth, seen in labels:
        there.update(np.unique(truth).tolist())
        left.update(np.unique(seen).tolist())
        if left >= classes:
            return
    lost = [names[k] for k in sorted((there - left) & classes)]
    remedy = "lower its rate, or take a larger data.initial"
    if lost and not left & classes:
        raise DataError(
            f"data.oracle.corruption {corruption.short_description} leaves no label in the initial set, so there is "
            f"nothing to learn from; {remedy}"
        )
    if lost and not left & classes - {0}:
        raise DataError(
            f"data.oracle.corruption {corruption.short_description} leaves no label in the initial set but "
            f"{names[0]!r}, class 0, so there is nothing to tell it from ({', '.join(lost)} without a label); {remedy}"
        )
    if lost and not (allow_missing or corruption.merges_classes):
        raise DataError(
            f"data.oracle.corruption {corruption.short_description} leaves {', '.join(lost)} without a label in the "
            f"initial set, so the network could not learn what that is; {remedy}, or set data.allow_missing_classes to "
            "true"
        )


def check_known(unit_ids: Sequence[str], known: Container[str]) -> None:
    """Refuse a query with a unit that is none of the train split, or with one unit twice.

    Args:
        unit_ids: What is queried.
        known: Ids of all units of the train split.

    Raises:
        DataError: If it is refused.
    """
    unknown = [u for u in unit_ids if u not in known]
    if unknown:
        raise DataError(f"a query may only name units of the pool, got {unknown[0]!r}")
    twice = [u for u, times in Counter(unit_ids).items() if times > 1]
    if twice:
        raise DataError(f"a query may name a unit once, got {twice[0]!r} twice")


def check_named(named: Collection[str], known: Container[str], example: str, instructions: str) -> None:
    """Refuse answers for images that are not there.

    Args:
        named: Ids that the answers are written down for.
        known: Ids of all images.
        example: Such an id, for the message.
        instructions: What people have to do, for the message.

    Raises:
        DataError: If they are refused.
    """
    strangers = [i for i in named if i not in known]
    if strangers:
        raise DataError(
            f"data.oracle has an answer for {strangers[0]!r} ({len(strangers)} such ids), which is no unit of the "
            f"data set (ids look like {example!r}); correct the unit_id: {instructions}"
        )
