"""Which units and images people should draw before the first fit, and the table that hands them out."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from acquisition.greedy import k_center
from callbacks.choice import platform_columns
from callbacks.handout import hand_out
from datamodules.beginning import at_random, listed
from datamodules.initial import FromFile, FromRun, PerClass
from datamodules.partitions import Region
from datamodules.pool import Pool
from records.files import write_table
from records.run_directory import RunDirectory

__all__ = ["Choice", "Describe", "Spread", "choose", "default_count", "default_val_count", "write_list"]

Spread = Literal["content", "random"]

Describe = Callable[[Sequence[str], bool], np.ndarray]
"""Ids of units of the train split (True: of whole images of the validation split) to their features, N x D."""

_SHARE = 4
_FEWEST = 5


@dataclass
class Choice:
    """What is to be drawn, first choice first.

    Args:
        train: Ids of units of the train split.
        val: Ids of images that are held out for validation.
        answered: Ids of the units of the train split that have a label already.
        judged: Ids of the held-out images that have one.
        by_features: Whether features were looked at.
        candidates: Among how many images the units for training were chosen, where those were not all.
    """

    train: list[str]
    val: list[str]
    answered: list[str] = field(default_factory=list)
    judged: list[str] = field(default_factory=list)
    by_features: bool = False
    candidates: int | None = None


def default_count(pool: Pool, budget: int) -> int:
    """With how many labelled units a run should begin: as many as `data.initial` wants, or else a cycle's budget.

    Args:
        pool: Whose initial set it is.
        budget: Units per cycle.
    """
    size = getattr(pool.initial, "size", None)
    if size is None:
        return budget
    return int(size) * (pool.num_classes if isinstance(pool.initial, PerClass) else 1)


def default_val_count(images: int) -> int:
    """How many images to validate on: one for every four that are trained on, and five at least.

    Args:
        images: How many images are trained on.
    """
    return max(_FEWEST, -(-images // _SHARE))


def choose(
    pool: Pool, count: int, val_count: int | None, spread: Spread, candidates: int, describe: Describe
) -> Choice:
    """Choose what people should draw, so that with what is drawn already there is as much as asked for.

    What an earlier list names by the same spread stays on the list, so that nobody who has begun to draw is sent
    elsewhere. By content, the unit farthest from all that is labelled or listed comes next (see `k_center`).

    Args:
        pool: The data set, and who labels.
        count: Units to train on in all.
        val_count: Images to validate on in all; `default_val_count` unless given.
        spread: By content, or at random.
        candidates: The most images of the train split that are looked at, drawn at random.
        describe: For features.
    """
    answered, judged = pool.answered(), pool.judged()
    there = listed(RunDirectory(pool.run_dir))
    kept = {split: [i for i, by in rows.items() if by == spread] for split, rows in there.items()}
    choice = Choice([], [], answered, judged)
    if isinstance(pool.initial, (FromFile, FromRun)):
        done = set(answered)
        named = pool.initial.choose(pool.units.ids, pool, pool.num_classes, pool.seed)
        choice.train = [u for u in named if u not in done]
    else:
        images = at_random(pool.units.images("train"), pool.seed)
        if len(images) > candidates:
            images, choice.candidates = images[:candidates], candidates
        units = at_random([u for i in images for u in pool.units.of_image[i]], pool.seed)
        choice.train, looked = _more(
            units, answered, _known(kept.get("train", []), pool.units.location), count, spread,
            lambda ids: describe(ids, False),
        )  # fmt: skip
        choice.by_features |= looked
    images_trained = len(pool.units.images_of([*answered, *choice.train]))
    wanted = default_val_count(images_trained) if val_count is None else val_count
    held_out = at_random(pool.kept_for_validation(), pool.seed)
    choice.val, looked = _more(
        held_out, judged, _known(kept.get("val", []), set(held_out)), wanted, spread, lambda ids: describe(ids, True)
    )
    choice.by_features |= looked
    return choice


def _known(ids: Sequence[str], known: Collection[str]) -> list[str]:
    return [i for i in ids if i in known]


def _more(
    among: Sequence[str],
    done: Sequence[str],
    kept: Sequence[str],
    count: int,
    spread: Spread,
    describe: Callable[[Sequence[str]], np.ndarray],
) -> tuple[list[str], bool]:
    """What is left to draw, and whether features were looked at."""
    taken = set(done)
    kept = [i for i in kept if i not in taken][: max(0, count - len(done))]
    taken.update(kept)
    rest = [i for i in among if i not in taken]
    new = max(0, min(count - len(done) - len(kept), len(rest)))
    if spread == "random" or not new or new == len(rest):
        return [*kept, *rest[:new]], False
    centres = [*done, *kept]
    features = describe([*rest, *centres])
    rows = k_center(features[: len(rest)], features[len(rest) :], new)
    return [*kept, *(rest[row] for row in rows)], True


def write_list(pool: Pool, choice: Choice, spread: Spread) -> RunDirectory:
    """Write the list to draw as annotation platforms read it, and where parts of images are drawn what shows them.

    Args:
        pool: Whose units they are.
        choice: The list.
        spread: How it was chosen.

    Returns:
        Where it lies.
    """
    run = RunDirectory(pool.run_dir)
    hand_out(pool, run.start_parts, choice.train)
    regions = pool.units.regions_of(choice.train)
    whole = [Region(i, h * w, (0, 0, h, w)) for i in choice.val for h, w in [pool.source.size(i)]]
    parts = []
    for split, ids, images, where in (
        ("train", choice.train, [pool.image_of(u) for u in choice.train], regions),
        ("val", choice.val, choice.val, whole),
    ):
        columns = platform_columns(pool.source, ids, images, where, np.arange(1, len(ids) + 1))
        parts.append(pd.DataFrame(columns).assign(split=split, spread=spread))
    write_table(run.start_list, pd.concat(parts, ignore_index=True))
    return run
