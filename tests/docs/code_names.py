"""The names that a document gives of the code, and whether the code has them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "headwater"
PATH = r"(?:\.?[\w-]+/)*[\w-]+\.(?:py|json|jsonl|md|toml)|(?:[\w-]+/)+"
QUALIFIED = re.compile(rf"`({PATH})::([\w.]+)`")
PATH_ALONE = re.compile(rf"`({PATH})`")
IN_A_DIAGRAM = re.compile(rf"^[ │├└]*([A-Za-z_][\w.]*) {{2,}}({PATH})", re.MULTILINE)
MEMBER = r"[A-Z]\w*[a-z]\w*(?:\.\w+)+"
DIAGRAM = re.compile(r"```text\n(.*?)```", re.DOTALL)


class CodeName(NamedTuple):
    """A path, and what is to be found in it: a function, a class, a method, or an assignment; "" for the path alone."""

    path: str
    name: str


def located(path: str) -> Path | None:
    """Where a document's path leads: below the package, or below the repository."""
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)


def named_code(text: str) -> list[CodeName]:
    """All that a document names with its path, in prose and in diagrams."""
    found = [CodeName(path, name) for path, name in QUALIFIED.findall(text)]
    found += [CodeName(path, "") for path in PATH_ALONE.findall(text)]
    for diagram in DIAGRAM.findall(text):
        found += [CodeName(path, name) for name, path in IN_A_DIAGRAM.findall(diagram)]
        found += [CodeName(path, "") for path in re.findall(rf"(?<![\w/.])({PATH})", diagram)]
    return found


def members_alone(text: str) -> list[str]:
    """Members of classes that it names without a path."""
    found = re.findall(f"`({MEMBER})`", text)
    return found + [name for diagram in DIAGRAM.findall(text) for name in re.findall(rf"(?<![\w.])({MEMBER})", diagram)]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Every function, class, method, attribute and variable that a module defines, methods as `Class.method`."""
    return frozenset(defined(ast.parse(path.read_text()).body, ""))


def defined(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield prefix + node.name
                if prefix and node.name == "__init__":
                    yield from attributes_set(node, prefix)
            case ast.ClassDef():
                yield prefix + node.name
                yield from defined(node.body, f"{prefix}{node.name}.")
            case ast.Assign():
                yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield prefix + name


def attributes_set(function: ast.FunctionDef | ast.AsyncFunctionDef, prefix: str) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield prefix + node.attr


@cache
def all_names() -> frozenset[str]:
    """As `names_in`, of the whole package."""
    return frozenset(name for path in PACKAGE.rglob("*.py") if "messages" not in path.parts for name in names_in(path))


def untrue(text: str) -> list[str]:
    """What a document names that is not there."""
    found = []
    for path, name in named_code(text):
        place = located(path)
        if place is None:
            found.append(path)
        elif name and name not in names_in(place):
            found.append(f"{path}::{name}")
    return found + [name for name in members_alone(text) if name not in all_names()]
