"""The verb label: labels that came without a query."""

import shlex
from pathlib import Path

from pipelines.settings import check_run_dir, read_yaml
from records.run_directory import RunDirectory

__all__ = ["label"]


def label(run_dir: Path, units: list[str]) -> None:
    """Move units that were labelled without a query into the labelled split of a run: all of them, or none.

    Their masks or classes must be there, drawn where the run's people draw (data.oracle). The next fit trains on them;
    one that was cut begins anew. Data set and oracle are those of the run's config.yaml.

    Args:
        run_dir: The directory of a run that has begun.
        units: Ids of units, as in the column unit_id of queried.csv; they may follow the options one after another.

    Raises:
        ValueError: A unit is unknown, labelled already, queried and waiting, rejected in review or not drawn yet, or
            the run has not begun. Nothing is labelled then.
        RunDirectoryError: Another process works in the directory.
    """
    run = RunDirectory(check_run_dir(str(run_dir)))
    if not run.config.is_file():
        raise ValueError(
            f"expected the settings of a run at {run.config}, got no such file; give the --run_dir of a fit that has "
            "begun"
        )
    if not units:
        raise ValueError("expected the ids of units to label, got none; name them after the options")
    # it brings torch, which the help of this verb does without
    from pipelines.label_units import label_units

    labelled = label_units(run, units)
    wanted = int(read_yaml(run.config).get("cycles") or 1)
    # where all fits are done, the same command would train on nothing
    more = f" --cycles {wanted + 1}" if run.cycle(wanted - 1).is_fitted else ""
    print(
        f"{len(units)} labelled, {labelled} in all; the next fit trains on them:\n"
        f"  dropquery fit --config {shlex.quote(str(run.config))} --run_dir {shlex.quote(str(run.path))}{more}"
    )
