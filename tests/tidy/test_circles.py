"""No module imports itself, however long the way: not for types only, and not within a function either.

The contracts of import-linter say the same of modules that are siblings. Here every module counts, also a package that
imports one of its own modules, which imports the package.
"""

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
Graph = dict[str, set[str]]


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, package: str, modules: Iterable[str]) -> set[str]:
    """The modules, of those that there are, that a module of a package imports anywhere in its source."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{origin}.{alias.name}" for alias in node.names}
            found |= names
            if not names <= set(modules):  # something is a name of the package itself
                found.add(origin)
    return found & set(modules)


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """A way from each module back to itself, where there is one; each circle once, by its shortest way."""
    found = []
    for start in sorted(graph):
        ways = {start: [start]}
        queue = [start]
        for module in queue:
            for imported in sorted(graph[module]):
                if imported == start:
                    if start == min(ways[module]):
                        found.append(ways[module])
                    queue.clear()
                    break
                if imported not in ways:
                    ways[imported] = [*ways[module], imported]
                    queue.append(imported)
    return found


def graph_of_source() -> Graph:
    paths = {module_name(path): path for path in SOURCE.rglob("*.py")}
    return {
        name: imports_of(
            path.read_text(), name if path.name == "__init__.py" else name.rpartition(".")[0], paths.keys()
        )
        - {name}
        for name, path in paths.items()
    }


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = graph_of_source()
    assert len(graph) > 400
    assert "headwater.storage.log" in graph["headwater.storage.store"]
    assert circles(graph) == []


@pytest.mark.parametrize(
    "source",
    [
        "import a.b",
        "from a import b",
        "from a.b import something",
        "from . import b",
        "from .b import something",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.b import something",
        "def late():\n    from a.b import something",
        "class Late:\n    def method(self):\n        import a.b",
    ],
)
def test_an_import_is_found_wherever_it_is(source: str) -> None:
    assert imports_of(source, "a", {"a", "a.b", "a.c"}) == {"a.b"}


def test_a_name_of_a_package_is_an_import_of_it() -> None:
    assert imports_of("from a import something, b", "a", {"a", "a.b"}) == {"a", "a.b"}


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"c"}, "b": {"a"}, "c": {"b"}, "d": {"a", "b"}}, [["a", "c", "b"]]),
        ({"a": {"b", "c"}, "b": set(), "c": {"d"}, "d": {"c"}}, [["c", "d"]]),
    ],
)
def test_circles_are_found(graph: Graph, expected: list[list[str]]) -> None:
    assert circles(graph) == expected
