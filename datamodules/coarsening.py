"""Objects that are drawn in too few corners, too large or too small."""

import numpy as np

from acquisition.annotation import UNANSWERED, VOID
from datamodules.corruptions import Corruption, known_objects
from datamodules.outlines import outlines

__all__ = ["Coarsen"]


class Coarsen(Corruption):
    """Objects are polygons with few corners, or their boundaries are moved.

    Where two claim a pixel, the smaller one has it, or the larger where boundaries move inwards. A pixel that
    no object covers keeps its label, and so does void. Nothing is drawn at random.

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
        objects, drawn = known_objects(annotation, objects), list[tuple[np.ndarray, int]]()
        for number in np.unique(objects[objects >= 0]).tolist():
            pixels = objects == number
            label = int(annotation[pixels][0])
            drawn += [(_grown(shape, abs(self.shift)), label) for shape in self._shapes(pixels)]
        changed, void = annotation.copy(), np.isin(annotation, (VOID, UNANSWERED))
        for inside, label in sorted(drawn, key=lambda one: -one[0].sum(), reverse=self.shift < 0):
            changed[inside] = label
        return np.where(void, annotation, changed)

    def _shapes(self, pixels: np.ndarray) -> list[np.ndarray]:
        """An object's connected parts as they are drawn, H x W each."""
        from skimage.draw import polygon2mask
        from skimage.measure import approximate_polygon

        if self.tolerance is None:
            return [pixels]
        shapes = []
        for points in outlines(pixels, through_corners=True):
            corners = approximate_polygon(np.concatenate([points, points[:1]]), self.tolerance)
            # corners of pixels, of which the centres are half a pixel inwards
            shapes.append(polygon2mask(pixels.shape, corners[:, ::-1] - 0.5) if len(corners) > 3 else pixels)
        return shapes


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
