"""Modules and functions are short, and the long ones of today may only shrink.

A module or function that is longer than its limit is in `largest.toml`, with its lines rounded up to ten. It may have no more
than that. When it has shrunk below the last ten, its number has to follow; when it is within the limit, its line has to go.
So the list can only get shorter. A new module or function is never put on it: split it, by a noun that its parts have.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = ROOT / "tests" / "tidy" / "largest.toml"
MODULE_LINES_MAX = {
    "src": 400,
    "tests": 600,
    "fuzz": 400,
    "benchmarks": 400,
    "examples": 400,
    "codegen": 400,
    ".ci": 400,
}
FUNCTION_LINES_MAX = {"src": 45, "tests": 60, "fuzz": 45, "benchmarks": 45, "examples": 45, "codegen": 45, ".ci": 45}
GENERATED = "src/headwater/protocol/messages/"
TENS = 10
Sizes = dict[str, int]  # by path, or path and name


def sources() -> dict[str, str]:
    """The text of each module that people write, by its path."""
    paths = {path.relative_to(ROOT).as_posix(): path for top in MODULE_LINES_MAX for path in (ROOT / top).rglob("*.py")}
    return {name: path.read_text() for name, path in paths.items() if not name.startswith(GENERATED)}


def function_sizes(path: str, tree: ast.AST, within: str = "") -> Iterator[tuple[str, int]]:
    """The lines of each function, named as pytest names tests: `path::Class.method`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = f"{within}.{node.name}" if within else node.name
            if not isinstance(node, ast.ClassDef):
                yield f"{path}::{name}", (node.end_lineno or node.lineno) - node.lineno + 1
            yield from function_sizes(path, node, name)
        else:
            yield from function_sizes(path, node, within)


def complaints(sizes: Sizes, limits: dict[str, int], listed: Sizes) -> list[str]:
    """What is too long, and each line of the list that has to change."""
    found = []
    for name, lines in sorted(sizes.items()):
        limit, allowed = limits[name.partition("/")[0]], listed.get(name)
        tens = -(-lines // TENS) * TENS
        if lines > (allowed or limit):
            found.append(f"{name} has {lines} lines; it may have {allowed or limit}")
        elif allowed is not None and lines <= limit:
            found.append(f"{name} is within the limit now: remove it from {LIST.name}")
        elif allowed is not None and tens < allowed:
            found.append(f"{name} has shrunk: write {tens} for {allowed} in {LIST.name}")
    return found + [f"{name} is gone: remove it from {LIST.name}" for name in sorted(listed.keys() - sizes.keys())]


def listed(kind: str) -> Sizes:
    sizes: Sizes = tomllib.loads(LIST.read_text())[kind]
    return sizes


def test_modules_are_short() -> None:
    sizes = {path: text.count("\n") for path, text in sources().items()}
    assert len(sizes) > 500
    assert complaints(sizes, MODULE_LINES_MAX, listed("modules")) == []


def test_functions_are_short() -> None:
    sizes: Sizes = {}
    for path, text in sources().items():
        for name, lines in function_sizes(path, ast.parse(text)):
            sizes[name] = max(lines, sizes.get(name, 0))  # a property has a name twice
    assert len(sizes) > 5000
    assert complaints(sizes, FUNCTION_LINES_MAX, listed("functions")) == []


def test_the_list_only_gets_shorter() -> None:
    limits = {"src": 40}
    sizes = {"src/same": 60, "src/grown": 61, "src/shrunk": 50, "src/short": 40, "src/new": 41, "src/usual": 40}
    wanted = {"src/same": 60, "src/grown": 60, "src/shrunk": 60, "src/short": 60, "src/gone": 60}
    assert complaints(sizes, limits, wanted) == [
        "src/grown has 61 lines; it may have 60",
        "src/new has 41 lines; it may have 40",
        "src/short is within the limit now: remove it from largest.toml",
        "src/shrunk has shrunk: write 50 for 60 in largest.toml",
        "src/gone is gone: remove it from largest.toml",
    ]


def test_functions_within_functions_and_classes_are_found() -> None:
    text = "class A:\n    def b(self):\n        def c():\n            pass\nif x:\n    async def d():\n        pass\n"
    assert list(function_sizes("p", ast.parse(text))) == [("p::A.b", 3), ("p::A.b.c", 2), ("p::d", 2)]
