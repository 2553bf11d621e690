"""The manual: its commands run or parse, its links lead somewhere, and what it mentions is there."""

import importlib
import inspect
import re
from functools import wraps
from pathlib import Path

import pytest

import cli
from pipelines.plain_verbs import function_at
from tests.pages import PAGES, ROOT, TINY, commands, is_setting, mentioned, name_of

OWN_TESTS = {"docs/extending.md": "test_extending", "docs/first-hour.md": "test_first_hour"}
"""Pages whose commands need files that other tests make, and these tests."""
each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)
README = ROOT / "README.md"


def runs(command: list[str]) -> bool:
    """Whether a command needs nothing but the scenes that it draws itself."""
    return "configs/quickstart.yaml" in command and "CKPT" not in command


def test_the_readme_runs_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    ran = [c[0] for c in commands(README) if runs(c) and cli.main([*c, *TINY]) is None]
    assert ran == ["fit", "fit", "query", "validate", "test", "predict"]
    assert (tmp_path / "runs" / "mine" / "cycles" / "03" / "queried.csv").is_file()


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, id=f"{name_of(page)}-{number}")
        for page in PAGES[1:]
        if name_of(page) not in OWN_TESTS
        for number, command in enumerate(filter(runs, commands(page)))
    ],
)
def test_commands_that_need_no_data_run(
    page: Path, command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    cli.main([*command, *TINY, "--cycles", "1"])
    assert (tmp_path / "runs").is_dir()


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) not in OWN_TESTS], ids=name_of)
def test_other_commands_parse(page: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    others = [c for c in commands(page) if not runs(c) and "VERB" not in c]
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
        if not Path(command[command.index("--config") + 1]).is_file():
            continue
        with pytest.raises(SystemExit) as stop:
            cli.main([*command, "--print_config"])
        assert stop.value.code == 0, command
    assert len(understood) == sum(c[0] in plain for c in others)


def test_enough_commands_are_found() -> None:
    assert all((ROOT / "tests" / f"{name}.py").is_file() for name in OWN_TESTS.values())
    found = {name_of(page): len(commands(page)) for page in PAGES}
    assert found["README.md"] >= 6
    assert found["docs/commands.md"] >= 2
    assert sum(found.values()) > 50


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)]+)\)|<img src=\"([^\"]+)\"", page.read_text())
    for link in map("".join, links):
        path, _, heading = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [p.name for p in PAGES[1:] if p.name != "README.md" and f"]({p.name})" not in index] == []


@each_page
def test_classes_that_are_named_are_there(page: Path) -> None:
    paths = {match[0] for name in mentioned(page) if (match := re.match(r"(?:\w+\.)+[A-Z]\w+", name))}
    for path in sorted(paths):
        module, _, name = path.rpartition(".")
        if (ROOT / module.partition(".")[0]).is_dir():
            assert hasattr(importlib.import_module(module), name), path


@each_page
def test_settings_that_are_named_are_there(page: Path) -> None:
    roots = r"model|data|strategy|trainer|wandb|members|suspicion|grid"
    names = {match[1] for text in mentioned(page) if (match := re.match(rf"(?:--)?((?:{roots})\.[\w.]+)", text))}
    assert [name for name in sorted(names) if not is_setting(name.rstrip("."))] == []


def test_a_setting_that_is_not_there_is_found() -> None:
    for name in ("model.network.widht", "data.source.roots", "strategy.budged", "nothing.at.all"):
        assert not is_setting(name)
    for name in ("model.network.width", "data.source.root", "strategy.predictor.num_samples", "trainer.max_epochs"):
        assert is_setting(name)


def test_arguments_in_the_table_of_strategies_are_there() -> None:
    names = ("functions", "predictors", "aggregation", "selection", "limits")
    modules = [importlib.import_module(f"acquisition.{name}") for name in names]
    page = ROOT / "docs" / "strategies.md"
    calls = [call for text in mentioned(page) if (call := re.match(r"([\w.]+)\(([\w, ]+)\)", text))]
    assert len(calls) > 6
    for call in calls:
        kind = next(vars(m)[name] for m in modules if (name := call[1].rpartition(".")[2]) in vars(m))
        assert set(call[2].split(", ")) <= set(inspect.signature(kind).parameters), call[0]
