"""What users see of what rooms without Lightning have to say."""

import logging
import warnings
from collections.abc import Iterator

import pytest
from pytorch_lightning.utilities import rank_zero_only

from pipelines.lightning_cli import arrange_messages

NOTES = logging.getLogger("datamodules")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level = NOTES.handlers, NOTES.level
    with warnings.catch_warnings():
        yield
    NOTES.handlers, NOTES.level = handlers, level


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_shows_what_data_sets_say(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    arrange_messages()
    arrange_messages()
    assert NOTES.handlers == logging.getLogger("pytorch_lightning").handlers
    assert logging.getLogger("datamodules.sources.folder").isEnabledFor(logging.INFO) == (rank == 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn_explicit("empty masks", UserWarning, "pool.py", 1, module="datamodules.pool")
    assert len(caught) == (rank == 0)
