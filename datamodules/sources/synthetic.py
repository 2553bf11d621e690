"""Procedural road scenes: a data set that needs no files."""

from collections.abc import Sequence

import numpy as np
from skimage.draw import disk, ellipse, polygon

from acquisition.annotation import VOID
from acquisition.seeding import derive_seed
from datamodules.files import DataError
from datamodules.sources.source import Source

__all__ = ["SyntheticRoads", "draw_scene"]

_CLASSES = ("road", "car", "sky", "vegetation", "clutter")
_ROAD, _CAR, _SKY, _VEGETATION, _CLUTTER = range(len(_CLASSES))
_COLOURS = np.array([[105, 102, 108], [150, 40, 45], [140, 180, 225], [60, 115, 55], [160, 135, 100]], dtype=np.float64)


def draw_scene(seed: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One scene: image, H x W x 3 uint8, and mask, H x W uint8, the same for the same arguments everywhere.

    Sky above a horizon, vegetation below it, a road that narrows towards a vanishing point, cars on the road,
    trees and boxes of clutter beside it. Scenes differ in light, haze, noise and in how much they hold; one in six
    is by night. A rim one pixel wide between some objects is void, as annotators leave it.
    """
    rng = np.random.default_rng(seed)
    mask = np.full((height, width), _VEGETATION, dtype=np.uint8)
    horizon = int(height * rng.uniform(0.25, 0.5))
    mask[:horizon] = _SKY
    vanish = width * rng.uniform(0.25, 0.75)
    left, right = width * rng.uniform(-0.4, 0.25), width * rng.uniform(0.75, 1.4)
    half = width * rng.uniform(0.01, 0.05)
    _fill(mask, _ROAD, *polygon([height, horizon, horizon, height], [left, vanish - half, vanish + half, right]))
    for _ in range(rng.integers(1, 7)):
        _draw_tree_or_box(mask, rng, horizon)
    # far cars first, so that near ones cover them
    for depth in np.sort(rng.uniform(0.15, 1.0, size=rng.integers(0, 5))):
        y = horizon + depth * (height - horizon)
        lane = rng.uniform(0.2, 0.8)
        road_left, road_right = vanish - half + depth * (left - vanish), vanish + half + depth * (right - vanish)
        x, size = road_left + lane * (road_right - road_left), max(2.0, 0.16 * width * depth)
        _fill(mask, _CAR, *polygon([y, y - 0.5 * size, y - 0.5 * size, y], [x - size / 2] * 2 + [x + size / 2] * 2))
        _fill(mask, _CAR, *ellipse(y - 0.5 * size, x, 0.35 * size, 0.35 * size))
    return _paint(mask, rng, horizon), _with_void_rims(mask, rng)


class SyntheticRoads(Source):
    """Scenes by `draw_scene`; classes road, car, sky, vegetation, clutter.

    Args:
        num_train: Scenes of the train split.
        num_val: Scenes of the validation split.
        num_test: Scenes of the test split.
        size: (height, width) of a scene.
        scene_seed: Which scenes; the run's own seed does not change them.
        repeated: Share of the train split that is one and the same scene under many names (the repeated-image test of
            Chen 2020, section 3.3.2).

    Raises:
        DataError: If the share or the size is none.
    """

    def __init__(
        self,
        num_train: int = 200,
        num_val: int = 40,
        num_test: int = 40,
        size: Sequence[int] = (64, 96),
        scene_seed: int = 0,
        repeated: float = 0.0,
    ) -> None:
        if not 0 <= repeated <= 1:
            raise DataError(f"data.source.repeated is a share: expected 0 to 1, got {repeated}")
        if len(size) != 2 or min(size) < 1:
            raise DataError(f"data.source.size must be (height, width), each at least 1 pixel, got {list(size)}")
        self.counts = {"train": num_train, "val": num_val, "test": num_test}
        self.scene_size = int(size[0]), int(size[1])
        self.scene_seed = scene_seed
        self.repeated = repeated

    @property
    def class_names(self) -> Sequence[str]:
        return _CLASSES

    def images(self, split: str) -> Sequence[str]:
        total = self.counts[split]
        copies = round(total * self.repeated) if split == "train" else 0
        return [f"{split}_{i:06d}" for i in range(total - copies)] + [f"repeated_{i:06d}" for i in range(copies)]

    def read_image(self, image_id: str) -> np.ndarray:
        return self._scene(image_id)[0]

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        return self._scene(image_id)[1]

    def size(self, image_id: str) -> tuple[int, int]:
        return self.scene_size

    def _scene(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        name = "repeated" if image_id.startswith("repeated_") else image_id
        return draw_scene(derive_seed(self.scene_seed, name), *self.scene_size)


def _fill(mask: np.ndarray, value: int, rows: np.ndarray, columns: np.ndarray) -> None:
    inside = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    mask[rows[inside], columns[inside]] = value


def _draw_tree_or_box(mask: np.ndarray, rng: np.random.Generator, horizon: int) -> None:
    height, width = mask.shape
    x, y = rng.uniform(0, width), rng.uniform(horizon, height * 0.8)
    size = rng.uniform(0.04, 0.14) * width
    if rng.random() < 0.5:
        _fill(mask, _VEGETATION, *disk((y - size, x), size))
    elif abs(x / width - 0.5) > 0.2:
        _fill(mask, _CLUTTER, *polygon([y, y - 2 * size, y - 2 * size, y], [x - size / 2] * 2 + [x + size / 2] * 2))


def _paint(mask: np.ndarray, rng: np.random.Generator, horizon: int) -> np.ndarray:
    colours = _COLOURS + rng.normal(0, 18, size=_COLOURS.shape)
    colours[_CAR] = rng.uniform(20, 230, size=3)
    image = colours[mask]
    haze = np.exp(-np.abs(np.arange(mask.shape[0]) - horizon) / (mask.shape[0] * rng.uniform(0.05, 0.3)))[:, None, None]
    image = image * (1 - 0.6 * haze) + 200 * 0.6 * haze
    # texture that is coarse for vegetation and fine elsewhere, so that colour alone does not decide
    coarse = np.kron(rng.normal(0, 1, size=(mask.shape[0] // 4 + 1, mask.shape[1] // 4 + 1)), np.ones((4, 4)))
    image = image + (22 * coarse[: mask.shape[0], : mask.shape[1]] * (mask == _VEGETATION))[..., None]
    image = image + rng.normal(0, rng.uniform(4, 16), size=image.shape)
    light = rng.uniform(0.25, 0.45) if rng.random() < 1 / 6 else rng.uniform(0.75, 1.15)
    return (image * light).clip(0, 255).astype(np.uint8)


def _with_void_rims(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return mask
    rim = np.zeros(mask.shape, dtype=bool)
    rim[:, 1:] |= (mask[:, 1:] == _CAR) != (mask[:, :-1] == _CAR)
    return np.where(rim, VOID, mask).astype(np.uint8)
