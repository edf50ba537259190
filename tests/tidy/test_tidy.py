"""The repository keeps itself in shape: what must be in it, and what must not."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def sources() -> list[Path]:
    generated = ROOT / "src" / "headwater" / "protocol" / "messages"
    return [path for path in (ROOT / "src").rglob("*.py") if generated not in path.parents]


def test_public_classes_and_functions_of_the_core_say_what_they_are() -> None:
    silent = []
    for path in sources():
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" and ast.get_docstring(tree) is None:
            silent.append(path.name)
        silent += [
            f"{path.name}: {node.name}"
            for node in tree.body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None
        ]
    assert [name for name in silent if "SyncAnswer" not in name] == []


def test_no_path_of_a_machine_is_in_the_repository() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        names = [str(path.relative_to(ROOT)) for path in sources()]
    else:
        names = listed.stdout.splitlines()
    pattern = re.compile(r"(^|[^A-Za-z0-9_.])/(work|farm|root|home/\w+)/", re.MULTILINE)
    for name in names:
        if name.endswith((".lock", ".sum", ".jsonl", ".json")) or name == "tests/tidy/test_tidy.py":
            continue
        assert not pattern.search((ROOT / name).read_text(errors="replace")), name


def test_what_handles_clients_requests_logs_in_single_lines() -> None:
    """A logger of `effects.logs` escapes what clients name; one of `logging` does not."""
    parts = ("broker", "coordinators", "http", "security", "storage")
    paths = [path for part in parts for path in (ROOT / "src" / "headwater" / part).rglob("*.py")]
    assert len(paths) > 100
    assert [path.name for path in paths if "logging.getLogger" in path.read_text()] == []
