"""Command lines, read and rewritten without being run."""

import json

import pytest

from pipelines.command import as_verb, with_units_last


@pytest.mark.parametrize(
    ("words", "own", "units"),
    [
        (["--run_dir", "run", "a", "b c"], ["--run_dir", "run"], ["a", "b c"]),
        (["a", "--run_dir", "run", "b"], ["--run_dir", "run"], ["a", "b"]),
        (["--run_dir=run", "a#crop=0,0,2,2"], ["--run_dir=run"], ["a#crop=0,0,2,2"]),
        (["--help"], ["--help"], None),
        (["--run_dir"], ["--run_dir"], None),
    ],
)
def test_words_of_no_option_are_units(words: list[str], own: list[str], units: list[str] | None) -> None:
    found = with_units_last(words)
    assert found[: len(own)] == own
    assert found[len(own) :] == ([] if units is None else ["--units", json.dumps(units)])


def test_the_same_for_another_verb() -> None:
    words = ["start", "--config", "my file.yaml", "--count", "5", "--spread=random", "--data.batch_size", "4"]
    same = "dropquery fit --config 'my file.yaml' --data.batch_size 4"
    assert as_verb(words, "fit", ("count", "spread")) == same
    assert as_verb(["fit"], "start") == "dropquery start"
