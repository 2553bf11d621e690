"""Private names of other libraries: each is used in one file (tests/test_house.py), and is as that file expects."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from submitit.slurm.slurm import SlurmExecutor
from torch.nn.modules import batchnorm, conv

from pipelines.lightning_cli import VerbCLI


@dataclass(frozen=True)
class Contract:
    """A name of `library` that `file` uses.

    owner: gives the class or object that has the name, called `described` in messages. parameters: those that the file
    passes or overrides, or None for what is not called.
    """

    library: str
    described: str
    owner: Callable[[], Any]
    name: str
    file: str
    parameters: tuple[str, ...] | None = None


_CLI = "pipelines/lightning_cli.py"
_PACKING = "acquisition/engine/packing.py"

CONTRACTS = [
    *(
        Contract("pytorch-lightning", "LightningCLI", lambda: LightningCLI, name, _CLI, parameters)
        for name, parameters in (
            ("_add_arguments", ("self", "parser")),
            ("_add_subcommands", ("self", "parser", "kwargs")),
            ("_parse_ckpt_path", ("self",)),
            ("_parser", ("self", "subcommand")),
            ("_prepare_subcommand_parser", ("self", "klass", "subcommand", "kwargs")),
            ("_run_subcommand", ("self", "subcommand")),
            ("_set_seed", ("self",)),
        )
    ),
    Contract(
        "pytorch-lightning", "LightningCLI once it has verbs",
        lambda: _cli_with_verbs(), "_subcommand_parsers", _CLI,
    ),
    Contract("jsonargparse", "LightningArgumentParser", lambda: LightningArgumentParser(), "_actions", _CLI),
    Contract(
        "pytorch-lightning", "ModelCheckpoint",
        lambda: ModelCheckpoint, "_save_checkpoint", "callbacks/cycle.py", ("self", "trainer", "filepath"),
    ),
    Contract(
        "submitit", "SlurmExecutor",
        lambda: SlurmExecutor, "_make_submission_file_text", "pipelines/submit.py", ("self", "command", "uid"),
    ),
    Contract("submitit", "SlurmExecutor", lambda: SlurmExecutor, "_submitit_command_str", "pipelines/submit.py"),
    Contract("torch", "torch.nn.modules.batchnorm", lambda: batchnorm, "_BatchNorm", "acquisition/predictors.py"),
    Contract("torch", "torch.nn.modules.conv", lambda: conv, "_ConvNd", "acquisition/features.py"),
    Contract("torch", "a tensor", lambda: torch.zeros(1), "_version", "acquisition/engine/tape.py"),
    Contract("torch", "torch", lambda: torch, "_C", _PACKING),
    Contract("torch", "torch._C", lambda: torch._C, "_has_mkldnn", _PACKING),
    Contract("torch", "torch.ops.mkldnn", lambda: torch.ops.mkldnn, "_convolution_pointwise", _PACKING),
    Contract("torch", "torch.ops.mkldnn", lambda: torch.ops.mkldnn, "_reorder_convolution_weight", _PACKING),
    Contract(
        "torch", "a compiled module",
        lambda: torch.compile(torch.nn.Identity()), "_orig_mod", "acquisition/engine/sampler.py",
    ),
]  # fmt: skip


def _cli_with_verbs() -> LightningCLI:
    cli = LightningCLI.__new__(LightningCLI)
    cli.subcommands = dict  # type: ignore[method-assign]
    cli.trainer_class = object  # type: ignore[assignment]
    cli._add_subcommands(LightningArgumentParser())
    return cli


def broken(contract: Contract) -> str:
    """What is wrong with a name, in a sentence; "" where it is as expected."""
    who = f"{contract.library} {version(contract.library)}"
    what = f"{contract.described}.{contract.name}, which {contract.file} uses"
    remedy = f"change {contract.file} and tests/test_contracts.py, or keep the version of constraints.txt"
    if "mkldnn" in contract.described and not torch._C._has_mkldnn:
        return ""  # such a build of torch has another way
    try:
        found = getattr(contract.owner(), contract.name)
    except Exception as error:
        return f"{who} no longer has {what} ({type(error).__name__}: {error}); {remedy}"
    if contract.parameters is None:
        return ""
    got = tuple(inspect.signature(found).parameters)
    if got == contract.parameters:
        return ""
    expected = ", ".join(contract.parameters)
    return f"{who} has other parameters for {what}: expected ({expected}), got ({', '.join(got)}); {remedy}"


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda c: f"{c.described}.{c.name}")
def test_a_private_name_is_as_expected(contract: Contract) -> None:
    assert not (words := broken(contract)), words


def test_a_broken_contract_says_what_to_do() -> None:
    contract = next(c for c in CONTRACTS if c.name == "_parser")
    gone = broken(dataclasses.replace(contract, name="_gone"))
    assert gone.startswith(f"pytorch-lightning {version('pytorch-lightning')} no longer has LightningCLI._gone, which ")
    assert "change pipelines/lightning_cli.py" in gone
    changed = broken(dataclasses.replace(contract, parameters=("self",)))
    assert "expected (self), got (self, subcommand)" in changed


def test_the_subcommands_are_added_by_an_action_of_the_parser() -> None:
    """VerbCLI adds its verbs to the action that LightningCLI made, and finds it by this method's name."""
    parser = LightningArgumentParser()
    added = parser.add_subcommands()
    assert [a for a in parser._actions if hasattr(a, "add_subcommand")] == [added]


def test_overridden_names_take_what_lightning_passes() -> None:
    overridden = [c for c in CONTRACTS if c.described == "LightningCLI" and c.name in vars(VerbCLI)]
    assert len(overridden) > 3
    for contract in overridden:
        assert tuple(inspect.signature(getattr(VerbCLI, contract.name)).parameters) == contract.parameters
