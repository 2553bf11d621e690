"""Who answers a query."""

from pathlib import Path

from datamodules.oracle import FolderOracle, HiddenTruth
from datamodules.units import Unit


def test_hidden_truth_answers_at_once() -> None:
    unit = Unit("a", Path("a.png"), Path("m.png"))
    assert HiddenTruth().answer(unit) == unit
    assert not HiddenTruth().partial


def test_a_folder_answers_when_the_file_is_there(tmp_path: Path) -> None:
    oracle = FolderOracle(str(tmp_path))
    unit = Unit("city/a", Path("a.png"), mask=Path("truth.png"))
    # the data set's own mask is not looked at
    assert oracle.answer(unit) is None
    drawn = tmp_path / "city" / "a.png"
    drawn.mkdir(parents=True)
    assert oracle.answer(unit) is None
    drawn.rmdir()
    drawn.write_bytes(b"")
    assert oracle.answer(unit) == Unit("city/a", Path("a.png"), drawn)
    assert str(tmp_path) in oracle.instructions()
    assert not oracle.partial
    assert FolderOracle("x", partial=True).partial
