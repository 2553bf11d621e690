"""The Python of docs/python.md runs in its order and prints what the page says."""

import re
import tempfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_the_page_runs_and_prints_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    text = PAGE.read_text()
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"```python\n(.*?)```", text, flags=re.DOTALL))
    assert len(blocks) == 6
    for block in blocks:
        promised = re.findall(r"^print\(.*\)  # (.*)$", block[1], flags=re.MULTILINE)
        assert promised
        capsys.readouterr()
        # numbered as the page is, so that a traceback shows its line
        lines_before = "\n" * text.count("\n", 0, block.start(1))
        exec(compile(lines_before + block[1], PAGE, "exec"), names)
        assert capsys.readouterr().out.splitlines() == promised
