"""Superpixels as units, and the label maps behind them."""

import multiprocessing
import os
import pickle
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datamodules import label_maps
from datamodules.files import DataError
from datamodules.partitions import Partition
from datamodules.sources.camvid import CamVid
from datamodules.sources.source import Source
from datamodules.superpixels import Superpixels
from datamodules.units import Units
from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory

METHODS = ("watershed", "slic")


class Pictures(Source):
    """PNG files of a folder."""

    class_names = ("one", "other")

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def images(self, split: str) -> Sequence[str]:
        return sorted(path.stem for path in self.folder.glob("*.png"))

    def read_image(self, image_id: str) -> np.ndarray:
        return np.array(Image.open(self.path(image_id)))

    def read_annotation(self, image_id: str, draw: tuple[int, int] | None = None) -> np.ndarray:
        raise AssertionError(f"somebody opened the mask of {image_id}")

    def path(self, image_id: str) -> Path:
        return self.folder / f"{image_id}.png"


class Arrays(Pictures):
    """Arrays without files."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def images(self, split: str) -> Sequence[str]:
        return list(self.arrays)

    def read_image(self, image_id: str) -> np.ndarray:
        return self.arrays[image_id]

    def path(self, image_id: str) -> None:  # type: ignore[override]
        return None


def noise(seed: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def draw(folder: Path, names: Sequence[str], seed: int = 0) -> Pictures:
    folder.mkdir(exist_ok=True)
    for number, name in enumerate(names):
        Image.fromarray(noise(seed + number)).save(folder / f"{name}.png")
    return Pictures(folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    return draw(tmp_path / "pictures", ["a", "b", "c"])


def nobody(*args: object) -> np.ndarray:
    raise AssertionError("an image was divided again")


def ask(source: Source, partition: Partition, run_dir: Path) -> None:
    assert Units(source, partition, run_dir).ids


def everything(partition: Partition, source: Source) -> dict[str, tuple[list[object], list[object]]]:
    return {i: (list(partition.regions(source, i)), partition.index_map(source, i).tolist()) for i in source.images("")}


@given(st.integers(1, 30), st.sampled_from(METHODS), st.integers(0, 99), st.integers(6, 24), st.integers(6, 24))
def test_superpixels_tile_the_image(count: int, method: str, seed: int, height: int, width: int) -> None:
    arrays = {"a": noise(seed, height, width), "b": noise(seed + 1, height, width)}
    source, partition = Arrays(arrays), Superpixels(count, method)  # type: ignore[arg-type]
    regions, index = partition.regions(source, "a"), partition.index_map(source, "a")
    assert (index.shape, index.dtype) == ((height, width), np.int32)
    # every pixel is in one, and none is empty
    assert np.unique(index).tolist() == list(range(len(regions)))
    assert np.bincount(index.ravel()).tolist() == [region.pixels for region in regions]
    for k, region in enumerate(regions):
        assert region.unit_id == f"a#sp={k}"
        rows, columns = np.nonzero(index == k)
        y, x, h, w = region.box
        assert (y, x, y + h - 1, x + w - 1) == (rows.min(), columns.min(), rows.max(), columns.max())
    assert partition.unit_ids(source, "a") == [region.unit_id for region in regions]
    # another object, asked for the images in another order
    again, other = Superpixels(count, method), Arrays(dict(reversed(arrays.items())))  # type: ignore[arg-type]
    assert everything(again, other) == everything(partition, source)


@pytest.mark.parametrize("method", METHODS)
def test_kept_maps_say_what_the_images_do(method: str, pictures: Pictures, tmp_path: Path) -> None:
    plain, kept = Superpixels(12, method), Superpixels(12, method)  # type: ignore[arg-type]
    units = Units(pictures, kept, tmp_path / "run")
    assert set(units.of_image) == {"a", "b", "c"}
    assert everything(kept, pictures) == everything(plain, pictures)
    assert {i: plain.unit_ids(pictures, i) for i in "abc"} == units.of_image
    # what a caller does to a map stays with the caller
    kept.index_map(pictures, "a")[:] = -1
    travelled = pickle.loads(pickle.dumps(kept))
    assert everything(travelled, pictures) == everything(plain, pictures)
    assert kept.description() == plain.description()


def test_labels_are_those_of_scikit_image_without_gaps(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.array([[7, 7, 3], [9, 9, 3]])
    monkeypatch.setattr(Superpixels, "segment", lambda *_: labels)
    index = Superpixels().index_map(Arrays({"a": noise(0)}), "a")
    assert index.tolist() == [[1, 1, 0], [2, 2, 0]]


def test_the_second_time_nothing_is_divided_and_no_file_read(
    pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Units(pictures, Superpixels(12), tmp_path / "run").of_image
    run = RunDirectory(tmp_path / "run")
    made = {path.name: path.stat().st_mtime_ns for path in run.label_maps.glob("*.npz")}
    assert len(made) == 3
    monkeypatch.setattr(Superpixels, "segment", nobody)
    with monkeypatch.context() as context:
        context.setattr(Pictures, "read_image", nobody)
        assert Units(pictures, Superpixels(12), tmp_path / "run").of_image == first
    # a copy of the same pixels is the same image
    os.utime(pictures.path("a"), ns=(1, 1))
    assert Units(pictures, Superpixels(12), tmp_path / "run").of_image == first
    # and new ones are added
    monkeypatch.undo()
    Image.fromarray(noise(9)).save(pictures.path("d"))
    assert set(Units(pictures, Superpixels(12), tmp_path / "run").of_image) == {"a", "b", "c", "d"}
    assert made.items() <= {p.name: p.stat().st_mtime_ns for p in run.label_maps.glob("*.npz")}.items()


def test_runs_of_a_study_divide_once(pictures: Pictures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = StudyDirectory(tmp_path / "study")
    study.path.mkdir()
    study.config.write_text("")
    runs = [study.path / "runs" / "default" / strategy / "0" for strategy in ("bald", "random")]
    first = Units(pictures, Superpixels(12), runs[0]).of_image
    # other parameters have files of their own
    ask(pictures, Superpixels(15), study.path / "runs" / "more" / "bald" / "0")
    assert len(list(study.label_maps.glob("*.npz"))) == 6
    monkeypatch.setattr(Superpixels, "segment", nobody)
    assert Units(pictures, Superpixels(12), runs[1]).of_image == first


def test_a_changed_image_is_refused(pictures: Pictures, tmp_path: Path) -> None:
    ask(pictures, Superpixels(12), tmp_path / "run")
    changed = noise(1)
    changed[3, 4, 0] ^= 1
    kept = pictures.path("b").read_bytes()
    Image.fromarray(changed).save(pictures.path("b"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"'b' has other pixels than when .*run divided it .* put the old image"):
            ask(pictures, Superpixels(12), tmp_path / "run")
    ask(pictures, Superpixels(12), tmp_path / "other")
    pictures.path("b").write_bytes(kept)
    ask(pictures, Superpixels(12), tmp_path / "run")


def test_a_changed_image_without_a_file_is_refused(tmp_path: Path) -> None:
    ask(Arrays({"a": noise(0)}), Superpixels(12), tmp_path)
    ask(Arrays({"a": noise(0)}), Superpixels(12), tmp_path)
    with pytest.raises(DataError, match="'a' has other pixels"):
        ask(Arrays({"a": noise(1)}), Superpixels(12), tmp_path)


@pytest.mark.parametrize("other", [Superpixels(13), Superpixels(12, "slic"), Superpixels(12, compactness=0.5)])
def test_changed_parameters_are_refused(other: Superpixels, pictures: Pictures, tmp_path: Path) -> None:
    ask(pictures, Superpixels(12), tmp_path)
    words = rf"into units with method watershed, count 12, compactness 0.001, got {other.parameters}; go on with those"
    with pytest.raises(DataError, match=words):
        ask(pictures, other, tmp_path)
    # a first try with a mistake does not stand in the way of the second
    RunDirectory(tmp_path).remove_ledger()
    ask(pictures, other, tmp_path)


def test_a_lost_map_is_made_again_and_a_damaged_one_named(pictures: Pictures, tmp_path: Path) -> None:
    expected = everything(Superpixels(12), pictures)
    ask(pictures, Superpixels(12), tmp_path)
    lost, damaged, _ = RunDirectory(tmp_path).label_maps.glob("*.npz")
    lost.unlink()
    units = Units(pictures, Superpixels(12), tmp_path)
    assert units.ids
    assert everything(units.partition, pictures) == expected
    damaged.write_bytes(damaged.read_bytes()[:100])
    label_maps.read_label_map.cache_clear()
    with pytest.raises(DataError, match=rf"{damaged.name} cannot be read .* delete it"):
        everything(units.partition, pictures)


@pytest.mark.parametrize("row", ["null", "{}", '{"map": 1, "units": 2}', '{"map": "a", "units": null, "stamp": []}'])
def test_a_damaged_table_is_named(row: str, pictures: Pictures, tmp_path: Path) -> None:
    ask(pictures, Superpixels(12), tmp_path)
    table = RunDirectory(tmp_path).label_map_table
    table.write_text(f'{{"parameters": "{Superpixels(12).parameters}", "images": {{"a": {row}}}}}')
    with pytest.raises(DataError, match=r"a number of units for 'a' in .*label_maps\.json, got .*; delete it"):
        ask(pictures, Superpixels(12), tmp_path)
    table.unlink()
    ask(pictures, Superpixels(12), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "count must be at least 1 superpixel, got 0"),
        ({"method": "quickshift"}, "method must be watershed or slic, got 'quickshift'"),
        ({"compactness": -1.0}, "compactness must be 0 or more for watershed, got -1"),
        ({"method": "slic", "compactness": 0.0}, "compactness must be above 0 for slic, got 0"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Superpixels(**arguments)  # type: ignore[arg-type]


def test_more_superpixels_than_pixels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"more pixels than data.partition.count, 601, got 'a' of 20 x 30"):
        ask(Arrays({"a": noise(0)}), Superpixels(601), tmp_path)


class Noted(Superpixels):
    """Notes whom it divides, and takes its time."""

    def __init__(self, notes: str, seconds: float) -> None:
        super().__init__(12)
        self.notes = notes
        self.seconds = seconds

    def segment(self, image: np.ndarray, image_id: str) -> np.ndarray:
        with Path(self.notes).open("a") as file:
            file.write(f"{os.getpid()} {image_id}\n")
        time.sleep(self.seconds)
        return super().segment(image, image_id)


def noted(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_two_processes_at_once_divide_every_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    source = draw(tmp_path / "pictures", [f"{i:02d}" for i in range(40)])
    partition, fork = Noted(str(tmp_path / "notes"), 0.005), multiprocessing.get_context("fork")
    both = [fork.Process(target=ask, args=(source, partition, tmp_path / "run")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    pids, images = zip(*noted(tmp_path / "notes"), strict=True)
    assert sorted(images) == source.images("train")
    assert len(set(pids)) == 2, "it was one process that did it all"
    monkeypatch.setattr(Noted, "segment", nobody)
    ask(source, partition, tmp_path / "run")


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    source = draw(tmp_path / "pictures", [f"{i:02d}" for i in range(40)])
    run, fork = RunDirectory(tmp_path / "run"), multiprocessing.get_context("fork")
    process = fork.Process(target=ask, args=(source, Noted(str(tmp_path / "notes"), 0.05), run.path))
    process.start()
    deadline = time.monotonic() + 60
    while len(noted(tmp_path / "notes")) < 5:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join(60)
    # what it was writing has a name that begins with a dot
    whole = "[!.]*.npz"
    with FileLock(run.label_maps_lock, timeout=10):
        done = len(list(run.label_maps.glob(whole)))
    assert 0 < done < 40
    ask(source, Superpixels(12), run.path)
    assert len(list(run.label_maps.glob(whole))) == 40


@pytest.mark.real
def test_an_image_of_camvid_has_about_as_many_as_asked_for(camvid: Path) -> None:
    source = CamVid(str(camvid))
    for image_id in source.images("train")[::60]:
        regions = Superpixels(100).regions(source, image_id)
        assert 90 <= len(regions) <= 110
        assert [r.unit_id for r in regions] == [f"{image_id}#sp={k}" for k in range(len(regions))]
        assert sum(r.pixels for r in regions) == 180 * 240
        assert 60 <= len(Superpixels(100, "slic").unit_ids(source, image_id)) <= 110
