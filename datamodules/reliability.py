"""How far each person may be trusted, where several have drawn the same images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from acquisition.annotation import VOID
from datamodules.sources.several_annotators import SeveralAnnotators
from datamodules.votes import majority

__all__ = ["Reliability", "relative_error", "reliabilities"]


@dataclass(frozen=True, slots=True)
class Reliability:
    """One person beside the majority of the others, over all pixels of all images that they share.

    Args:
        annotator: Who.
        images: How many images were compared.
        sensitivity: Share of the others' object pixels to which the person gives the same class; NaN without any.
        specificity: The same of their background.
    """

    annotator: str
    images: int
    sensitivity: float
    specificity: float

    @property
    def balanced(self) -> float:
        """Mean of sensitivity and specificity: an empty mask has 1/2, however small objects are."""
        return (self.sensitivity + self.specificity) / 2


def reliabilities(source: SeveralAnnotators, image_ids: Sequence[str]) -> list[Reliability]:
    """Compare each person with the majority of the others.

    Pixels where the others tie count for nobody, and so does an image that fewer than three people drew: of two who
    differ nobody knows who is right. What most people do wrong counts as right. Those whom `source.people` leaves out
    are left out here as well.

    Args:
        source: The data set.
        image_ids: Images to compare on.

    Returns:
        People who could be compared, the most reliable first; of equal ones in the order of their names.

    Example:
        >>> from datamodules.sources.synthetic_annotators import SyntheticAnnotators
        >>> source = SyntheticAnnotators(num_images=20)
        >>> people = reliabilities(source, source.all_images())
        >>> people[0].annotator, people[-1].annotator
        ('careful', 'erodes_misses')
    """
    people = source.annotators if source.people is None else source.people
    hits = {name: np.zeros((2, 2)) for name in people}  # of object and background: right, and all
    compared = dict.fromkeys(people, 0)
    for image_id in image_ids:
        drawings = {
            name: source.read_drawing(image_id, name) for name in source.annotators_of(image_id) if name in hits
        }
        if len(drawings) < 3:
            continue
        stacked = np.stack(list(drawings.values()))
        for number, name in enumerate(drawings):
            own, theirs = stacked[number], majority(np.delete(stacked, number, axis=0), source.num_classes)
            counted = (own != VOID) & (theirs != VOID)
            for row, part in enumerate((counted & (theirs > 0), counted & (theirs == 0))):
                hits[name][row] += (own == theirs)[part].sum(), part.sum()
            compared[name] += 1
    with np.errstate(invalid="ignore"):
        found = [Reliability(n, compared[n], *(hits[n][:, 0] / hits[n][:, 1]).tolist()) for n in hits if compared[n]]
    return sorted((p for p in found if np.isfinite(p.balanced)), key=lambda p: (-p.balanced, p.annotator))


def relative_error(people: Sequence[Reliability]) -> float:
    """The error of the most reliable person as a share of the others' mean one.

    Args:
        people: At least two, the most reliable first.

    Returns:
        From 0 to 1; 1 where nobody errs.
    """
    others = float(np.mean([1 - p.balanced for p in people[1:]]))
    return (1 - people[0].balanced) / others if others else 1.0
