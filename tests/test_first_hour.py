"""docs/first-hour.md: every command typed in its order in a folder of its own, and what comes out compared.

Networks are smaller than a user's and train for less (`tiny`), so numbers are not compared.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipelines.submit import slurm_answers
from tests import forked
from tests.pages import ROOT, TINY, files_of

PAGE = ROOT / "docs" / "first-hour.md"
FOLDER = [
    "--model.network=lightning_modules.networks.FCN8s", "--model.network.width=0.03", "--model.network.weights=null",
    "--data.image_size=[32,48]", "--data.crop_size=[32,48]", "--data.batch_size=2", "--data.num_workers=0",
    "--strategy.predictor.num_samples=2", "--strategy.pictures=0", "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu", "--wandb.mode=disabled",
]  # fmt: skip
"""What makes a network on a folder of images learn in seconds."""


def sections() -> dict[str, str]:
    """Text of each first hour, by its heading."""
    _, *parts = re.split(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def sessions(text: str) -> list[tuple[str, list[str]]]:
    """(command, lines that came out) of a text's console blocks."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def tiny(command: list[str]) -> list[str]:
    """What is added to a command, so that it takes seconds; nothing where nothing is computed."""
    sent = command[0] == "submit" and "--dry_run" not in command
    if command[0] not in ("fit", "start", "predict", "study") and not sent:
        return []
    return TINY if "configs/quickstart.yaml" in command else FOLDER


def plain(line: str) -> str:
    """A line without its numbers, and with one space for many."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "#", line).split())


def type_in(typed: str, here: Path) -> str:
    """What a command prints; one of dropquery in a forked process, another one in a shell."""
    program = re.match(r"(?:python cli\.py|dropquery|python (draw_roads)\.py) (.*)", typed)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{here}{os.pathsep}{ROOT}"}
    if program is None:
        return subprocess.run(typed, shell=True, cwd=here, env=environment, capture_output=True, text=True).stdout
    arguments = shlex.split(program[2], comments=True)
    target = "cli:main" if program[1] is None else f"{program[1]}:main"
    more = tiny(arguments) if program[1] is None else []
    printed = here / "printed"
    printed.unlink(missing_ok=True)
    with forked.start([*arguments, *more], environment, here, printed, printed, target) as process:
        process.wait(300)
    text = printed.read_text(errors="replace")
    for option in more:
        text = text.replace(f" {shlex.quote(option)}", "")
    return text


ON_SLURM = {"A cluster": [pytest.mark.slurm, pytest.mark.xdist_group("slurm")]}


@pytest.mark.parametrize("heading", [pytest.param(heading, marks=ON_SLURM.get(heading, [])) for heading in sections()])
def test_what_is_typed_gives_what_stands_there(heading: str, tmp_path: Path) -> None:
    for name in ("configs", "cli.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name, text in files_of(PAGE).items():
        (tmp_path / name).write_text(text)
    for typed, expected in sessions(sections()[heading]):
        if "--cluster slurm" in typed and "--dry_run" not in typed and not slurm_answers():
            continue
        printed = type_in(typed, tmp_path)
        lines = [plain(line) for line in re.split(r"[\n\r]", printed)]
        for line in expected:
            if line.strip() == "..." or not line.strip():
                continue
            assert plain(line) in lines, f"$ {typed}\n{printed}\nlacks: {line}"


def test_five_users_are_there() -> None:
    headings = list(sections())
    assert len([h for h in headings if sessions(sections()[h])]) >= 5
