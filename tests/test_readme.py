"""The README's commands run and its links lead somewhere."""

import re
import shlex
from functools import wraps
from pathlib import Path

import pytest

import cli
from pipelines.plain_verbs import function_at
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
TINY = [
    "--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1",
    "--data.source.num_train=70", "--data.source.num_val=2", "--data.source.num_test=2", "--data.source.size=[32,48]",
    "--data.crop_size=[32,48]", "--model.network.width=0.03",
    "--strategy.predictor.num_samples=2", "--strategy.pictures=0", "--wandb.mode=disabled", "--trainer.accelerator=cpu",
]  # fmt: skip


def commands() -> list[list[str]]:
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    return [line[2:] for line in lines if line[:2] == ["python", "cli.py"]]


def test_the_quickstart_commands_run_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    ran = [c[0] for c in commands() if "configs/quickstart.yaml" in c and cli.main([*c, *TINY]) is None]
    assert ran == ["fit", "fit", "query", "validate", "test", "predict", "fit"]
    assert (tmp_path / "runs" / "mine" / "cycles" / "03" / "queried.csv").is_file()


def test_other_commands_parse(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    others = [c for c in commands() if "configs/quickstart.yaml" not in c]
    assert others
    # verbs without a YAML have no --print_config: they are called, and only note that their arguments were understood
    plain = {name: place for name, place in cli.PLAIN_VERBS.items() if name != "submit"}
    understood: list[dict[str, object]] = []
    for place in plain.values():
        noting = wraps(function_at(place))(lambda **settings: understood.append(settings))
        monkeypatch.setattr(place.replace(":", "."), noting)
    for command in others:
        if command[0] in plain:
            cli.main(command)
            continue
        if command[0] == "submit":
            untrained = ["--model.network.weights", "null"]
            cli.main(["submit", "--cluster", "slurm", "--dry_run", "true", *command[1:], *untrained])
            continue
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, "--print_config"])
        assert stop.value.code == 0
    assert len(understood) == sum(c[0] in plain for c in others)


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *sorted(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))],
)
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\((?!http)([^)#]+)", path.read_text())
    assert all((path.parent / link).exists() for link in links)


def test_class_paths_in_the_readme_exist() -> None:
    import importlib

    paths = re.findall(r"`((?:datamodules|lightning_modules|acquisition)\.[\w.]+\.[A-Z]\w+)`", README)
    assert len(paths) >= 6
    for path in paths:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)
