"""Processes that are forked end as others do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked


def says_its_place() -> None:
    print(sys.argv[1:], os.environ["COLOUR"], Path.cwd())
    sys.exit("it is over")


def fails() -> None:
    raise RuntimeError("no reason")


def sleeps() -> None:
    subprocess.run([sys.executable, "-S", "-c", "import time; print('on', flush=True); time.sleep(60)"])


def test_arguments_environment_output_and_exit(tmp_path: Path) -> None:
    done = forked.run(["a", 1], {"COLOUR": "red"}, tmp_path, target=f"{__name__}:says_its_place")
    assert (done.stdout, done.stderr, done.returncode) == (f"['a', '1'] red {tmp_path}\n", "it is over\n", 1)
    assert "COLOUR" not in os.environ


def test_a_traceback_and_a_usage_error() -> None:
    done = forked.run([], target=f"{__name__}:fails")
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: no reason\n")
    assert forked.run(["no-verb"]).returncode == 2


def test_kill_ends_what_the_process_started() -> None:
    with forked.start([], target=f"{__name__}:sleeps") as process:
        while not process.stdout.exists() or "on" not in process.stdout.read_text():
            time.sleep(0.01)
        assert process.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        process.kill()
        assert process.wait(10) == -signal.SIGKILL
    # the kernel may take a moment
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
    pytest.fail("what it started lives on")
