"""The initial labelled set."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.files import DataError
from datamodules.initial import (
    AllAnswered,
    FromFile,
    FromRun,
    InitialSet,
    LabelReader,
    PerClass,
    RandomImages,
    RandomSubset,
    StratifiedSubset,
)
from records.ledger import Ledger, Queried

UNITS = [f"u{i:02d}" for i in range(30)]


class OneByOne:
    """Labels read one by one, in another order than they are asked for."""

    def read_label(self, unit_id: str) -> np.ndarray:
        raise NotImplementedError

    def image_of(self, unit_id: str) -> str:
        return unit_id

    def read_labels(self, unit_ids: Iterable[str]) -> Iterator[tuple[str, np.ndarray]]:
        for unit_id in sorted(unit_ids):
            yield unit_id, self.read_label(unit_id)


class Masks(OneByOne):
    """Units 0 to 26 are class 0 with a little of class 1; only 27 to 29 hold the rare class 2."""

    def read_label(self, unit_id: str) -> np.ndarray:
        number = int(unit_id[1:])
        mask = np.zeros((10, 10), dtype=np.uint8)
        mask[: 1 + number % 3] = 1
        if number >= 27:
            mask[5:] = 2
        mask[-1] = VOID
        return mask


def choose(
    initial: InitialSet, units: list[str] = UNITS, seed: int = 0, reader: LabelReader | None = None
) -> list[str]:
    return initial.choose(units, reader or Masks(), 3, seed)


@pytest.mark.parametrize("kind", [RandomSubset, StratifiedSubset])
def test_size_seed_and_order_of_the_units(kind: type[Any]) -> None:
    chosen = choose(kind(8))
    assert len(chosen) == len(set(chosen)) == 8
    assert choose(kind(8), UNITS[::-1]) == chosen
    assert choose(kind(8), seed=1) != chosen
    assert sorted(choose(kind(30))) == UNITS


def test_a_new_image_moves_one_unit_at_most() -> None:
    before = set(choose(RandomSubset(8)))
    after = set(choose(RandomSubset(8), [*UNITS, "new"]))
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
        counts = sum(np.bincount(Masks().read_label(n).ravel(), minlength=256)[:3] for n in names)
        return counts / counts.sum()

    assert np.abs(shares(chosen) - shares(UNITS)).max() < 0.02


def test_stratified_reads_no_more_than_its_candidates() -> None:
    opened: list[str] = []

    class Counting(Masks):
        def read_label(self, unit_id: str) -> np.ndarray:
            opened.append(unit_id)
            return super().read_label(unit_id)

    chosen = StratifiedSubset(4, candidates=6).choose(UNITS, Counting(), 3, 0)
    assert len(opened) == 6
    assert set(chosen) <= set(opened)


@pytest.mark.parametrize("candidates", [0, -3])
def test_stratified_needs_candidates(candidates: int) -> None:
    with pytest.raises(ValueError, match=f"candidates must be at least 1 unit to read, got {candidates}"):
        StratifiedSubset(4, candidates)


def test_stratified_with_nothing_but_void() -> None:
    class Void(Masks):
        def read_label(self, unit_id: str) -> np.ndarray:
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
    assert choose(FromFile(str(tmp_path / "initial.txt")), [*UNITS, "=u"]) == ["=u", "u01"]


def test_a_queried_csv_is_read_by_its_column(tmp_path: Path) -> None:
    path = tmp_path / "queried.csv"
    path.write_text("name,rank,unit_id\n'=u.png,1,'=u\n\"u,1.png\",2,u01\n,3,\n")
    assert choose(FromFile(str(path)), [*UNITS, "=u"]) == ["=u", "u01"]
    path.write_text("name,rank\nu01,1\n")
    with pytest.raises(DataError, match=r"the column unit_id in .*queried\.csv, got the columns name, rank; name a"):
        choose(FromFile(str(path)))
    path.write_text("unit_id\n")
    with pytest.raises(DataError, match="got a table without rows"):
        choose(FromFile(str(path)))
    path.write_text('unit_id\n"u01\n')
    with pytest.raises(DataError, match=r"queried\.csv is not a readable table"):
        choose(FromFile(str(path)))


def test_from_run_takes_what_that_run_began_with(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected the ledger of a run at"):
        choose(FromRun(str(tmp_path)))
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.query(0, "s", [Queried("u05", 1.0, 1)], [("u05", 1)])
    with pytest.raises(DataError, match="expected the initial set of a run in"):
        choose(FromRun(str(tmp_path)))
    ledger.start([("u03", 1), ("u01", 1)])
    assert choose(FromRun(str(tmp_path))) == ["u03", "u01"]
    with pytest.raises(DataError, match=r"names 'u03'.*take the data and the data\.partition of that run"):
        choose(FromRun(str(tmp_path)), ["u01#sp=0"])


def test_a_seed_of_its_own_says_which_units() -> None:
    own = RandomSubset(8, seed=1)
    assert choose(own) == choose(own, seed=5) == choose(RandomSubset(8), seed=1)
    assert own.short_description == "RandomSubset(size=8,seed=1)"
    assert RandomSubset(8).short_description == "RandomSubset(size=8)"


def test_all_answered_takes_all() -> None:
    assert choose(AllAnswered()) == UNITS


@pytest.mark.parametrize("kind", [RandomSubset, StratifiedSubset])
def test_sizes_that_cannot_be(kind: Callable[[int], InitialSet]) -> None:
    with pytest.raises(ValueError, match=r"at least 1 unit, got data\.initial\.size 0"):
        kind(0)
    with pytest.raises(DataError, match=r"wants 31 units but only 30 have a label; lower data\.initial\.size"):
        choose(kind(31))


def test_per_class_takes_as_many_of_each_and_none_of_no_class() -> None:
    label = {u: VOID if i % 5 == 4 else i % 3 for i, u in enumerate(UNITS)}

    class Classes(OneByOne):
        def read_label(self, unit_id: str) -> np.ndarray:
            return np.array(label[unit_id], dtype=np.uint8)

    chosen = choose(PerClass(4), reader=Classes())
    assert sorted(label[u] for u in chosen) == [0] * 4 + [1] * 4 + [2] * 4
    assert choose(PerClass(4), UNITS[::-1], reader=Classes()) == chosen
    assert choose(PerClass(4), seed=1, reader=Classes()) != chosen
    assert set(choose(PerClass(3), reader=Classes())) < set(chosen)
    with pytest.raises(DataError, match="wants 9 images of each class but there are only 8"):
        choose(PerClass(9), reader=Classes())
    with pytest.raises(DataError, match="one class each; choose StratifiedSubset"):
        choose(PerClass(1))


class Halves(Masks):
    """Two units of every image."""

    def image_of(self, unit_id: str) -> str:
        return unit_id.partition("#")[0]


def test_whole_images_are_those_that_would_be_drawn_as_units() -> None:
    halves = [f"{u}#{half}" for u in UNITS for half in "ab"]
    chosen = choose(RandomImages(4), halves, reader=Halves())
    images = choose(RandomSubset(4))
    assert chosen == [f"{u}#{half}" for u in images for half in "ab"]
    assert choose(RandomImages(4), halves[::-1], reader=Halves()) == [f"{u}#{half}" for u in images for half in "ba"]
    assert choose(RandomImages(4)) == images
    with pytest.raises(DataError, match="wants 31 images but only 30 have a label"):
        choose(RandomImages(31), halves, reader=Halves())
