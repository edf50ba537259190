"""Sockets, threads, processes and files are for the shells: what decides can be tested without them."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "headwater"
SHELLS = ("broker/shell", "client", "bus", "effects", "http", "planes", "cli", "testing")
OF_SHELLS = {
    "asyncio",
    "concurrent",
    "confluent_kafka",
    "multiprocessing",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "uvloop",
}
CORES = (  # what decides in a folder of shells
    "client/backoff.py",
    "client/conversation.py",
    "client/membership.py",
    "client/offsets.py",
    "client/progress.py",
)
EXCEPTIONS = {
    "storage/checkpoint.py": {"threading"}
}  # a deletion in the owner's thread waits for an aid that is written


def modules() -> list[str]:
    paths = (str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))
    of_shells = tuple(f"{shell}/" for shell in SHELLS)
    return sorted(path for path in paths if path in CORES or not path.startswith(of_shells))


def names_of_shells(tree: ast.AST) -> set[str]:
    """What a module imports, anywhere in it, or calls, that only shells may."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            found.add("open")
    return found & {*OF_SHELLS, "open"}


@pytest.mark.parametrize("path", modules())
def test_only_shells_have_sockets_threads_processes_and_files(path: str) -> None:
    found = names_of_shells(ast.parse((SOURCE / path).read_text()))
    assert found == EXCEPTIONS.get(path, set())


@pytest.mark.parametrize(
    "source",
    ["import socket", "def f():\n    from asyncio import sleep", "from concurrent.futures import Future", "open('x')"],
)
def test_what_only_shells_may_have_is_found_anywhere(source: str) -> None:
    assert names_of_shells(ast.parse(source))


def test_a_method_of_that_name_is_not_a_file() -> None:
    assert not names_of_shells(ast.parse("files.open('x')"))
