"""The examples in docstrings run, and what is public describes its arguments."""

import doctest
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator

import pytest

import acquisition
from acquisition import aggregation, engine, functional, limits, regions, selection, statistics

MODULES = [functional, statistics, aggregation, regions, selection, limits]
EXAMPLES = [test for module in MODULES for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_an_example_gives_what_it_says(example: doctest.DocTest) -> None:
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(example, out=report.append)
    assert not report, "".join(report)


SHOWN = {f"{m.__name__}.{name}": getattr(m, name) for m in MODULES for name in m.__all__}


@pytest.mark.parametrize("name", SHOWN)
def test_these_show_themselves(name: str) -> None:
    sections = {"Args", "Returns", "Example"} if inspect.isfunction(SHOWN[name]) else {"Example"}
    assert sections <= set(re.findall(r"^(\w+):$", inspect.getdoc(SHOWN[name]) or "", re.MULTILINE))


def everything() -> Iterator[tuple[str, object]]:
    """Public functions, classes, and methods that a class defines or describes itself."""
    modules = [engine] + [importlib.import_module(f"acquisition.{m.name}") for m in pkgutil.iter_modules(PATH)]
    for module in modules:
        for name in getattr(module, "__all__", ()):
            public = getattr(module, name)
            if inspect.isfunction(public) or inspect.isclass(public):
                yield f"{module.__name__}.{name}", public
            if not inspect.isclass(public):
                continue
            for method, found in vars(public).items():
                found = getattr(found, "__func__", found)
                if inspect.isfunction(found) and not method.startswith("_") and found.__doc__:
                    yield f"{module.__name__}.{name}.{method}", found


PATH = acquisition.__path__
PUBLIC = dict(everything())


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_describes_its_arguments(name: str) -> None:
    public, text = PUBLIC[name], inspect.getdoc(PUBLIC[name]) or ""
    assert text
    # the docstring of a class describes the arguments of its constructor
    called = public.__init__ if inspect.isclass(public) else public
    if inspect.isfunction(called) and called.__module__.startswith("acquisition."):
        described = set(re.findall(r"^    \*{0,2}(\w+): ", text, re.MULTILINE))
        assert set(inspect.signature(called).parameters) - {"self", "cls"} <= described
