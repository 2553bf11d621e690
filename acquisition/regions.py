"""The units of a batch of images, and sums over their pixels.

A unit is a region of an image: an index map says of every pixel which unit it belongs to. A whole image is the region
that has all its pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Regions", "Segments"]

_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Segments:
    """Which unit each of P values belongs to, and what becomes of the values, unit by unit.

    Every unit has a value at least. Memory and time grow with P, not with P x U; all is made on the values' device.

    Args:
        units: P int64, each from 0 to U - 1; None where the values fall into U equal parts, one unit after another.
        count: U, the number of units.
        positions: Which of a batch's values are meant (see `pick`); None for all of them in their order.

    Example:
        >>> segments = Segments(torch.tensor([0, 0, 1]), 2)
        >>> values_P = torch.tensor([0.25, 0.75, 1.0])
        >>> segments.sum(values_P), segments.mean(values_P)
        (tensor([1., 1.], dtype=torch.float64), tensor([0.5000, 1.0000], dtype=torch.float64))
        >>> segments.max(values_P)
        tensor([0.7500, 1.0000])
    """

    units: Tensor | None
    count: int
    positions: Tensor | None = None

    def pick(self, values: Tensor) -> Tensor:
        """The values of pixels that belong to units.

        Args:
            values: N x H x W, or N for N images that have one value each, as the segments were made for.

        Returns:
            P values, in the order of `units`.
        """
        flat = values.reshape(-1)
        return flat if self.positions is None else flat[self.positions]

    def sum(self, values_P: Tensor) -> Tensor:
        """Each unit's sum.

        Args:
            values_P: P values; booleans count as 0 and 1.

        Returns:
            U, in float64: a sum over a million pixels must not lose the last one.
        """
        if self.units is None:
            return values_P.reshape(self.count, -1).double().sum(dim=1)
        # not bincount, which has no deterministic form on CUDA
        totals = torch.zeros(self.count, dtype=torch.float64, device=values_P.device)
        return totals.index_add_(0, self.units, values_P.double())

    def mean(self, values_P: Tensor) -> Tensor:
        """Each unit's mean.

        Args:
            values_P: P values; booleans count as 0 and 1.

        Returns:
            U, in float64.
        """
        if self.units is None:
            return values_P.reshape(self.count, -1).double().mean(dim=1)
        return self.sum(values_P) / self._sizes

    def max(self, values_P: Tensor) -> Tensor:
        """Each unit's largest value; of the negated values, its smallest one with the other sign.

        Args:
            values_P: P values.

        Returns:
            U, of the values' type.
        """
        if self.units is None:
            return values_P.reshape(self.count, -1).amax(dim=1)
        lowest = values_P.new_full((self.count,), -torch.inf)
        return lowest.scatter_reduce(0, self.units, values_P, "amax")

    def counts(self, classes_P: Tensor, num_classes: int) -> Tensor:
        """How many of each unit's values are of each class.

        Args:
            classes_P: P int64, each from 0 to num_classes - 1.
            num_classes: C.

        Returns:
            U x C, in int64.
        """
        units = self.units
        if units is None:
            units = torch.arange(self.count, device=classes_P.device)
            units = units.repeat_interleave(classes_P.numel() // max(self.count, 1))
        cells = torch.bincount(units * num_classes + classes_P, minlength=self.count * num_classes)
        return cells.view(self.count, num_classes)

    def mean_rows(self, maps: Tensor) -> Tensor:
        """Each unit's mean of D numbers per pixel.

        Args:
            maps: N x D x H x W, as the segments were made for.

        Returns:
            U x D, in float32.
        """
        if self.units is None:
            return maps.float().flatten(start_dim=2).mean(dim=2)
        rows = maps.movedim(1, -1).flatten(end_dim=-2)
        totals = torch.zeros(self.count, rows.shape[1], dtype=torch.float64, device=rows.device)
        # some at a time: the whole map in float64 would be twice as large
        for start in range(0, len(self.units), _ROWS):
            part = slice(start, start + _ROWS)
            picked = rows[part] if self.positions is None else rows[self.positions[part]]
            totals.index_add_(0, self.units[part], picked.double())
        return (totals / self._sizes[:, None]).float()

    @cached_property
    def _sizes(self) -> Tensor:
        """How many values each unit has, where the parts are not equal: U, in float64."""
        assert self.units is not None
        return torch.bincount(self.units, minlength=self.count).double()


@dataclass(frozen=True, eq=False)
class Regions:
    """The units of a batch of N images.

    Args:
        image_ids: N ids.
        unit_ids: Of the U units that are asked for, in the order of the scores.
        index: N x H x W, or N x 1 x 1 where every image is one unit; int64: for each pixel the position of its unit in
            `unit_ids`, or -1 where none is asked for.
        places: U x 3, in float64: the number of the unit's image in the batch, and its centre as shares (y, x) of
            height and width, in [0, 1). A unit that a resize or an output stride has left without a pixel is scored
            at the pixel there.

    Raises:
        ValueError: If these do not have the same numbers of images and units.

    Example:
        >>> left_and_right = Regions(["image"], ["left", "right"], torch.tensor([[[0, 0, 1, -1]]]),
        ...                          torch.tensor([[0, 0.5, 0.25], [0, 0.5, 0.6]]).double())
        >>> segments = left_and_right.segments((1, 4))
        >>> segments.mean(segments.pick(torch.tensor([[[0.0, 0.5, 0.75, 9.0]]])))
        tensor([0.2500, 0.7500], dtype=torch.float64)
        >>> Regions.whole(["a", "b"]).unit_ids
        ['a', 'b']
    """

    image_ids: Sequence[str]
    unit_ids: Sequence[str]
    index: Tensor
    places: Tensor
    _made: dict[tuple[object, ...], Segments] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        images, units = len(self.image_ids), len(self.unit_ids)
        if self.index.ndim != 3 or len(self.index) != images or self.places.shape != (units, 3):
            raise ValueError(
                f"regions of {images} images and {units} units need an index of {images} x H x W and places of "
                f"{units} x 3, got {tuple(self.index.shape)} and {tuple(self.places.shape)}"
            )

    @classmethod
    def whole(cls, image_ids: Sequence[str]) -> "Regions":
        """Regions with each image as one unit, whose id is the image's.

        Args:
            image_ids: N ids.
        """
        numbers = torch.arange(len(image_ids))
        centre = torch.full((len(image_ids),), 0.5, dtype=torch.float64)
        places = torch.stack([numbers.double(), centre, centre], dim=1)
        return cls(list(image_ids), list(image_ids), numbers.view(-1, 1, 1), places)

    @property
    def swallowed(self) -> list[str]:
        """Ids of the units that a resize has left without a pixel of the index."""
        held = torch.zeros(len(self.unit_ids) + 1, dtype=torch.bool)  # the last: -1, pixels of no unit
        held[self.index.flatten().cpu()] = True
        return [self.unit_ids[k] for k in torch.nonzero(~held[:-1]).flatten().tolist()]

    def segments(self, size: tuple[int, int] = (1, 1), device: torch.device | None = None) -> Segments:
        """The units of values of some size, whatever the size of the index, which is read at the nearest pixel.

        Made once for every size.

        Args:
            size: Height and width of the values; 1 x 1 where each image has one.
            device: Where the values are.

        Returns:
            Segments in which a unit without a pixel has the value at its place.
        """
        key = (*size, device)
        if key not in self._made:
            self._made[key] = self._segments(*size, device or self.index.device)
        return self._made[key]

    def of(self, values: Tensor) -> Segments:
        """The units of a batch's values.

        Args:
            values: N, or N x H x W.

        Raises:
            ValueError: If these are values of other images.
        """
        if values.ndim not in (1, 3) or len(values) != len(self.image_ids):
            raise ValueError(
                f"values of {len(self.image_ids)} images are expected as N x H x W or N, got {tuple(values.shape)}"
            )
        return self.segments((values.shape[1], values.shape[2]) if values.ndim == 3 else (1, 1), values.device)

    def _segments(self, height: int, width: int, device: torch.device) -> Segments:
        count, images = len(self.unit_ids), len(self.image_ids)
        index = self.index.to(device)
        if index.shape[1:] == (1, 1) and count == images and torch.equal(index.flatten().cpu(), torch.arange(count)):
            return Segments(None, count)
        units = _nearest(index, height, width).reshape(-1)
        positions = None
        if units.numel() and int(units.min()) < 0:
            positions = torch.nonzero(units >= 0).squeeze(1)
            units = units[positions]
        lost = torch.nonzero(torch.bincount(units, minlength=count) == 0).squeeze(1)
        if lost.numel():
            if positions is None:
                positions = torch.arange(images * height * width, device=device)
            number, y, x = self.places.to(device)[lost].unbind(dim=1)
            row, column = ((share * n).long().clamp(0, n - 1) for share, n in ((y, height), (x, width)))
            units = torch.cat([units, lost])
            positions = torch.cat([positions, (number.long() * height + row) * width + column])
        return Segments(units, count, positions)


def _nearest(index: Tensor, height: int, width: int) -> Tensor:
    """The index at the pixels' centres, N x height x width."""
    if index.shape[1:] == (height, width):
        return index
    rows, columns = (
        (2 * torch.arange(n, device=index.device) + 1) * old // (2 * n)
        for n, old in ((height, index.shape[1]), (width, index.shape[2]))
    )
    return index[:, rows[:, None], columns]
