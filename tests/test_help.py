"""What help costs: a verb without a network imports none of what networks need."""

import subprocess
import sys

import pytest

import cli
from tests.conftest import ROOT

HEAVY = ("torch", "pytorch_lightning", "statsmodels", "sklearn", "wandb", "albumentations")


@pytest.mark.parametrize("arguments", [["--help"], ["asign"], *([verb, "--help"] for verb in cli.PLAIN_VERBS)])
def test_help_of_a_plain_verb_imports_no_torch(arguments: list[str]) -> None:
    # tests have imported everything: only an interpreter of its own can tell
    program = (
        "import sys, cli\n"
        "try:\n    cli.main(sys.argv[1:])\n"
        f"finally:\n    print('imported:', *(m for m in {HEAVY} if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].split() == ["imported:"], done.stderr
