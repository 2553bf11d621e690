"""Layers of pictures: sizes, colours, outlines."""

import numpy as np
import pytest

from acquisition.annotation import UNANSWERED, VOID
from callbacks.layers import ClassLayers, image_layer, layer_size, nearest, outline, outline_layer, thumb, value_layer


@pytest.mark.parametrize(("size", "layer"), [((8, 8), (128, 128)), ((64, 96), (64, 96)), ((3000, 1000), (1024, 341))])
def test_layers_are_neither_huge_nor_tiny(size: tuple[int, int], layer: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), dtype=np.uint8)
    assert layer_size(*size) == layer
    assert image_layer(image).size == layer[::-1]
    assert max(thumb(image_layer(image)).size) <= 160


def test_classes_have_colours_and_void_is_transparent() -> None:
    mask = np.array([[0, 1, VOID, UNANSWERED]], dtype=np.uint8)
    layers = ClassLayers(["road", "sky"])
    shown = np.asarray(layers(mask, (1, 4)).convert("RGBA"))[0]
    assert shown[:, 3].tolist() == [255, 255, 0, 0]
    assert ["#" + bytes(pixel[:3]).hex() for pixel in shown[:2]] == layers.colours
    assert len(set(ClassLayers([str(i) for i in range(10)]).colours)) == 10


def test_values_share_a_scale() -> None:
    shades = [np.asarray(value_layer(np.full((2, 2), v), 4.0, (8, 8)))[0, 0] for v in (0.0, 1.0, 4.0, 9.0, -1.0)]
    assert shades == [0, 64, 255, 255, 0]
    assert not np.asarray(value_layer(np.zeros((2, 2)), 0.0, (4, 4))).any(), "a cycle in which nothing is uncertain"


def test_an_outline_is_closed_at_the_edge_of_the_picture() -> None:
    region = np.zeros((10, 12), dtype=bool)
    region[:6, 5:] = True
    drawn = outline(region, 1)
    expected = np.zeros(region.shape, dtype=np.uint8)
    expected[:6, 5:] = 1
    expected[1:5, 6:11] = 0
    expected[6, 5:] = expected[:6, 4] = 2
    np.testing.assert_array_equal(drawn, expected)
    assert not outline(np.zeros((3, 3), dtype=bool), 1).any()


def test_a_point_gets_a_ring_even_where_a_thumb_has_lost_it() -> None:
    region = np.zeros((640, 640), dtype=bool)
    region[321, 400] = True
    ring = np.asarray(outline_layer(region).convert("RGBA"))[..., 3]
    rows, columns = np.nonzero(ring)
    assert (rows.mean(), columns.mean()) == pytest.approx((321, 400), abs=1)
    small = np.asarray(thumb(image_layer(np.full((640, 640, 3), 90, dtype=np.uint8)), region))
    white = np.argwhere((small > 200).all(axis=-1))
    assert len(white)
    assert white.mean(axis=0) == pytest.approx((80, 100), abs=2)


def test_the_nearest_pixel_is_taken() -> None:
    assert nearest(np.array([[1, 2], [3, 4]]), (4, 2)).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]
    assert nearest(np.zeros((1, 1)), (2, 3)).shape == (2, 3)
