"""The initial labelled set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datamodules.units import VOID, DataError, Unit

from datamodules.initial import AllAnswered, FromFile, InitialSet, PerClass, RandomSubset, StratifiedSubset

UNITS = [Unit(f"u{i:02d}") for i in range(30)]


class Masks:
    """Units 0 to 26 are class 0 with a little of class 1; only 27 to 29 hold the rare class 2."""

    def read_label(self, unit: Unit) -> np.ndarray:
        number = int(unit.unit_id[1:])
        mask = np.zeros((10, 10), dtype=np.uint8)
        mask[: 1 + number % 3] = 1
        if number >= 27:
            mask[5:] = 2
        mask[-1] = VOID
        return mask


def choose(initial: InitialSet, units: list[Unit] = UNITS, seed: int = 0) -> list[str]:
    return [u.unit_id for u in initial.choose(units, Masks(), 3, seed)]


@pytest.mark.parametrize("kind", [RandomSubset, StratifiedSubset])
def test_size_seed_and_order_of_the_units(kind: type[Any]) -> None:
    chosen = choose(kind(8))
    assert len(chosen) == len(set(chosen)) == 8
    assert choose(kind(8), UNITS[::-1]) == chosen
    assert choose(kind(8), seed=1) != chosen
    assert sorted(choose(kind(30))) == [u.unit_id for u in UNITS]


def test_a_new_image_moves_one_unit_at_most() -> None:
    before = set(choose(RandomSubset(8)))
    after = set(choose(RandomSubset(8), [*UNITS, Unit("new")]))
    assert len(before - after) <= 1


def test_random_is_not_alphabetical() -> None:
    seen = {u for seed in range(40) for u in choose(RandomSubset(3), seed=seed)}
    assert len(seen) > 25


@pytest.mark.parametrize("seed", range(5))
def test_stratified_brings_the_rare_class_in_its_share(seed: int) -> None:
    chosen = choose(StratifiedSubset(10), seed=seed)
    # 3 of 30 units hold it
    assert len([u for u in chosen if int(u[1:]) >= 27]) == 1

    def shares(names: list[str]) -> np.ndarray:
        counts = sum(np.bincount(Masks().read_label(Unit(n)).ravel(), minlength=256)[:3] for n in names)
        return counts / counts.sum()

    assert np.abs(shares(chosen) - shares([u.unit_id for u in UNITS])).max() < 0.02


def test_stratified_reads_no_more_than_its_candidates() -> None:
    opened: list[str] = []

    class Counting(Masks):
        def read_label(self, unit: Unit) -> np.ndarray:
            opened.append(unit.unit_id)
            return super().read_label(unit)

    chosen = StratifiedSubset(4, candidates=6).choose(UNITS, Counting(), 3, 0)
    assert len(opened) == 6
    assert {u.unit_id for u in chosen} <= set(opened)


@pytest.mark.parametrize("candidates", [0, -3])
def test_stratified_needs_candidates(candidates: int) -> None:
    with pytest.raises(ValueError, match=f"candidates must be at least 1 unit to read, got {candidates}"):
        StratifiedSubset(4, candidates)


def test_stratified_with_nothing_but_void() -> None:
    class Void(Masks):
        def read_label(self, unit: Unit) -> np.ndarray:
            return np.full((2, 2), VOID, dtype=np.uint8)

    assert len(StratifiedSubset(4).choose(UNITS, Void(), 3, 0)) == 4


def test_from_file(tmp_path: Path) -> None:
    path = tmp_path / "initial.txt"
    path.write_text("u03\n\n  u01 \nu03\n")
    assert choose(FromFile(str(path))) == ["u03", "u01"]
    path.write_text("u03\nnobody\nnothing\n")
    with pytest.raises(DataError, match=r"initial\.txt names 'nobody' \(2 such ids\).*ids look like 'u00'"):
        choose(FromFile(str(path)))
    with pytest.raises(DataError, match=r"expected a list of unit ids at .*none\.txt"):
        choose(FromFile(str(tmp_path / "none.txt")))


def test_lists_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "initial.txt"
    path.write_text("\n")
    with pytest.raises(DataError, match=r"ids of the initial set in .*initial\.txt, got an empty file"):
        choose(FromFile(str(path)))
    path.write_bytes("u03\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"expected UTF-8 text in .*initial\.txt"):
        choose(FromFile(str(path)))
    with pytest.raises(DataError, match="expected a list of unit ids at"):
        choose(FromFile(str(tmp_path)))


def test_a_list_copied_from_queried_csv(tmp_path: Path) -> None:
    (tmp_path / "initial.txt").write_text("'=u\nu01\n")
    assert choose(FromFile(str(tmp_path / "initial.txt")), [*UNITS, Unit("=u")]) == ["=u", "u01"]


def test_all_answered_takes_all() -> None:
    assert choose(AllAnswered()) == [u.unit_id for u in UNITS]


@pytest.mark.parametrize("kind", [RandomSubset, StratifiedSubset])
def test_sizes_that_cannot_be(kind: Callable[[int], InitialSet]) -> None:
    with pytest.raises(ValueError, match=r"at least 1 unit, got data\.initial\.size 0"):
        kind(0)
    with pytest.raises(DataError, match=r"wants 31 units but only 30 have a label; lower data\.initial\.size"):
        choose(kind(31))


def test_per_class_takes_as_many_of_each_and_none_of_no_class() -> None:
    units = [Unit(f"u{i:02d}", label=VOID if i % 5 == 4 else i % 3) for i in range(30)]
    label = {u.unit_id: u.label for u in units}
    chosen = choose(PerClass(4), units)
    assert sorted(label[u] for u in chosen) == [0] * 4 + [1] * 4 + [2] * 4
    assert choose(PerClass(4), units[::-1]) == chosen
    assert choose(PerClass(4), units, seed=1) != chosen
    assert set(choose(PerClass(3), units)) < set(chosen)
    with pytest.raises(DataError, match="wants 9 images of each class but there are only 8"):
        choose(PerClass(9), units)
    with pytest.raises(DataError, match="one class each; choose StratifiedSubset"):
        choose(PerClass(1))
