"""Settings that the data answer where they are left out: numbers of classes, sizes of images and batches."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace
from pytorch_lightning.utilities import rank_zero_info

from datamodules.files import DataError
from datamodules.partitions import Partition
from datamodules.size_defaults import default_sizes
from datamodules.sources.source import Source
from pipelines.run_access import has_begun, settings_file
from pipelines.settings import read_yaml
from records.run_directory import RunDirectory
from records.study_directory import StudyDirectory

__all__ = ["fill_from_data"]

_CLASSES = "num_classes"
_SIZES = ("image_size", "batch_size", "eval_batch_size")


def fill_from_data(config: Namespace, given: Callable[[], Namespace]) -> None:
    """Put what the data say into settings that leave it out; one line names what is not the ordinary case.

    `num_classes`, wherever a class of the model takes it, becomes the number of the data's classes. Sizes are those
    with which the run was begun, or else `datamodules.size_defaults`. Data that cannot be read are left to whoever
    reads them next, unless the number of classes is wanted.

    Args:
        config: A verb's settings with every default, in which None is left out or meant; changed in place.
        given: The settings that somebody has typed or written, without defaults.

    Raises:
        ValueError: The number of classes is wanted and the data cannot tell it.

    """
    data = config.get("data")
    if not data or not data.get("source"):
        return
    said = [*_fill_classes(config, given), *_fill_sizes(config, data)]
    if said:
        rank_zero_info(f"From the data: {', '.join(said)}")


def _fill_classes(config: Namespace, given: Callable[[], Namespace]) -> Iterator[str]:
    wanted = [(name, place) for name, place in _classes_in(config.get("model"), "model") if _CLASSES in place]
    if not wanted:
        return
    if all(place[_CLASSES] is not None for _, place in wanted):
        # a default of the class itself gives way to the data, what somebody has written does not
        try:
            number = _source(config.data).num_classes
        except (ValueError, OSError):
            return
        wanted = [(name, place) for name, place in wanted if place[_CLASSES] != number]
        if not wanted:
            return
        written = dict(_classes_in(given().get("model"), "model"))
        wanted = [(name, place) for name, place in wanted if _CLASSES not in written.get(name, Namespace())]
    else:
        number = _source(config.data).num_classes
        wanted = [(name, place) for name, place in wanted if place[_CLASSES] is None]
    for name, place in wanted:
        place[_CLASSES] = number
        yield f"{name}.{_CLASSES} {number}"


def _classes_in(value: Any, name: str) -> Iterator[tuple[str, Namespace]]:
    """Arguments of every class in settings, with the name by which the command line calls them."""
    if isinstance(value, Namespace):
        arguments = value.get("init_args") if "class_path" in value else value
        if isinstance(arguments, Namespace):
            if arguments is not value:
                yield name, arguments
            for key in list(arguments.__dict__):
                yield from _classes_in(arguments[key], f"{name}.{key}")


def _fill_sizes(config: Namespace, data: Namespace) -> Iterator[str]:
    missing = [name for name in _SIZES if data.get(name) is None]
    if not missing:
        return
    then = _begun_with(Path(config.run_dir))
    for name in missing:
        data[name] = then.get(name)
    if then:
        return
    try:
        partition = _made(Partition, data.get("partition"))
        sizes = default_sizes(_source(data), partition, data.image_size, data.crop_size)
    except (ValueError, OSError):
        # whoever reads the images next says so better
        return
    for name in missing:
        if (value := getattr(sizes, name, None)) is not None:
            data[name] = list(value) if isinstance(value, tuple) else value
    if sizes.reason:
        told = [f"data.{name} {data[name]}" for name in missing if data[name] is not None]
        yield f"{', '.join(told)} ({sizes.reason})"


def _begun_with(run_dir: Path) -> dict[str, Any]:
    """The data's settings of a run, a study or an ensemble that has left something; none of one that has not."""
    run = RunDirectory(run_dir)
    try:
        kept = settings_file(run)
        if kept is None or not (has_begun(run_dir) or StudyDirectory(run_dir).runs()):
            return {}
    except OSError:
        # whoever works in it says so better
        return {}
    then = read_yaml(kept).get("data")
    return then if isinstance(then, dict) else {}


def _source(data: Namespace) -> Source:
    source = _made(Source, data.source)
    if source is None:
        raise DataError(
            "expected data.source, got none; set it to a data set such as datamodules.sources.folder.Folder"
        )
    return source


def _made(kind: type[Any], settings: Any) -> Any:
    """The object that settings describe."""
    if settings is None:
        return None
    maker = ArgumentParser(exit_on_error=False)
    maker.add_argument("--it", type=kind)
    return maker.instantiate(maker.parse_object({"it": settings})).it
