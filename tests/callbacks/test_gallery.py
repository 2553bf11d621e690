"""Samples kept for pictures survive a kill while they are saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from acquisition.regions import Regions
from acquisition.scored import Scored
from callbacks.gallery import Gallery, saved_samples


def test_a_file_that_a_kill_cut_short_is_no_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery(1)
    maps = torch.zeros(1, 2, 2)
    gallery.offer(
        {"image": torch.zeros(1, 3, 2, 2)}, Regions.whole(["u"]), Scored(torch.ones(1), values=maps, predictions=maps)
    )

    def cut_short(path: Path, **content: Any) -> None:
        Path(path).write_bytes(b"PK")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", cut_short)
        with pytest.raises(KeyboardInterrupt):
            gallery.save(tmp_path)
    assert list(saved_samples(tmp_path)) == []
    gallery.save(tmp_path)
    assert {unit_id for unit_id, _ in saved_samples(tmp_path)} == {"u"}
