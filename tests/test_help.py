"""What help says, and what it costs: a verb without a network imports none of what networks need."""

import importlib
import subprocess
import sys

import pytest

import cli
from pipelines.class_names import import_rooms, names_below, places_of
from pipelines.command_line import DropqueryCLI
from pipelines.parsers import VerbParser
from tests.conftest import ROOT

HEAVY = ("torch", "pytorch_lightning", "statsmodels", "sklearn", "wandb", "albumentations")


def test_a_plain_verb_imports_no_torch_for_its_help() -> None:
    # tests have imported everything: only an interpreter of its own can tell
    program = (
        "import sys, cli\n"
        f"for words in {[['--help'], ['asign'], *([verb, '--help'] for verb in cli.PLAIN_VERBS)]}:\n"
        "    try:\n        cli.main(words)\n"
        f"    except SystemExit:\n        print('imported by', words, [m for m in {HEAVY} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    imported = [line for line in done.stdout.splitlines() if line.startswith("imported by")]
    assert len(imported) == len(cli.PLAIN_VERBS) + 2, done.stderr
    assert [line for line in imported if not line.endswith("[]")] == []


CLASSES = [
    name
    for kind in ("Source", "Partition", "Oracle", "Corruption", "InitialSet", "AcquisitionFunction", "Aggregation",
                 "Selection", "Predictor", "Module", "LightningModule", "StoppingCriterion")
    for name in names_below(kind)
]  # fmt: skip


@pytest.mark.parametrize("verb", [*cli.EXPERIMENT_VERBS, *cli.PLAIN_VERBS])
def test_help_of_a_verb_has_words_for_every_option(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert text.startswith(f"usage: dropquery {verb}")
    lines = text.splitlines()
    assert len(lines) < 250
    options = [n for n, line in enumerate(lines) if line.startswith("  -")]
    assert options or verb == "moons"
    wordless = [lines[n] for n in options if not lines[n].startswith("  --trainer.") and not lines[n + 1][6:].strip()]
    assert wordless == []
    assert verb not in cli.EXPERIMENT_VERBS or text.index("--run_dir") < text.index("--model") < text.index(
        "--trainer."
    )


def test_every_class_of_ours_has_words_for_every_option() -> None:
    import_rooms()
    wordless = []
    for name in CLASSES:
        for place in places_of(name):
            found = getattr(importlib.import_module(place), name)
            parser = VerbParser(prog=name)
            parser.verb = name
            parser.add_class_arguments(found, fail_untyped=False)
            options = [o for s in parser.sections() for o in s.options]
            wordless += [f"{place}.{name} {o.name}" for o in options if len(o.words) < 12]
    assert len(CLASSES) > 60
    assert wordless == [], wordless


def test_help_of_a_group_and_of_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in (
        ("fit --help wandb", "--wandb.project"),
        ("fit --help trainer", "TensorBoardLogger"),
        ("fit --data.source.help Folder", "--data.source.val_fraction"),
        ("fit --model SegmentationModule --model.network.help=FCN8s", "  --model.network.width float"),
        ("fit --strategy.acquisition.help BALD", "acquisition.functions.BALD has no options of its own"),
    ):
        with pytest.raises(SystemExit, match="0"):
            cli.main(command.split())
        text = capsys.readouterr().out
        assert words in text
        assert "--run_dir" not in text
    with pytest.raises(SystemExit, match="1"):
        cli.main(["fit", "--help", "tariner"])
    assert "did you mean trainer?" in capsys.readouterr().err


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], []):
        with pytest.raises(SystemExit, match="0"):
            cli.main(arguments)
        text = capsys.readouterr().out
        for verb in (*cli.EXPERIMENT_VERBS, *cli.PLAIN_VERBS):
            (line,) = (line for line in text.splitlines() if line.startswith(f"  {verb} "))
            assert len(line.split()) > 3
    assert "dropquery submit [options] VERB ..." in text
    assert set(DropqueryCLI.subcommands()) | {"study"} == set(cli.EXPERIMENT_VERBS)
