"""Objects that are drawn in too few corners, too large or too small."""

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.corruptions import Corruption, known_objects
from datamodules.outlines import outlines

__all__ = ["Coarsen"]


class Coarsen(Corruption):
    """Objects are polygons with few corners, or their boundaries are moved.

    Polygons come first, the smaller ones over the larger; then the boundaries between them are moved. A pixel that no
    object covers keeps its label, and so does void. A connected part that is too small or slim for a polygon stays as
    it is: its outline has fewer than three corners left, or no pixel's centre within them. Nothing is drawn at random.

    Args:
        tolerance: How far a simplified outline may be from the true one, in pixels; None for outlines as they are.
        shift: By how many pixels boundaries are moved, after that: outwards, so that objects grow at the cost of larger
            ones (the background, as a rule), or, below 0, inwards, so that larger ones grow at theirs.

    Raises:
        ValueError: If the tolerance is not above 0, or neither is given.
    """

    def __init__(self, tolerance: float | None = None, shift: float = 0) -> None:
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"Coarsen needs a tolerance above 0 pixels, got {tolerance}")
        if tolerance is None and not (shift and np.isfinite(shift)):
            raise ValueError(f"Coarsen needs a tolerance or a shift other than 0 pixels, got {shift}; give one")
        self.tolerance = tolerance
        self.shift = shift

    def corrupt(self, annotation: np.ndarray, objects: np.ndarray, image_id: str, num_classes: int) -> np.ndarray:
        if not annotation.ndim:
            return annotation
        void = np.isin(annotation, (VOID, UNANSWERED))
        objects = known_objects(annotation, objects)
        numbers, first = np.unique(objects, return_index=True)
        labels = dict(zip(numbers.tolist(), annotation.reshape(-1)[first].tolist(), strict=True))
        if self.tolerance is not None:
            objects = np.where(void, -1, _drawn(objects, self.tolerance))
        moved = [(_grown(objects == n, abs(self.shift)), label) for n, label in labels.items() if n >= 0]
        changed = annotation.copy()
        for inside, label in sorted(moved, key=lambda one: -one[0].sum(), reverse=self.shift < 0):
            changed[inside] = label
        return np.where(void, annotation, changed)


def _drawn(objects: np.ndarray, tolerance: float) -> np.ndarray:
    """Which object each pixel belongs to when each connected part is a polygon, which hides its holes."""
    from scipy.ndimage import find_objects
    from skimage.measure import label

    parts = label(objects + 1, background=0, connectivity=2)
    shapes = []
    for k, box in enumerate(find_objects(parts), start=1):
        part = parts[box] == k
        shapes.append((_shape(part, tolerance), box, objects[box][part][0]))
    drawn = objects.copy()
    for shape, box, number in sorted(shapes, key=lambda one: -one[0].sum()):
        drawn[box][shape] = number
    return drawn


def _shape(part: np.ndarray, tolerance: float) -> np.ndarray:
    """A connected part, cut out along its bounding box, as a polygon; as it is if that cannot be drawn."""
    from skimage.draw import polygon2mask
    from skimage.measure import approximate_polygon

    shape = np.zeros_like(part)
    for points in outlines(part, through_corners=True):
        corners = approximate_polygon(np.concatenate([points, points[:1]]), tolerance)
        if len(corners) > 3:
            # corners of pixels, of which the centres are half a pixel inwards
            shape |= polygon2mask(part.shape, corners[:, ::-1] - 0.5)
    return shape if shape.any() else part


def _grown(inside: np.ndarray, distance: float) -> np.ndarray:
    """All pixels that are so far from an object's at most."""
    from scipy.ndimage import distance_transform_edt

    if not distance or not inside.any():
        return inside
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    room = int(np.ceil(distance))
    # far from it nothing changes
    box = tuple(slice(max(0, x[0] - room), x[-1] + room + 1) for x in (rows, columns))
    grown = inside.copy()
    grown[box] = distance_transform_edt(~inside[box]) <= distance
    return grown
