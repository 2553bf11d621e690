"""What --ckpt_path may name, and which cycle may be queried with it: checked before Lightning looks at either."""

from pathlib import Path

import pytorch_lightning as pl
import torch

from callbacks.cycle import read_checkpoint
from records.run_directory import RunDirectory

__all__ = ["check_fitted", "checked_checkpoint", "no_weights"]


def checked_checkpoint(path: str, module: pl.LightningModule) -> str:
    """The whole name of a file with this network's weights; anything else is refused.

    Lightning would fetch what begins like an address, run the code in it, and take "best" and "last" for words.

    Args:
        path: What the user gave.
        module: Whose weights the file must hold, by name and shape.

    Raises:
        ValueError: There is no such file, or its weights are another network's or loss's or no finite numbers.
        RunDirectoryError: The file is no readable checkpoint.

    """
    if "://" in path:
        raise ValueError(f"--ckpt_path must be a file on this machine, got {path}; fetch it first")
    if not Path(path).is_file():
        raise ValueError(f"expected a checkpoint at {path}, got no such file; give one, such as a cycle's best.ckpt")
    saved = read_checkpoint(Path(path), "give another file")["state_dict"]
    own = module.state_dict()
    shapes, ours = ({k: v.shape for k, v in x.items() if isinstance(v, torch.Tensor)} for x in (saved, own))
    wrong = sorted(k for k in ours.keys() | shapes.keys() if ours.get(k) != shapes.get(k))
    if wrong and all(k.startswith("loss.") for k in wrong):
        raise ValueError(
            f"the checkpoint {path} belongs to another loss than model.loss describes ({len(wrong)} tensors differ, "
            f"{wrong[0]} first); give the settings it was trained with, which stand in its run's config.yaml"
        )
    if wrong:
        raise ValueError(
            f"the checkpoint {path} belongs to another network than model.network describes ({len(wrong)} tensors "
            f"differ, {wrong[0]} first); give the settings it was trained with, which stand in its run's config.yaml"
        )
    if broken := [k for k in shapes if not torch.isfinite(saved[k]).all()]:
        raise ValueError(
            f"the checkpoint {path} has weights that are not numbers (in {broken[0]} first), so its training went "
            "wrong; give another, or train again with a lower learning rate"
        )
    return str(Path(path).absolute())


def no_weights(verb: str, run_dir: Path) -> ValueError:
    """What is raised where a verb needs --ckpt_path and has none.

    Args:
        verb: The verb.
        run_dir: Where it would find weights, had a fit been made there.

    """
    run = RunDirectory(run_dir)
    newest = [run.cycle(0), *(cycle for cycle in run.cycles() if cycle.is_fitted)][-1]
    return ValueError(f"{verb} needs trained weights, got no --ckpt_path; give one, such as {newest.best}")


def check_fitted(run_dir: Path, cycle: int) -> None:
    """In the run directory of a fit, refuse to query a cycle that has not been trained: its turn would be skipped.

    Args:
        run_dir: Where the query is made; one that no fit began may query at any time.
        cycle: The ledger's open cycle.

    Raises:
        ValueError: A fit began here and has not trained that cycle.

    """
    run = RunDirectory(run_dir)
    if run.config.is_file() and not run.cycle(cycle).is_fitted:
        raise ValueError(
            f"cycle {cycle} of {run_dir} has not been trained, so it cannot be queried; run fit with --cycles "
            f"{cycle + 1} first, or choose another --run_dir"
        )
