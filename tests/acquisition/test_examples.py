"""The examples in docstrings run, and every public function and class has one."""

import doctest
import inspect
import re

import pytest

from acquisition import aggregation, functional, regions, selection, statistics

MODULES = [functional, statistics, aggregation, regions, selection]
EXAMPLES = [test for module in MODULES for test in doctest.DocTestFinder().find(module) if test.examples]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_an_example_gives_what_it_says(example: doctest.DocTest) -> None:
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.REPORT_NDIFF).run(example, out=report.append)
    assert not report, "".join(report)


PUBLIC = {f"{m.__name__}.{name}": getattr(m, name) for m in MODULES for name in m.__all__}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_describes_its_arguments_and_shows_itself(name: str) -> None:
    public, text = PUBLIC[name], inspect.getdoc(PUBLIC[name]) or ""
    sections = {"Args", "Returns", "Example"} if inspect.isfunction(public) else {"Example"}
    assert sections <= set(re.findall(r"^(\w+):$", text, re.MULTILINE))
    # the docstring of a class describes the arguments of its constructor
    called = public if inspect.isfunction(public) else public.__init__
    if inspect.isfunction(called) and called.__module__.startswith("acquisition."):
        described = set(re.findall(r"^    (\w+): ", text, re.MULTILINE))
        assert set(inspect.signature(called).parameters) - {"self"} <= described
