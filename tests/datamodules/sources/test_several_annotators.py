"""A consensus as whose masks to train on, people who are held out, and batches that say who has drawn."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from acquisition.annotation import VOID
from datamodules.coarsening import Coarsen
from datamodules.consensus import dawid_skene, staple
from datamodules.datamodule import PoolDataModule
from datamodules.files import DataError
from datamodules.oracle import HiddenTruth, WholeObjects
from datamodules.sources.resized import Resized
from datamodules.sources.several_annotators import DAWID_SKENE, MAJORITY, RANDOM, STAPLE, SeveralAnnotators
from datamodules.sources.synthetic_annotators import HABITS, SyntheticAnnotators
from datamodules.votes import majority

PEOPLE = ["careful", "dilates_much", "erodes", "misses_small"]


def cells(annotator: str = MAJORITY, **kwargs: object) -> SyntheticAnnotators:
    given: dict[str, object] = {"annotators": PEOPLE, "num_images": 8, "size": (32, 32), "folds": 2} | kwargs
    return SyntheticAnnotators(annotator=annotator, **given)  # type: ignore[arg-type]


class Absent(SyntheticAnnotators):
    """The careful one has not drawn every second image."""

    def annotators_of(self, image_id: str) -> list[str]:
        return self.annotators[int(image_id[-1]) % 2 :]


def test_staple_judges_people_in_each_image() -> None:
    data = cells(STAPLE)
    for image_id in data.images("train"):
        masks = list(data.drawings(image_id).values())
        assert np.array_equal(data.read_annotation(image_id, (0, 3)), staple(masks).labels(masks))
        assert data.drawn_by(image_id, (0, 3)) is None
    assert any((data.read_annotation(i) != majority(list(data.drawings(i).values()))).any() for i in data.all_images())


def test_dawid_and_skene_judge_people_by_the_train_split() -> None:
    data = cells(DAWID_SKENE)
    drawn = {i: np.stack(list(data.drawings(i).values())) for i in data.all_images()}
    judged = dawid_skene([drawn[i] for i in data.images("train")])
    assert np.allclose(data.reliability().confusion, judged.confusion)
    for image_id in data.all_images():
        assert np.array_equal(data.read_annotation(image_id), judged.labels(drawn[image_id]))
    # validation images say nothing about people
    assert not np.allclose(dawid_skene(drawn.values()).confusion, judged.confusion, atol=1e-4)


def test_who_has_not_drawn_an_image_has_no_vote() -> None:
    data = Absent(annotator=DAWID_SKENE, annotators=PEOPLE, num_images=8, size=(32, 32), folds=2)
    for image_id in data.images("train"):
        masks = np.stack([data.read_drawing(image_id, name) for name in PEOPLE])
        if "careful" not in data.annotators_of(image_id):
            masks[0] = VOID
        assert np.array_equal(data.read_annotation(image_id), data.reliability().labels(masks))


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_workers_get_what_was_found_out(workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = cells(DAWID_SKENE)
    asked: list[int] = []
    reliability = SeveralAnnotators.reliability
    monkeypatch.setattr(
        SeveralAnnotators, "reliability", lambda self: asked.append(self._reliability is None) or reliability(self)
    )
    data = PoolDataModule(source, run_dir=str(tmp_path), batch_size=2, flip=0.0, num_workers=workers)
    data.prepare_data()
    # as a process does that has not labelled the initial set
    source._reliability = None
    loader = data.train_dataloader()
    assert source._reliability is not None
    # the copy that goes to a worker
    copied = pickle.loads(pickle.dumps(loader.dataset)).source
    assert np.array_equal(copied._reliability.confusion, source._reliability.confusion)
    for batch in loader:
        assert "annotator" not in batch
        for image_id, mask in zip(batch["image_id"], batch["mask"], strict=True):
            assert np.array_equal(mask, source.read_annotation(image_id))
    assert sum(asked) == 2


def test_people_who_are_held_out_are_there_for_evaluation() -> None:
    used = ["misses_small", "careful", "erodes"]
    data = cells(people=used)
    others = cells(annotators=sorted(used))
    for image_id in data.all_images():
        assert list(data.drawings(image_id)) == PEOPLE
        for way in (MAJORITY, STAPLE, DAWID_SKENE):
            assert np.array_equal(
                cells(way, people=used).read_annotation(image_id),
                cells(way, annotators=sorted(used)).read_annotation(image_id),
            )
    turns = cells(RANDOM, people=used)
    drawn = [turns.drawn_by(i, (0, epoch)) for i in turns.all_images() for epoch in range(20)]
    # numbers are those among all people
    assert set(drawn) == {PEOPLE.index(name) for name in used}
    assert list(others.annotators) == sorted(used)


def test_batches_say_who_has_drawn(tmp_path: Path) -> None:
    for number, oracle in enumerate((None, WholeObjects(), HiddenTruth(corruption=Coarsen(1)))):
        source = cells(RANDOM)
        data = PoolDataModule(source, oracle=oracle, run_dir=str(tmp_path / str(number)), batch_size=4, flip=0.0)
        data.prepare_data()
        loader = data.train_dataloader()
        seen = set()
        for epoch in range(4):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            for batch in loader:
                for image_id, mask, who in zip(batch["image_id"], batch["mask"], batch["annotator"], strict=True):
                    assert source.drawn_by(image_id, (0, epoch)) == who
                    if oracle is None:
                        assert np.array_equal(mask, source.read_drawing(image_id, PEOPLE[who]))
                    seen.add(int(who))
        assert seen == set(range(4))
        # nobody in particular is the judge of validation
        assert "annotator" not in next(iter(data.val_dataloader()))
    anna = PoolDataModule(Resized(cells("erodes"), 16, 16), run_dir=str(tmp_path / "anna"), batch_size=4)
    anna.prepare_data()
    assert next(iter(anna.train_dataloader()))["annotator"].tolist() == [PEOPLE.index("erodes")] * 4


def test_the_truth_behind_the_habits() -> None:
    data = SyntheticAnnotators(num_images=10, size=(48, 48))
    known = data.true_confusion(data.all_images())
    truth = np.stack([data.true_mask(i) for i in data.all_images()])
    for person, name in enumerate(data.annotators):
        drawn = np.stack([data.read_drawing(i, name) for i in data.all_images()])
        for kind in (0, 1):
            assert (drawn == kind)[truth == kind].mean() == pytest.approx(known[person, kind, kind], abs=0.1)
    sensitivity = dict(zip(data.annotators, known[:, 1, 1], strict=True))
    assert sensitivity["dilates"] > sensitivity["careful"] > sensitivity["misses_small"] > sensitivity["erodes"]
    assert data.annotators == sorted(HABITS)


@pytest.mark.parametrize("way", [MAJORITY, RANDOM, STAPLE, DAWID_SKENE])
def test_people_who_cannot_be(way: str) -> None:
    with pytest.raises(DataError, match=r"data\.source\.people to be among careful, .*, misses_small, got 'dora'"):
        cells(way, people=["careful", "dora"]).images("train")
    with pytest.raises(DataError, match=rf"annotator '{way}' is about at least two people, got data.*people careful;"):
        cells(way, people=["careful"]).images("train")
    with pytest.raises(DataError, match=r"got data\.source\.people without a name"):
        cells(way, people=[]).images("train")
    with pytest.raises(DataError, match=r"or one of data\.source\.people, careful, erodes, got 'dilates_much'"):
        cells("dilates_much", people=["careful", "erodes"]).images("train")
    # one person's own masks are no consensus
    assert cells("careful", people=["careful"]).images("train")


@pytest.mark.parametrize("word", ["staple", "dawid_skene"])
def test_nobody_may_be_called_like_a_consensus(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyntheticAnnotators, "annotators", property(lambda self: ["anna", word]))
    with pytest.raises(DataError, match=f"no annotator may be called '{word}', a word of data.source.annotator"):
        cells().images("train")


def test_a_consensus_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    empty: Callable[..., np.ndarray] = lambda self, image_id, name: np.zeros((32, 32), dtype=np.uint8)  # noqa: E731
    monkeypatch.setattr(SyntheticAnnotators, "read_drawing", empty)
    for way in (STAPLE, DAWID_SKENE):
        with (
            pytest.warns(UserWarning, match="background or void"),
            pytest.raises(DataError, match=f"the {way}'s masks are all empty"),
        ):
            cells(way).check()
