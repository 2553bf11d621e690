"""What users see of a run, and of what the libraries below it have to say."""

import logging
import os
import re
import termios
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from pipelines.command import with_command_last
from pipelines.messages import arrange_messages
from pipelines.verbosity import is_verbose, takes_verbose
from tests import forked

NOTES = logging.getLogger("datamodules")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    handlers, level, form = NOTES.handlers, NOTES.level, warnings.formatwarning
    with warnings.catch_warnings():
        yield
    NOTES.handlers, NOTES.level, warnings.formatwarning = handlers, level, form
    os.environ.pop("DROPQUERY_VERBOSE", None)
    arrange_messages()


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_alone_shows_what_data_sets_say(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", rank)
    arrange_messages()
    arrange_messages()
    assert NOTES.handlers == logging.getLogger("pytorch_lightning").handlers
    assert logging.getLogger("datamodules.sources.folder").isEnabledFor(logging.INFO) == (rank == 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.warn_explicit("empty masks", UserWarning, "pool.py", 1, module="datamodules.pool")
    assert len(caught) == (rank == 0)


@pytest.mark.parametrize(
    ("path", "level", "shown"),
    [
        ("callbacks/query.py", logging.INFO, True),
        (str(Path(pl.__file__).parent / "trainer" / "setup.py"), logging.INFO, False),
        (str(Path(pl.__file__).parent / "trainer" / "setup.py"), logging.WARNING, True),
        (str(Path(pl.__file__).parent / "callbacks" / "early_stopping.py"), logging.INFO, True),
    ],
)
def test_notes_are_shown_by_who_says_them(monkeypatch: pytest.MonkeyPatch, path: str, level: int, shown: bool) -> None:
    handler = logging.NullHandler()
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "handlers", [handler])
    record = logging.LogRecord("any", level, path, 1, "said", None, None)
    for verbose in (False, True, False):
        arrange_messages(verbose)
        assert bool(handler.filter(record)) == (shown or verbose)


def test_warnings_of_libraries_are_for_those_who_ask_and_others_are_one_line(capsys: pytest.CaptureFixture) -> None:
    def said(module: str, category: type[Warning] = UserWarning) -> str:
        warnings.warn_explicit("beware", category, f"{module}.py", 1, module=module, registry={})
        return capsys.readouterr().err

    warnings.showwarning = lambda *a, **k: print(warnings.formatwarning(*a[:4]), end="", file=__import__("sys").stderr)
    arrange_messages()
    assert said("mine") == "warning: beware\n"
    assert said("torch.cuda") == "warning: beware\n", "a driver that is too old is worth a line"
    for module, category in (("albumentations.core", UserWarning), ("torch.nn", FutureWarning)):
        assert not said(module, category)
    arrange_messages(verbose=True)
    assert said("albumentations.core").startswith("albumentations.core.py:1: UserWarning: beware")


def test_the_option_stands_anywhere_and_reaches_jobs() -> None:
    assert takes_verbose(["fit", "--cycles", "2"]) == ["fit", "--cycles", "2"]
    assert not is_verbose()
    assert takes_verbose(["submit", "fit", "-v"]) == ["submit", "fit", "-v"], (
        "a command that is submitted keeps its own"
    )
    assert with_command_last(["--time", "60", "-v", "fit", "-v"]) == ["--time", "60", "--command", '["fit", "-v"]']
    assert with_command_last(["-v", "--wait", "fit"]) == ["--wait", "true", "--command", '["fit", "-v"]']
    assert not is_verbose()
    assert takes_verbose(["-v", "fit", "--verbose"]) == ["fit"]
    assert is_verbose()
    assert os.environ["DROPQUERY_VERBOSE"], "jobs that this process starts find it there"


def test_a_run_says_one_line_per_phase_to_a_pipe(
    dropquery: Callable[..., CompletedProcess[str]], tiny_config: Path, tmp_path: Path
) -> None:
    command = ["fit", "--config", tiny_config, "--run_dir", tmp_path / "run", "--cycles"]
    done = dropquery(*command, "2")
    assert not done.stdout
    phases, _, end = done.stderr.partition("\n\n")
    patterns = [
        r"Cycle 0 fit: 5 labelled units, 3 epochs in \d\d:\d\d; loss \d+\.\d{4}, val/miou \d\.\d{4} at epoch \d",
        r"Cycle 0 query: 19 units scored by BALD-Mean-TopK in \d\d:\d\d",
        r"Cycle 0 label: 4 queried, all labelled",
        r"Cycle 1 fit: 9 labelled units, 3 epochs in \d\d:\d\d; loss \d+\.\d{4}, val/miou \d\.\d{4} at epoch \d",
    ]
    lines = phases.splitlines()
    assert len(lines) == len(patterns), done.stderr
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line), line
    assert len(end.splitlines()) == 8, "the curve of two cycles, its area, and where pictures and page are"
    assert not set(done.stderr) & {"\r", "\x1b"}
    more = dropquery(*command, "1", "-v", "--run_dir", tmp_path / "loud", "--trainer.max_epochs", "1").stderr
    assert "GPU available" in more
    assert "Cycle 0 fit: " in more
    assert len(more.splitlines()) > len(done.stderr.splitlines())


@pytest.mark.parametrize("bar", [True, False])
def test_a_terminal_gets_one_bar_per_fit_that_makes_room_for_the_line(
    tiny_digits: Path, tmp_path: Path, bar: bool
) -> None:
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (40, 120))
    terminal = Path(os.ttyname(slave))
    rest = ["--cycles", "1", *([] if bar else ["--trainer.enable_progress_bar", "false"])]
    command = ["fit", "--config", tiny_digits, "--run_dir", tmp_path / "run", *rest]
    with forked.start(command, {**os.environ, "OMP_NUM_THREADS": "1"}, stderr=terminal) as process:
        os.set_blocking(master, False)
        text, code = b"", None
        while code is None:
            code = process.poll(0.05)
            try:
                text += os.read(master, 1 << 16)
            except BlockingIOError:
                continue
    os.close(slave)
    os.close(master)
    said = text.decode()
    assert code == 0, said
    assert ("\r" in said.replace("\r\n", "\n")) == bar
    assert bool(re.search(r"\rCycle 0 fit, epoch \d+/20 +\d+%\|.*\| \d\d:\d\d<\d\d:\d\d, loss \d\.\d{4}", said)) == bar
    assert len(re.findall(r"(?:^|[\r\n])Cycle 0 fit: 20 labelled units, 20 epochs in ", said)) == 1
    assert "it/s" not in said
