"""How far people may be trusted."""

from collections.abc import Sequence

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.reliability import Reliability, relative_error, reliabilities
from datamodules.sources.several_annotators import SeveralAnnotators
from datamodules.sources.synthetic_annotators import SyntheticAnnotators

V = VOID


class Drawn(SeveralAnnotators):
    """Rows of pixels that people drew."""

    def __init__(self, drawings: dict[str, dict[str, list[int]]]) -> None:
        super().__init__()
        self.masks = drawings

    @property
    def class_names(self) -> Sequence[str]:
        return ("background", "cell", "nucleus")

    @property
    def annotators(self) -> list[str]:
        return sorted({a for drawn in self.masks.values() for a in drawn})

    def all_images(self) -> list[str]:
        return list(self.masks)

    def annotators_of(self, image_id: str) -> list[str]:
        return sorted(self.masks[image_id])

    def read_drawing(self, image_id: str, annotator: str) -> np.ndarray:
        return np.array([self.masks[image_id][annotator]], dtype=np.uint8)

    def read_image(self, image_id: str) -> np.ndarray:
        raise NotImplementedError


def test_by_hand() -> None:
    source = Drawn(
        {
            "one": {"ann": [1, 1, 0, 0], "bo": [1, 1, 0, 0], "cy": [1, 0, 0, V]},
            "two": {"ann": [2, 0, 0, 0], "bo": [2, 0, 0, 0], "cy": [1, 0, 1, 0]},
            "pair": {"ann": [1, 1, 1, 1], "bo": [0, 0, 0, 0]},
        }
    )
    people = reliabilities(source, source.all_images())
    # the others of ann agree where they say the same: 1 and 0, 0, and where one is void the other decides
    assert [(p.annotator, p.images) for p in people] == [("ann", 2), ("bo", 2), ("cy", 2)]
    assert (people[0].sensitivity, people[0].specificity) == (1, 1)
    # of ann's and bo's 3 object pixels cy has one, and of their 4 that cy did not leave void 3 of background
    assert people[2].sensitivity == pytest.approx(1 / 3)
    assert people[2].specificity == pytest.approx(3 / 4)
    assert people[2].balanced == pytest.approx((1 / 3 + 3 / 4) / 2)
    assert reliabilities(source, ["pair"]) == [], "of two who differ nobody knows who is right"


def test_relative_errors() -> None:
    def person(balanced: float) -> Reliability:
        return Reliability("ann", 1, balanced, balanced)

    assert relative_error([person(0.9), person(0.8), person(0.4)]) == pytest.approx(0.1 / 0.4)
    assert relative_error([person(1.0), person(1.0)]) == 1


def test_the_known_habits_are_found() -> None:
    source = SyntheticAnnotators(num_images=20)
    names = [p.annotator for p in reliabilities(source, source.all_images())]
    assert names[0] == "careful"
    assert len(names) == 10


def test_people_held_out_are_not_compared() -> None:
    everybody = SyntheticAnnotators(num_images=5, size=(32, 32))
    some = ["careful", "dilates", "guesses"]
    source = SyntheticAnnotators(num_images=5, size=(32, 32), people=some)
    assert sorted(p.annotator for p in reliabilities(source, source.all_images())) == some
    assert len(reliabilities(everybody, everybody.all_images())) == 10
