"""A handler gets the parts of the broker that it uses, not the broker: roles stay as narrow as `parts.py` promises.

A type checker proves that a role has enough. That it has not too much nobody would notice.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

BROKER = Path(__file__).parents[2] / "src" / "headwater" / "broker"
ROLE_MODULES = ("authorization", "leadership", "parts", "visibility")


class Use(NamedTuple):
    """A part that a function asks its broker for, and the role that the function names."""

    role: str
    part: str


def trees() -> Iterator[ast.Module]:
    for path in [*sorted((BROKER / "handlers").glob("*.py")), *(BROKER / f"{name}.py" for name in ROLE_MODULES)]:
        yield ast.parse(path.read_text())


@cache
def roles() -> dict[str, tuple[set[str], set[str]]]:
    """Each role's own parts, and the roles that it inherits from directly."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for name in ROLE_MODULES:
        for node in ast.parse((BROKER / f"{name}.py").read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name.endswith("Parts"):
                parts = {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}  # type: ignore[union-attr]
                parts |= {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                found[node.name] = parts, {ast.unparse(base) for base in node.bases} - {"Protocol"}
    return found


def ancestors(role: str) -> set[str]:
    """The role, and all that it inherits from, however far up."""
    return {role}.union(*(ancestors(base) for base in roles()[role][1]))


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each function that has a broker, and how the broker is typed."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.args.args and node.args.args[0].arg == "broker":
                annotation = node.args.args[0].annotation
                yield "nothing" if annotation is None else ast.unparse(annotation), node


@cache
def uses() -> set[Use]:
    return {
        Use(role, node.attr)
        for role, function in functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "broker"
    }


def test_every_function_with_a_broker_names_a_role() -> None:
    assert {role for role, _ in functions()} <= set(roles())


def test_every_handler_has_a_broker() -> None:
    modules = {path for path in (BROKER / "handlers").glob("*.py") if path.stem != "__init__"}
    assert len([function for _, function in functions() if function.name == "handle"]) == len(modules) > 50


@pytest.mark.parametrize("role", sorted(roles()))
def test_a_role_has_no_part_that_nothing_asks_it_for(role: str) -> None:
    """What is added to a role, its handlers or those of a role that inherits it use."""
    used = {use.part for use in uses() if role in ancestors(use.role)}
    assert roles()[role][0] - used == set()
