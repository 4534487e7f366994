"""The import graph, read from the source: no loops, layers in one order, no harness in the library.

Every import counts: those inside functions and those that only type checkers read, too.
"""

import ast
from functools import cache
from pathlib import Path

import pytest

import hypergradient
from hypergradient.study.declare.fields import FIGURES
from hypergradient.study.report.gallery import GALLERY

LAYERS = (
    {"errors", "extras"},
    {"files", "html", "import_by_name"},
    {"tasks"},
    {"methods"},
    {"declare"},
    {"train"},
    {"run"},
    {"results"},
    {"figures"},
    {"report"},
    {"landscape"},
    {"status"},
    {"live", "log"},
    {"commands", "completion"},
    {"comparison"},
    {"cli"},
)
"""The files and folders of the harness. Each imports only from its own layer and earlier ones."""

APART = {"landscape": {"errors", "files", "html", "import_by_name", "tasks", "methods", "figures"}}
"""What a part of the harness that stands beside the flow of data may import, besides itself."""

LIBRARY_DOORS = {
    "hypergradient",
    "hypergradient.functions",
    "hypergradient.engine.iterates",
    "hypergradient.engine.learning_rate",
    "hypergradient.engine.optimizer",
    "hypergradient.engine.rules",
}
"""The modules of the library that the harness may import."""

STUDY = "hypergradient.study"
COMMAND = "hypergradient.__main__"
"""`python -m hypergradient`: the one module of the library that imports the harness."""


def sources(package):
    """Return the source of every module below a package's folder, by the module's name."""
    found = {}
    for path in package.rglob("*.py"):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found[name] = path.read_text(encoding="utf-8"), path.name == "__init__.py"
    return found


@cache
def imports(name, source, *, is_package):
    """Return the dotted names that a module imports, wherever in it the statement stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: len(name.split(".")) - node.level + is_package]
            module = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def graph(modules):
    """Return which of the modules each one imports."""

    def module_of(name):
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return name

    edges = {}
    for name, (source, is_package) in modules.items():
        names = imports(name, source, is_package=is_package)
        edges[name] = {module_of(each) for each in names} - {"", name}
    return edges


def loops(edges):
    """Return the groups of modules that import each other in a circle."""

    def reached(start):
        seen, waiting = set(), [start]
        while waiting:
            for name in edges.get(waiting.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        return seen

    reach = {name: reached(name) for name in edges}
    circles = {
        frozenset(other for other in reach[name] if name in reach[other])
        for name in edges
        if name in reach[name]
    }
    return sorted(map(sorted, circles))


def part_of(module):
    """Return the file or folder of the harness that a module is in; "" is the package itself."""
    return module.removeprefix(STUDY).strip(".").partition(".")[0]


def wrong_ways(edges):
    """Return the imports within the harness that go against the order of its layers."""
    place = {part: number for number, parts in enumerate(LAYERS) for part in parts}
    wrong = []
    for name, imported in edges.items():
        if not name.startswith(STUDY) or name == STUDY:
            continue
        for other in imported:
            own, theirs = part_of(name), part_of(other)
            if not other.startswith(STUDY) or own == theirs:
                continue
            beside = own in APART and theirs not in APART[own]
            # A harness module that imports the package itself would close a loop at run time.
            if other == STUDY or place[theirs] >= place[own] or beside:
                wrong.append(f"{name} -> {other}")
    return sorted(wrong)


def harness_in_library(edges):
    """Return the imports of the harness by modules of the library."""
    return sorted(
        f"{name} -> {other}"
        for name, imported in edges.items()
        for other in imported
        if not name.startswith(STUDY) and other.startswith(STUDY) and name != COMMAND
    )


def back_doors(edges):
    """Return the harness's imports of modules of the library that are not open to it."""
    return sorted(
        f"{name} -> {other}"
        for name, imported in edges.items()
        for other in imported
        if name.startswith(STUDY)
        and not other.startswith((STUDY, "hypergradient.engine"))
        and other not in LIBRARY_DOORS
    )


@pytest.fixture(scope="module")
def modules():
    found = sources(Path(hypergradient.__file__).parent)
    assert {"hypergradient", STUDY, f"{STUDY}.train.training"} < found.keys()
    return found


@pytest.fixture(scope="module")
def edges(modules):
    return graph(modules)


def test_the_harness_has_no_import_loops(edges):
    assert loops({name: others for name, others in edges.items() if name.startswith(STUDY)}) == []


def test_the_library_has_no_import_loops(edges):
    assert loops({name: o for name, o in edges.items() if not name.startswith(STUDY)}) == []


def test_the_engine_knows_no_optimizer_that_is_built_on_it(edges):
    engine = {name: o for name, o in edges.items() if name.startswith("hypergradient.engine")}
    assert engine
    for name, others in engine.items():
        outside = {each for each in others if not each.startswith("hypergradient.engine")}
        assert not outside, name


def test_the_harness_is_layered(edges):
    parts = {part_of(name) for name in edges if name.startswith(STUDY)} - {""}
    assert parts == set().union(*LAYERS)
    assert wrong_ways(edges) == []


def test_only_the_command_line_imports_the_landscape_lab(edges):
    lab = f"{STUDY}.landscape"
    users = {name for name, others in edges.items() if any(o.startswith(lab) for o in others)}
    assert {part_of(name) for name in users} == {"cli", "landscape"}


def test_the_library_never_imports_the_harness(edges):
    assert harness_in_library(edges) == []


def test_the_harness_imports_the_library_by_its_front_doors(edges):
    assert back_doors(edges) == []


def test_figures_that_a_study_can_name_are_those_of_the_gallery():
    assert tuple(GALLERY) == FIGURES


LAZY = "def f():\n    from hypergradient.study.{0} import x\n"
TYPED = "if TYPE_CHECKING:\n    from hypergradient.study import {0}\n"


@pytest.mark.parametrize("statement", [LAZY, TYPED])
@pytest.mark.parametrize(
    ("check", "module", "imported"),
    [
        (harness_in_library, "hypergradient.engine.deep.rate", "errors"),
        (harness_in_library, "hypergradient.options", "train.training"),
        (wrong_ways, "hypergradient.study.tasks.registry", "methods.registry"),
        (wrong_ways, "hypergradient.study.declare.study", "report.gallery"),
        (wrong_ways, "hypergradient.study.landscape.page", "report.page"),
        (loops, "hypergradient.study.run.locks", "run.store"),
        (loops, "hypergradient.study.errors", "cli"),
    ],
)
def test_a_planted_violation_is_found(modules, check, module, imported, statement):
    if statement is TYPED and "." in imported:
        package, _, leaf = imported.rpartition(".")
        planted = statement.format(leaf).replace(STUDY, f"{STUDY}.{package}")
    else:
        planted = statement.format(imported)
    source, is_package = modules.get(module, ("", False))
    changed = graph(modules | {module: (f"{source}\n{planted}", is_package)})
    assert any(module in str(found) for found in check(changed))


def test_a_relative_import_is_seen():
    assert imports("a.b.c", "from ..d import e", is_package=False) == {"a.d.e"}
    assert imports("a.b", "from .d import e\nimport x.y", is_package=True) == {"a.b.d.e", "x.y"}
