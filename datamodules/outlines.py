"""Outlines of regions, and the clicks that drawing them takes."""

from collections.abc import Iterable

import numpy as np

__all__ = ["count_clicks", "outlines", "parts_of"]


def outlines(region: np.ndarray, through_corners: bool = False) -> list[np.ndarray]:
    """Polygons along the edges of a region's pixels, one for each connected part of it; holes are not cut out.

    Args:
        region: H x W, bool.
        through_corners: Whether pixels that touch in a corner alone are one part.

    Returns:
        Corners (x, y) in pixels, V x 2, whole numbers, none twice in a row; (0, 0) is the upper left corner of the
        upper left pixel.
    """
    from skimage.measure import find_contours  # it takes long to import, and few runs need it

    connected = "high" if through_corners else "low"
    # a border, so that the line is closed where the region meets the picture's edge; each pixel as 2 x 2, so that every
    # point of the line is nearer to one corner of a pixel than to any other
    double = np.pad(region, 1).repeat(2, axis=0).repeat(2, axis=1)
    lines = [
        np.rint((line[:-1] - 1.5) / 2).astype(int) for line in find_contours(double.astype(np.float32), 0.5, connected)
    ]
    # holes run the other way round
    return [_corners(line)[:, ::-1] for line in lines if _area(line) < 0]


def _area(line: np.ndarray) -> int:
    """Twice the signed area within a line of (row, column) that goes back to its beginning."""
    (y, x), (next_y, next_x) = line.T, np.roll(line, -1, axis=0).T
    return int((y * next_x - next_y * x).sum())


def _corners(line: np.ndarray) -> np.ndarray:
    """The points at which a closed line turns."""
    line = line[(line != np.roll(line, 1, axis=0)).any(axis=1)]
    turns = (np.sign(line - np.roll(line, 1, axis=0)) != np.sign(np.roll(line, -1, axis=0) - line)).any(axis=1)
    return line[turns]


def count_clicks(regions: Iterable[np.ndarray], tolerance: float) -> int:
    """Clicks with which somebody draws some regions, one for each corner of their simplified outlines.

    Simplified by Ramer 1972 and Douglas & Peucker 1973. A single pixel is one click. Holes are not counted, for what
    lies in a hole has an outline of its own.

    Args:
        regions: Each H x W, bool.
        tolerance: How far the simplified outline may be from the true one, in pixels.

    Example:
        >>> square = np.ones((10, 10), dtype=bool)
        >>> count_clicks([square, square[:1, :1]], tolerance=1.0)
        5
    """
    from skimage.measure import approximate_polygon

    clicks = 0
    for region in regions:
        if region.sum() == 1:
            clicks += 1
            continue
        for points in outlines(region, through_corners=True):
            # it keeps the first point and the last: the corner that is farthest from the first one is kept as well
            far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
            halves = points[: far + 1], np.concatenate([points[far:], points[:1]])
            clicks += sum(len(approximate_polygon(half, tolerance)) - 1 for half in halves)
    return clicks


def parts_of(mask: np.ndarray, leave_out: Iterable[int]) -> list[np.ndarray]:
    """The connected parts of each class of a mask, each cut out along its bounding box.

    Args:
        mask: H x W, class indices.
        leave_out: Values that are no class.

    Returns:
        For each part its pixels, bool.
    """
    from scipy.ndimage import find_objects
    from skimage.measure import label

    classes = np.where(np.isin(mask, list(leave_out)), 0, mask.astype(np.int32) + 1)
    labels = label(classes, background=0, connectivity=2)
    return [labels[box] == number for number, box in enumerate(find_objects(labels), start=1) if box is not None]
