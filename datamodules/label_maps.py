"""Label maps of images: made once by several processes, kept in a folder that runs can share, read back quickly."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from scipy.ndimage import find_objects
from tqdm.auto import tqdm

from datamodules.files import DataError
from datamodules.sources.source import Source
from records.files import read_json, replacing, write_json
from records.run_directory import RunDirectory

__all__ = ["KeptMap", "LabelMap", "Segment", "label_map", "prepare", "read_label_map", "read_parts"]

Segment = Callable[[np.ndarray, str], np.ndarray]
"""From an image (H x W x 3, uint8) and its id to labels (H x W, integers); can be pickled."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """An image's division into n parts.

    Args:
        index: H x W, from 0 to n - 1.
        pixels: n, how many each has.
        boxes: n x 4, row and column of the upper left pixel, height and width.
    """

    index: np.ndarray
    pixels: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, slots=True)
class KeptMap:
    """A label map's file, and how many parts it has."""

    path: Path
    units: int


def label_map(labels: np.ndarray) -> LabelMap:
    """Number the labels that occur anew, from 0 and in ascending order.

    Args:
        labels: H x W, integers.
    """
    found, index, pixels = np.unique(labels, return_inverse=True, return_counts=True)
    index = index.reshape(labels.shape).astype(np.uint16 if len(found) < 2**16 else np.int32)
    boxes = [
        (y.start, x.start, y.stop - y.start, x.stop - x.start) for y, x in find_objects(index.astype(np.int32) + 1)
    ]
    return LabelMap(index, pixels, np.array(boxes))


@lru_cache(maxsize=8)
def read_parts(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a map's pixels and boxes alone, which takes a fraction of the time.

    Raises:
        DataError: If the file has gone or is damaged.
    """
    pixels, boxes = _read(path, "pixels", "boxes")
    return pixels, boxes


@lru_cache(maxsize=8)
def read_label_map(path: Path) -> LabelMap:
    """Read a map; the last few stay in memory.

    Raises:
        DataError: If the file has gone or is damaged.
    """
    return LabelMap(*_read(path, *(field.name for field in fields(LabelMap))))


def _read(path: Path, *names: str) -> list[np.ndarray]:
    try:
        with np.load(path) as file:
            return [file[name] for name in names]
    except Exception as error:  # a damaged archive raises whatever its reader stumbles over
        raise DataError(
            f"the label map {path} cannot be read ({error}); delete it, then start the same command again"
        ) from error


def prepare(
    source: Source, image_ids: Sequence[str], run: RunDirectory, segment: Segment, parameters: str
) -> Mapping[str, KeptMap]:
    """Make the label maps that a run lacks.

    Files are named by a hash of the image's pixels and the parameters, so that runs of a study share them. The run's
    own table says which one each image had; an image is read again only if its file has changed.

    Args:
        source: The data set.
        image_ids: The images.
        run: Where maps and table stand.
        segment: What divides an image.
        parameters: What that depends on, as text.

    Returns:
        The map of every image.

    Raises:
        DataError: If the run's maps were made with other parameters, or an image had other pixels.
    """
    known = _read_table(run, parameters)
    stamps = {image_id: _stamp(source, image_id) for image_id in image_ids}
    if not all(_is_current(known.get(i), stamps[i], run) for i in image_ids):
        run.label_maps.mkdir(parents=True, exist_ok=True)
        # processes that start together: one makes them, the others find them made
        with FileLock(run.label_maps_lock):
            known = _read_table(run, parameters)
            outdated = [i for i in image_ids if not _is_current(known.get(i), stamps[i], run)]
            table = dict(known)
            make = partial(_make, source, run, segment, parameters)
            for image_id, (digest, units) in zip(outdated, _in_processes(make, outdated), strict=True):
                if image_id in known and known[image_id]["map"] != digest:
                    raise DataError(
                        f"the image {image_id!r} has other pixels than when {run.path} divided it into units, so its "
                        "units would be others; put the old image back, or choose another --run_dir"
                    )
                table[image_id] = {"map": digest, "units": units, "stamp": stamps[image_id]}
            if table != known:
                write_json(run.label_map_table, {"parameters": parameters, "images": table})
            known = table
    return {i: KeptMap(run.label_map(known[i]["map"]), known[i]["units"]) for i in image_ids}


def _read_table(run: RunDirectory, parameters: str) -> dict[str, Any]:
    if not run.label_map_table.is_file():
        return {}
    remedy = "delete it, then start the same command again"
    table = read_json(run.label_map_table, remedy, parameters=str, images=dict)
    for image_id, row in table["images"].items():
        if not (isinstance(row, dict) and isinstance(row.get("map"), str) and isinstance(row.get("units"), int)):
            raise DataError(
                f"expected a map and a number of units for {image_id!r} in {run.label_map_table}, got {row!r:.50}; "
                f"{remedy}"
            )
    if table["parameters"] != parameters:
        raise DataError(
            f"{run.path} divided its images into units with {table['parameters']}, got {parameters}; go on with "
            "those, or choose another --run_dir"
        )
    return table["images"]


def _is_current(row: Mapping[str, Any] | None, stamp: list[int] | None, run: RunDirectory) -> bool:
    unchanged = row is not None and stamp is not None and row.get("stamp") == stamp
    return unchanged and run.label_map(row["map"]).is_file()  # type: ignore[index]


def _stamp(source: Source, image_id: str) -> list[int] | None:
    """Size and time of an image's file; None if there is none, and the image has to be looked at."""
    path = source.path(image_id)
    found = path.stat() if path is not None and path.is_file() else None
    return found and [found.st_size, found.st_mtime_ns]


def _make(source: Source, run: RunDirectory, segment: Segment, parameters: str, image_id: str) -> tuple[str, int]:
    """The name of an image's map, which is made if it is not there, and how many units it has."""
    image = source.read_image(image_id)
    digest = hashlib.blake2b(f"{parameters}\n{image.shape} {image.dtype}\n".encode(), digest_size=16)
    digest.update(image.tobytes())
    path = run.label_map(digest.hexdigest())
    if not path.is_file():
        made = label_map(segment(image, image_id))
        with replacing(path) as beside:
            np.savez_compressed(beside, **asdict(made))
        return digest.hexdigest(), len(made.pixels)
    return digest.hexdigest(), len(read_label_map(path).pixels)


def _in_processes(make: Callable[[str], tuple[str, int]], image_ids: Sequence[str]) -> Iterator[tuple[str, int]]:
    with _workers(len(image_ids)) as run_all:
        # what is done within a second shows nothing
        yield from tqdm(
            run_all(make, image_ids), desc="superpixels", total=len(image_ids), unit="image", delay=1, disable=None
        )


@contextmanager
def _workers(tasks: int) -> Iterator[Callable[..., Iterator[tuple[str, int]]]]:
    """`map` over as many processes as there are cores, or in this one where starting them would not pay."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = min(cores, tasks // 16)
    if processes < 2:
        yield map
        return
    with ProcessPoolExecutor(processes, initializer=_end_with_parent) as pool:
        try:
            yield partial(pool.map, chunksize=4)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """A killed parent's workers would wait for work for ever, and hold the lock that they have inherited."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
