"""Tables that people give to the verbs assign and review."""

from pathlib import Path

import pandas as pd

from datamodules.files import DataError

__all__ = ["read_table"]


def read_table(path: Path) -> pd.DataFrame:
    """Read a table; a CSV file's cells stay text, so that names such as 007 and NA are kept as they are written.

    Args:
        path: A file in parquet format if its suffix says so, else in CSV.

    Raises:
        DataError: The file is missing or damaged.
    """
    if not path.is_file():
        raise DataError(f"expected a table at {path}, got no such file; check the path")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    # pandas and pyarrow raise exceptions of many unrelated classes
    except Exception as error:
        raise DataError(f"{path} is not a readable table ({error}); write it as CSV or parquet") from error
