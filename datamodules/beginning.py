"""Before the first fit: what people have drawn, what they might draw first, and the error where that is too little."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from acquisition.seeding import derive_seed
from datamodules.checks import check_classes, check_content, check_left
from datamodules.corruptions import Corrupted
from datamodules.files import DataError
from datamodules.texts import read_text, unshielded
from datamodules.units import nothing_in
from records.run_directory import RunDirectory

if TYPE_CHECKING:
    from datamodules.pool import Pool

__all__ = ["PEOPLE", "NotBegunError", "at_random", "check_initial", "first_names", "listed", "not_begun"]

_NOTES = logging.getLogger(__name__)

PEOPLE = {"mask": "datamodules.oracle.FolderOracle", "label": "datamodules.oracle.LabelTable"}
"""Who answers where people label, by what an annotation is."""


class NotBegunError(DataError):
    """Nothing is labelled to train on, or nothing to validate on: somebody has to draw first.

    Args:
        message: What is there and what to draw, without the command that lists it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; the verb start, with the same options, writes the list to draw")
        self.message = message


def not_begun(pool: "Pool", answered: Sequence[str]) -> DataError:
    """What is raised where a fit could not begin.

    Args:
        pool: The data set, and who labels.
        answered: Ids of the units that are labelled.
    """
    source, oracle, noun = pool.source, pool.oracle, pool.source.target
    held_out = pool.kept_for_validation()
    judged = [] if oracle.knows_truth else pool.judged()
    if not held_out:
        return nothing_in(source, "val")
    lacking = []
    if not answered:
        lacking.append("no unit is labelled, so there is nothing to train on")
    if not judged and not oracle.knows_truth:
        kept = f"{len(held_out)} image{'s' if len(held_out) > 1 else ''}"
        lacking.append(f"no {noun} is there for the {kept} held out for validation, so no fit could be judged")
    todo = oracle.instructions()
    if oracle.knows_truth:
        todo = f"the data set has no {noun}; let people answer: set data.oracle to {PEOPLE[noun]}"
    train, val = first_names(pool, answered)
    wanted = [f"{_names(train)} for training"] if not answered else []
    wanted += [f"{_names(val)} for validation"] if not judged else []
    there = f"{len(pool.units.images('train'))} images are there to train on, {len(held_out)} are held out"
    return NotBegunError(f"{', and '.join(lacking)}: {todo}. To begin with, {' and '.join(wanted)} ({there})")


def first_names(pool: "Pool", answered: Sequence[str]) -> tuple[list[str], list[str]]:
    """What somebody should draw first: what the verb start has listed, or else units and images at random.

    Args:
        pool: The data set, and who labels.
        answered: Ids of the units that are labelled.

    Returns:
        Ids of units for training and of images for validation that nobody has labelled.
    """
    done, judged = set(answered), set(pool.judged())
    open_units = [u for u in pool.units.ids if u not in done]
    open_images = [i for i in pool.kept_for_validation() if i not in judged]
    there = listed(RunDirectory(pool.run_dir))
    train, val = (
        [i for i in there.get(split, {}) if i in among]
        for split, among in (("train", set(open_units)), ("val", set(open_images)))
    )
    return train or at_random(open_units, pool.seed), val or at_random(open_images, pool.seed)


def listed(run: RunDirectory) -> dict[str, dict[str, str]]:
    """What the verb start has listed in a run directory, in its order.

    Args:
        run: The run.

    Returns:
        By split, "train" or "val": the ids of units or images, each with how it was chosen. Empty without a list.

    Raises:
        DataError: If the list cannot be read.
    """
    if not run.start_list.is_file():
        return {}
    found: dict[str, dict[str, str]] = {"train": {}, "val": {}}
    rows = csv.DictReader(io.StringIO(read_text(run.start_list)))
    for row in rows:
        columns: Mapping[str, str | None] = row
        split, unit_id, spread = (columns.get(name) for name in ("split", "unit_id", "spread"))
        if split not in found or not unit_id:
            raise DataError(
                f"expected the columns unit_id and split (train or val) in every row of {run.start_list}, got "
                f"{split!r} and {unit_id!r}; remove the file, and dropquery start writes it anew"
            )
        found[split][unshielded(unit_id)] = spread or ""
    return found


def at_random(ids: Sequence[str], seed: int) -> list[str]:
    """The same ids in an order that is drawn from (seed, id).

    Args:
        ids: Of units or images.
        seed: The run's.
    """
    return sorted(ids, key=lambda i: derive_seed(seed, "start", i))


def check_initial(pool: "Pool", chosen: Sequence[str]) -> None:
    """Refuse an initial set of which nothing could be learned, or a validation split that could judge nothing.

    Args:
        pool: The data set, and who labels.
        chosen: Ids of the units that are to be labelled first.

    Raises:
        DataError: If it is refused.
    """
    source, noun = pool.source, pool.source.target
    undrawn = 0 if pool.oracle.knows_truth else len(pool.kept_for_validation()) - len(pool.judged())
    if undrawn:
        _NOTES.info(f"{undrawn} images held out for validation have no {noun} yet: they are left out")
    if isinstance(pool.annotations, Corrupted):
        # one after the other, so that an image is read for both
        pairs = zip(pool.read_labels(chosen, source), pool.read_labels(chosen), strict=True)
        check_left(
            ((truth, wrong) for (_, truth), (_, wrong) in pairs),
            source.class_names,
            pool.annotations.corruption,
            pool.allow_missing_classes,
        )
    if noun == "label":
        classes = [pool.read_class(pool.image_of(u)) for u in chosen]
        rule = pool.annotations.corruption if isinstance(pool.annotations, Corrupted) else None
        merged = rule is not None and rule.merges_classes
        try:
            check_classes(classes, source.class_names, pool.allow_missing_classes or merged)
        except DataError as error:
            if pool.oracle.knows_truth:
                raise
            more = f"the verb start lists more to label, with --count {2 * len(chosen)}"
            raise DataError(f"{error}; {more}") from error
        return
    images, held_out = pool.units.images_of(chosen), pool.images("val")
    first = pool.annotations.annotation_path(images[0]) or images[0]
    labels, named = (label for _, label in pool.read_labels(chosen)), pool.source.mask_values is not None
    check_content(labels, len(images), first, "initial set", named)
    first = pool.judge.annotation_path(held_out[0]) or held_out[0]
    masks = map(pool.judge.read_annotation, held_out)
    check_content(masks, len(held_out), first, "validation split", named)
    # an image that cannot be read is found before the fit begins
    for image_id in images:
        source.read_image(image_id)


def _names(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (f", ... ({len(ids)} in all)" if len(ids) > 3 else "")
