"""Procedural cells and ten annotators of known habits: a data set whose difficulty is known, without files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.special import expit, ndtr

from acquisition.seeding import derive_seed
from datamodules.files import DataError
from datamodules.sources.several_annotators import SeveralAnnotators

__all__ = [
    "HABITS",
    "Cell",
    "Habit",
    "SyntheticAnnotators",
    "draw_cells",
    "draw_mask",
    "expected_variance",
    "marking_probability",
]


@dataclass(frozen=True, slots=True)
class Habit:
    """How a person draws. Lengths are in pixels.

    Args:
        outward: Places the boundary so far outside the true one, and as much again per pixel of the edge's softness.
        shift: (down, right) of everything.
        guess: Standard deviation of the boundary's place per pixel of softness.
        smallest: Radius of cells that are missed half the time; smaller ones are missed more often.
        faintest: Contrast of cells that are missed half the time; fainter ones are missed more often.
    """

    outward: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    guess: float = 0.15
    smallest: float = 0.0
    faintest: float = 0.0


HABITS: Mapping[str, Habit] = MappingProxyType(
    {
        "careful": Habit(guess=0.05),
        "dilates": Habit(outward=0.6),
        "dilates_much": Habit(outward=1.0),
        "erodes": Habit(outward=-0.5),
        "erodes_misses": Habit(outward=-0.4, smallest=3.0),
        "misses_small": Habit(smallest=4.5),
        "misses_faint": Habit(faintest=0.35),
        "shifts_down": Habit(shift=(1.5, 0.0)),
        "shifts_left": Habit(shift=(0.0, -1.5)),
        "guesses": Habit(guess=1.0),
    }
)
"""The ten annotators."""

_STEADY = 0.3  # pixels: how exactly anybody places a sharp boundary


@dataclass(frozen=True, slots=True)
class Cell:
    """A star-shaped cell: its radius at an angle is radius * (1 + sum of (amplitude, phase) waves of order 2, 3, ...).

    Args:
        row: Of its centre, like column.
        column: In pixels.
        radius: In pixels.
        waves: Amplitude, as a share of the radius, and phase of each wave.
        contrast: Brightness above the background, 0 to 1.
        softness: Pixels over which the edge fades.
    """

    row: float
    column: float
    radius: float
    waves: tuple[tuple[float, float], ...]
    contrast: float
    softness: float

    def depth(self, height: int, width: int, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
        """How far inside the boundary each pixel is, along the ray from the centre; negative outside. H x W."""
        rows, columns = np.mgrid[:height, :width]
        down, right = rows - self.row - shift[0], columns - self.column - shift[1]
        angle = np.arctan2(down, right)
        bulge = sum(a * np.cos(k * angle + phase) for k, (a, phase) in enumerate(self.waves, start=2))
        return self.radius * (1 + bulge) - np.hypot(down, right)

    def seen(self, habit: Habit) -> float:
        """Probability that somebody draws this cell at all."""
        large = expit((self.radius - habit.smallest) / 0.6) if habit.smallest else 1.0
        clear = expit((self.contrast - habit.faintest) / 0.05) if habit.faintest else 1.0
        return float(large * clear)

    def boundary(self, habit: Habit) -> tuple[float, float]:
        """Mean and standard deviation of how far outside the true boundary somebody places it."""
        return habit.outward * (1 + self.softness), _STEADY + habit.guess * self.softness


def draw_cells(seed: int, height: int, width: int) -> tuple[np.ndarray, tuple[Cell, ...]]:
    """One image, H x W x 3 uint8, and its cells, the same for the same arguments everywhere.

    One or two large cells and none to six small ones on a textured ground. How soft edges are and how faint small cells
    are differs between images: both can be seen, and both decide how far people disagree.
    """
    rng = np.random.default_rng(seed)
    scale = min(height, width) / 64
    vague = rng.uniform(0, 1)
    sizes = [*rng.uniform(9, 15, size=rng.integers(1, 3)), *rng.uniform(2.5, 5.5, size=rng.integers(0, 7))]
    cells = tuple(_draw_cell(rng, height, width, radius * scale, vague) for radius in sizes)
    light = np.max([c.contrast * expit(c.depth(height, width) / (0.4 * c.softness)) for c in cells], axis=0)
    coarse = rng.normal(0, 1, size=(height // 8 + 1, width // 8 + 1))
    texture = np.kron(coarse, np.ones((8, 8)))[:height, :width]
    grey = 60 + 130 * light + 3 * texture + rng.normal(0, 6, size=(height, width))
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), cells


def draw_mask(cells: Sequence[Cell], habit: Habit, seed: int, height: int, width: int) -> np.ndarray:
    """One drawing by one person, H x W uint8: 1 inside the cells that this person sees, where they see them."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=np.uint8)
    for cell in cells:
        outward, spread = cell.boundary(habit)
        place = rng.normal(outward, spread)
        if rng.random() < cell.seen(habit):
            mask[cell.depth(height, width, habit.shift) > -place] = 1
    return mask


def marking_probability(cells: Sequence[Cell], habit: Habit, height: int, width: int) -> np.ndarray:
    """Probability over a person's drawings (`draw_mask`) that a pixel is marked, H x W, exactly."""
    unmarked = np.ones((height, width))
    for cell in cells:
        outward, spread = cell.boundary(habit)
        unmarked *= 1 - cell.seen(habit) * ndtr((cell.depth(height, width, habit.shift) + outward) / spread)
    return 1 - unmarked


def expected_variance(probabilities: np.ndarray) -> np.ndarray:
    """Expectation of V(x, y), Wilhelmsson, eq. 2.1, over independent drawings by N annotators: N x H x W to H x W.

    With p_n the probability that annotator n marks the pixel:
    E[V] = mean(p_n) - sum over n != m of p_n p_m / (N (N - 1)).
    """
    count = len(probabilities)
    if count < 2:
        raise ValueError(f"expected the probabilities of at least two annotators, got {count}; variance needs two")
    pairs = np.square(probabilities.sum(axis=0)) - np.square(probabilities).sum(axis=0)
    return np.maximum(probabilities.mean(axis=0) - pairs / (count * (count - 1)), 0)


class SyntheticAnnotators(SeveralAnnotators):
    """Images by `draw_cells`, drawn by people with the habits of `HABITS`; classes background, cell.

    Args:
        num_images: How many images are drawn.
        size: (height, width) of an image.
        scene_seed: Which images and drawings; the run's own seed does not change them.
        annotators: Names among `HABITS`, all ten unless given.
        repeats: Everybody draws everything a second time.

    Raises:
        ValueError: If there are fewer than two annotators, or one is unknown.
    """

    def __init__(
        self,
        num_images: int = 200,
        size: Sequence[int] = (64, 64),
        scene_seed: int = 0,
        annotators: Sequence[str] | None = None,
        repeats: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        names = sorted(HABITS if annotators is None else set(annotators))
        unknown = [n for n in names if n not in HABITS]
        if unknown or len(names) < 2:
            raise ValueError(f"expected at least two of the annotators {', '.join(HABITS)}, got {unknown or names}")
        self._names = names
        self.scene_size = int(size[0]), int(size[1])
        self.scene_seed = scene_seed
        self.draw_twice = repeats
        self._images = dict.fromkeys(f"cells_{i:06d}" for i in range(num_images))

    @property
    def class_names(self) -> Sequence[str]:
        return ("background", "cell")

    @property
    def annotators(self) -> list[str]:
        return list(self._names)

    def all_images(self) -> list[str]:
        return list(self._images)

    def annotators_of(self, image_id: str) -> list[str]:
        self._seed(image_id)
        return self.annotators

    def read_image(self, image_id: str) -> np.ndarray:
        return _cells(self._seed(image_id), *self.scene_size)[0].copy()

    def read_drawing(self, image_id: str, annotator: str) -> np.ndarray:
        return _drawing(self._seed(image_id), annotator, "first", *self.scene_size).copy()

    def repeats(self, image_id: str) -> dict[str, np.ndarray]:
        names = self.annotators if self.draw_twice else []
        return {n: _drawing(self._seed(image_id), n, "second", *self.scene_size).copy() for n in names}

    def size(self, image_id: str) -> tuple[int, int]:
        return self.scene_size

    def true_mask(self, image_id: str) -> np.ndarray:
        """Where the cells are, whoever draws them: H x W uint8."""
        cells = _cells(self._seed(image_id), *self.scene_size)[1]
        return np.any([c.depth(*self.scene_size) > 0 for c in cells], axis=0).astype(np.uint8)

    def true_confusion(self, image_ids: Sequence[str]) -> np.ndarray:
        """What habits do to pixels, over all drawings that might be made: N annotators x true x said; rows sum to 1.

        Args:
            image_ids: The images whose pixels are counted, all alike.
        """
        counts = np.zeros((len(self._names), 2, 2))
        for image_id in image_ids:
            cells, true = _cells(self._seed(image_id), *self.scene_size)[1], self.true_mask(image_id) == 1
            for person, name in enumerate(self._names):
                marked = marking_probability(cells, HABITS[name], *self.scene_size)
                for kind, place in enumerate((~true, true)):
                    found = marked[place].sum()
                    counts[person, kind] += place.sum() - found, found
        shares: np.ndarray = counts / counts.sum(axis=2, keepdims=True)
        return shares

    def true_variance(self, image_id: str) -> np.ndarray:
        """Expected variance map of an image over all drawings that its annotators might make, H x W."""
        cells = _cells(self._seed(image_id), *self.scene_size)[1]
        people = [marking_probability(cells, HABITS[n], *self.scene_size) for n in self.annotators]
        return expected_variance(np.stack(people))

    def true_difficulty(self, image_id: str) -> float:
        """Expected image difficulty, Wilhelmsson, eq. 2.2: the sum of `true_variance`."""
        return float(self.true_variance(image_id).sum())

    def _seed(self, image_id: str) -> int:
        if image_id not in self._images:
            raise DataError(f"expected an id from cells_000000 to cells_{len(self._images) - 1:06d}, got {image_id!r}")
        return derive_seed(self.scene_seed, image_id)


# drawing is slower than reading a file, and every epoch asks again
@lru_cache(maxsize=1024)
def _cells(seed: int, height: int, width: int) -> tuple[np.ndarray, tuple[Cell, ...]]:
    return draw_cells(seed, height, width)


@lru_cache(maxsize=8192)
def _drawing(seed: int, annotator: str, occasion: str, height: int, width: int) -> np.ndarray:
    cells = _cells(seed, height, width)[1]
    return draw_mask(cells, HABITS[annotator], derive_seed(seed, annotator, occasion), height, width)


def _draw_cell(rng: np.random.Generator, height: int, width: int, radius: float, vague: float) -> Cell:
    margin = min(radius, min(height, width) / 3)
    waves = tuple((rng.uniform(0, 0.18) / k, rng.uniform(0, 2 * np.pi)) for k in range(1, 4))
    return Cell(
        row=rng.uniform(margin, height - margin),
        column=rng.uniform(margin, width - margin),
        radius=radius,
        waves=waves,
        contrast=rng.uniform(0.75, 1) - 0.6 * vague * rng.random(),
        # small cells cannot fade over more than themselves
        softness=min(0.3 + 3.5 * vague * rng.uniform(0.5, 1), radius / 2),
    )
