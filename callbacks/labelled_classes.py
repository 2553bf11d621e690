"""What a cycle's fit trains on, class by class."""

import numpy as np
import pandas as pd

from datamodules.pool import Pool
from records.files import write_table
from records.run_directory import CycleDirectory

__all__ = ["labelled_classes", "write_labelled_classes"]


def labelled_classes(pool: Pool) -> pd.DataFrame:
    """Count what is labelled. Every labelled image's annotation is read once, as in one epoch of training.

    Args:
        pool: Of the run.

    Returns:
        class and units, where images are classified; or class, pixels, and images in which any of these are. Void, and
        what nobody has drawn, is no class.
    """
    names = list(pool.source.class_names)
    if pool.source.target == "label":
        found = [pool.read_class(pool.image_of(unit_id)) for unit_id in pool.labelled]
        units = np.bincount(np.array(found, dtype=np.int64), minlength=len(names))[: len(names)]
        return pd.DataFrame({"class": names, "units": units})
    pool.source.prepare()
    annotations = pool.training_annotations()
    pixels, images = np.zeros((2, len(names)), dtype=np.int64)
    for image_id in pool.training_images():
        counts = np.bincount(annotations.read_annotation(image_id).ravel(), minlength=len(names))[: len(names)]
        pixels += counts
        images += counts > 0
    return pd.DataFrame({"class": names, "pixels": pixels, "images": images})


def write_labelled_classes(directory: CycleDirectory, counts: pd.DataFrame) -> None:
    """Write the counts of a fit into its cycle's folder.

    Args:
        directory: The cycle's.
        counts: From `labelled_classes`.
    """
    write_table(directory.labelled_classes, counts)
