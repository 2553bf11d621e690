"""The digits of scikit-learn."""

import numpy as np
import torch

from datamodules.sources.digits import Digits


def test_digits() -> None:
    data = Digits()
    (images, labels, _), (val, _, _) = data.tensors("train"), data.tensors("val")
    assert (len(images), len(val), len(data.tensors("test")[0])) == (1400, 397, 0)
    everything = torch.cat([images, val])
    assert abs(float(everything.mean())) < 1e-3
    assert abs(float(everything.std()) - 1) < 1e-3
    assert labels.unique().tolist() == list(range(10))


def test_display_undoes_the_normalisation() -> None:
    data = Digits()
    images, _, image_ids = data.tensors("train")
    shown = data.to_display(images[3].numpy())
    found = data.read("train")
    assert found is not None
    pixels = found[0][int(image_ids[3][-6:])].permute(1, 2, 0).numpy()
    assert np.array_equal(shown, np.repeat(pixels, 3, axis=2))
    assert np.array_equal(data.read_image(image_ids[3]), shown)
    assert data.size(image_ids[3]) == (8, 8)
