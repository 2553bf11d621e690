"""What docs/architecture.md promises about the source itself."""

import ast
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import FunctionType
from typing import TypeGuard

import pytest

from tests.test_contracts import CONTRACTS

ROOT = Path(__file__).resolve().parent.parent

# who may import whom; every room may import itself
MAY_IMPORT = {
    "acquisition": set(),
    "records": set(),
    "lightning_modules": {"acquisition"},
    "datamodules": {"acquisition", "records"},
    "callbacks": {"acquisition", "records", "lightning_modules", "datamodules"},
    "annotators": {"acquisition", "records", "lightning_modules", "datamodules"},
    "pipelines": {"acquisition", "records", "lightning_modules", "datamodules", "callbacks", "annotators"},
    "reports": {"records", "acquisition.functional", "acquisition.seeding"},
    "bridges": {"datamodules", "records"},
}
ROOMS = [room for room in MAY_IMPORT if (ROOT / room).is_dir()]
SOURCES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))] + [ROOT / "cli.py"]
SKIPPED = {"runs", "wandb", "build", "dist", "__pycache__"}
each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of every import in a file, also of those inside functions; name is "" for plain imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: rooms are imported by their full names"
            yield from ((node.module or "", alias.name) for alias in node.names)


def allowed(module: str, name: str, rooms: set[str]) -> bool:
    target = f"{module}.{name}."
    return any(target.startswith(f"{room}.") for room in rooms)


def test_rooms_are_found() -> None:
    assert set(MAY_IMPORT) - {"bridges"} <= set(ROOMS)
    assert len(SOURCES) > 25


@each_source
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    rooms = {*MAY_IMPORT, "cli.py"} if room == "cli.py" else {room, *MAY_IMPORT[room]}
    ours = [(m, n) for m, n in imports(path) if m.partition(".")[0] in {*MAY_IMPORT, "cli", "tests", "benchmarks"}]
    assert [f"{m}.{n}" for m, n in ours if not allowed(m, n, rooms)] == []


@pytest.mark.parametrize("path", sorted((ROOT / "acquisition").rglob("*.py")), ids=lambda p: p.name)
def test_acquisition_knows_torch_and_numpy_only(path: Path) -> None:
    tops = {module.partition(".")[0] for module, _ in imports(path)}
    assert tops - set(sys.stdlib_module_names) <= {"torch", "numpy", "acquisition"}


@each_source
def test_the_engine_is_asked_through_its_package(path: Path) -> None:
    if path.parent.name != "engine":
        assert [module for module, _ in imports(path) if module.startswith("acquisition.engine.")] == []


@pytest.mark.parametrize("name", ["scorer", "doctor"])
def test_nobody_is_asked_what_it_is(name: str) -> None:
    """Acquisition functions and predictors answer by what they are; whoever scores does not tell them apart."""
    tree = ast.parse((ROOT / "acquisition" / f"{name}.py").read_text())
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in ("isinstance", "issubclass", "type")]


def test_acquisition_imports_in_no_circle() -> None:
    """The engine counts as one module: whoever imports a part of it runs all of it."""

    def module(name: str) -> str:
        return ".".join(name.split(".")[:2])

    graph: dict[str, set[str]] = {}
    for path in (ROOT / "acquisition").rglob("*.py"):
        own = module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found = {module(f"{m}.{n}") for m, n in imports(path) if m.partition(".")[0] == "acquisition"}
        graph.setdefault(own, set()).update(found - {own})
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", sorted((ROOT / "records").glob("*.py")), ids=lambda p: p.name)
def test_records_know_no_torch_and_no_lightning(path: Path) -> None:
    tops = {module.partition(".")[0] for module, _ in imports(path)}
    assert tops - set(sys.stdlib_module_names) <= {"numpy", "pandas", "pyarrow", "records"}


def names_of_files() -> tuple[set[str], set[str]]:
    """What the directories of records/ put below them: names of files, and of folders."""
    trees = [ast.parse((ROOT / "records" / f"{name}_directory.py").read_text()) for name in ("run", "study")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {node.right.value for node in nodes if is_join(node) and isinstance(node.right, ast.Constant)}
    files = {name for name in names if "." in name}
    return files, names - files


def is_join(node: ast.AST) -> TypeGuard[ast.BinOp]:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)


def spelled_names(tree: ast.AST) -> Iterator[str]:
    """Names of a run directory's files that a source spells itself: a text that is one or a path to one, a folder
    that is joined to a path, a cycle's number with two digits. A text with a space in it is a message or a docstring.
    """
    files, folders = names_of_files()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if not re.search(r"\s", node.value) and node.value.rpartition("/")[2] in files:
                yield node.value
        elif is_join(node) and isinstance(node.right, ast.Constant) and node.right.value in folders:
            yield str(node.right.value)
        elif isinstance(node, ast.FormattedValue) and node.format_spec and "02d" in ast.unparse(node.format_spec):
            yield ast.unparse(node)


@each_source
def test_only_records_name_files_of_a_run_directory(path: Path) -> None:
    if path.parent.name != "records":
        assert list(spelled_names(ast.parse(path.read_text()))) == []


def test_a_spelled_name_is_found() -> None:
    files, folders = names_of_files()
    assert {"config.yaml", "ledger.sqlite", "learning_curve.csv", "best.ckpt", "metrics.json", "study.csv"} <= files
    assert {"cycles", "maps", "predictions", "report", "members", "jobs"} <= folders
    for source in (
        'p / "cycles"',
        'NAME = "scores.parquet"',
        'p.glob("*/metrics.json")',
        'f"{p}/config.yaml"',
        'f"{n:02d}"',
    ):
        assert list(spelled_names(ast.parse(source))), source
    for source in ('"see config.yaml"', 'settings["cycles"]', '"""Writes best.ckpt."""', 'f"{p} of best.ckpt is"'):
        assert not list(spelled_names(ast.parse(source))), source


def test_files_can_be_read_in_one_sitting() -> None:
    lengths = {p.relative_to(ROOT).as_posix(): len(p.read_text().splitlines()) for p in SOURCES}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


BELOW_PIPELINES = [p for p in SOURCES if p.relative_to(ROOT).parts[0] in MAY_IMPORT["pipelines"]]
# masks of several people are put on top of each other, and so are tensors; neither is a stack of networks
OF_NETWORKS = re.compile(
    r"\bstack(?:ed)?\W+(?:of\W+)?(?:fit|network|run|module|member)|\bstack's\b|grid\.stacked", re.IGNORECASE
)


@pytest.mark.parametrize("path", BELOW_PIPELINES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_below_pipelines_knows_of_stacks_of_networks(path: Path) -> None:
    assert OF_NETWORKS.findall(path.read_text()) == []


def callers(name: str) -> set[str]:
    """Files that call a function or a method of this name."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and (getattr(node.func, "attr", "") or getattr(node.func, "id", "")) == name
    }


def test_each_step_of_a_cycle_stands_once() -> None:
    """Whoever fits, a Lightning trainer or a stack: what the docs call one cycle is one piece of code."""
    assert callers("why_stop") == {"pipelines/stopping.py"}
    assert callers("write_queried") == {"callbacks/choice.py"}
    assert callers("collect") == {"pipelines/cycles.py"}
    assert callers("write_metrics") == callers("write_checkpoint") - {"pipelines/stacked.py"} == {"callbacks/cycle.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "lightning_modules/networks").glob("*.py")), ids=lambda p: p.name)
def test_networks_never_import_lightning(path: Path) -> None:
    assert not {m for m, _ in imports(path) if m.startswith(("pytorch_lightning", "lightning."))}


def test_what_there_is_to_label_knows_no_lightning() -> None:
    lightning = ("pytorch_lightning", "lightning")
    files = [p for p in SOURCES if p.relative_to(ROOT).parts[0] == "datamodules"]
    knowing = {p.relative_to(ROOT).as_posix() for p in files for m, _ in imports(p) if m.startswith(lightning)}
    assert knowing == {"datamodules/datamodule.py", "datamodules/loop.py"}


def test_one_file_knows_albumentations() -> None:
    knowing = {p.relative_to(ROOT).as_posix() for p in SOURCES for m, _ in imports(p) if m.startswith("albumentations")}
    assert knowing == {"datamodules/transforms.py"}


def private(name: str) -> bool:
    # _generate_next_value_ and its kind, and a named tuple's _fields, are documented for all to use
    return name.startswith("_") and not name.endswith("_") and not name.startswith("__") and name != "_fields"


def private_names(path: Path) -> tuple[set[str], set[str]]:
    """Private names that a file defines, and those that it takes from something other than self, cls or itself."""
    defined, used = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Attribute):
            on_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            (defined if on_itself else used).add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            used.update(alias.name for alias in node.names)
    return set(filter(private, defined)), set(filter(private, used))


def test_private_names_stay_in_their_module() -> None:
    names = {path: private_names(path) for path in SOURCES}
    everything = set().union(*(defined for defined, _ in names.values()))
    strays = {str(path.relative_to(ROOT)): used & (everything - defined) for path, (defined, used) in names.items()}
    assert {path: found for path, found in strays.items() if found} == {}


def mentioned(path: Path) -> tuple[set[str], set[str]]:
    """Private names that a file gives to anything, and those that it gives or takes at all, from itself as well."""
    given, mentioned = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            given.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            (given if isinstance(node.ctx, ast.Store) else mentioned).add(name)
        elif isinstance(node, ast.ImportFrom):
            mentioned.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr"):
            mentioned.update(a.value for a in node.args[1:2] if isinstance(a, ast.Constant))
    return set(filter(private, given)), set(filter(private, given | mentioned))


def overridden(path: Path) -> set[str]:
    """Private methods of other libraries' classes that a file's classes override, meaning to or not."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    classes = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    ours = {*ROOMS, "cli"}
    return {
        name
        for c in classes
        for name, value in vars(c).items()
        if private(name) and isinstance(value, FunctionType | property | classmethod | staticmethod)
        if any(name in vars(base) for base in c.__mro__ if base.__module__.partition(".")[0] not in ours)
    }


def test_private_names_of_other_libraries_are_used_in_one_file_each() -> None:
    """Those that tests/test_contracts.py watches, where it says, and no others."""
    names = {path: mentioned(path) for path in SOURCES}
    watched = {c.name for c in CONTRACTS}
    ours = set().union(*(given for given, _ in names.values())) - watched
    used = {
        (path.relative_to(ROOT).as_posix(), name)
        for path, (_, found) in names.items()
        for name in (found - ours) | overridden(path)
    }
    assert used == {(c.file, c.name) for c in CONTRACTS}


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    there = {p.parent.relative_to(ROOT).as_posix().replace("/", ".") for r in ROOMS for p in (ROOT / r).rglob("*.py")}
    assert set(listed["packages"]) == there
    assert all((ROOT / p.replace(".", "/") / "__init__.py").is_file() for p in there)
    assert listed["py-modules"] == ["cli"]


@each_source
def test_what_a_module_exports_is_there(path: Path) -> None:
    tree = ast.parse(path.read_text())
    exported: list[str] = []
    there: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            there.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            flat = [n for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)]
            there.update(n.id for n in flat)
            if any(n.id == "__all__" for n in flat):
                exported = ast.literal_eval(node.value)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            there.update((a.asname or a.name) for a in node.names)
    assert set(exported) <= there
    if path.name not in ("__init__.py", "cli.py"):
        assert exported, "a module says what it exports"


@each_source
def test_void_has_one_name(path: Path) -> None:
    """255 as a number of its own is the largest value of a byte, and not a pixel that nobody judges."""
    numbers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assign)]
    named = [n for n in numbers if isinstance(n.value, ast.Constant) and n.value.value in (254, 255)]
    assert not named or path.name == "annotation.py"


def documented(path: Path) -> Iterator[tuple[str, list[str], str]]:
    """(name, arguments, docstring) of every public class, with its fields or constructor's arguments, and function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or private(node.name):
            continue
        names: list[str] = []
        inner = [n for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        for function in [node] if isinstance(node, ast.FunctionDef) else inner:
            given = function.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
            names += [a.arg for a in every if a is not None and a.arg not in ("self", "cls")]
        if isinstance(node, ast.ClassDef) and not inner:
            names = [n.target.id for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
        yield node.name, names, ast.get_docstring(node) or ""


@each_source
def test_arguments_are_described_in_a_section_of_their_own(path: Path) -> None:
    """jsonargparse turns the section into help; ruff's D417 finds a function's arguments that are missing in it."""
    for name, arguments, docstring in documented(path):
        text, _, section = docstring.partition("\nArgs:\n")
        section = re.split(r"\n\n?(?=\S)", section)[0]
        described = re.findall(r"^    \**(\w+): ", section, re.MULTILINE)
        in_prose = [a for a in arguments if re.search(rf"(?:^|[\s.;]){a}: ", text)]
        assert in_prose == [], f"{name} describes arguments outside of Args"
        # a subclass may describe arguments that it inherits
        own = bool(arguments)
        assert not own or set(described) <= set(arguments), f"{name} describes arguments that it does not have"


@each_source
def test_papers_are_cited_by_author_and_year(path: Path) -> None:
    assert re.findall(r"(?i)\bseed 00\d|\bthe thesis\b|\bthesis [\d,]", path.read_text()) == []


def text_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        parts = path.relative_to(ROOT).parts
        hidden = any(p.startswith(".") and p not in (".ci", ".gitignore") for p in parts)
        if hidden or SKIPPED & set(parts) or any(p.endswith(".egg-info") for p in parts):
            continue
        if path.is_file() and path.suffix not in (".png", ".jpg", ".sqlite", ".parquet", ".ckpt"):
            yield path


def test_no_file_names_a_machine_or_a_registry() -> None:
    hosts = r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com)|index-url|extra-index"
    folders = r"(?<![\w.~])/(?:home|root|work|Users|mnt|scratch)/\w"
    files = list(text_files())
    assert len(files) > 40
    found = {}
    for path in files:
        if path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if re.search(f"{hosts}|{folders}", line):
                found[f"{path.relative_to(ROOT)}:{number}"] = line.strip()
    assert found == {}
