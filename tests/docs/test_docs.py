"""The documents tell the truth: their Python runs, their commands exist, every setting and gap is written down."""

import re
from pathlib import Path

import pytest

import headwater
from headwater import testing
from headwater.broker.configs.properties_file import read_properties
from headwater.broker.configs.setting_classes import HONOURED
from headwater.broker.configs.settings import Settings, own_defaults, value_text
from headwater.broker.configs.token_settings import token_settings
from headwater.broker.dispatch import SERVED
from headwater.broker.shell.ready import Ready
from headwater.cli.client_config import client_config
from headwater.cli.profiles import find_profile
from headwater.cli.up import parser
from tests.docs.walk import shape

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PACKAGE = ROOT / "src" / "headwater"


PYTHON_BLOCK = re.compile(r"```python\n(.*?)```(?:\n+It prints:\n+```text\n(.*?)```)?", re.DOTALL)
PRINTED_BESIDE = re.compile(r"print\(.*?\)\s+# (b'.*)|# prints: (.*)")
PORT = re.compile(r"127\.0\.0\.1:\d+")


def python_blocks() -> list[tuple[str, str, str]]:
    """Each block's name, its code, and what it prints where the document says so."""
    return [
        (f"{path.relative_to(ROOT)}-{n}", block, printed)
        for path in DOCUMENTS
        for n, (block, printed) in enumerate(PYTHON_BLOCK.findall(path.read_text()))
    ]


@pytest.mark.parametrize(
    ("name", "block", "whole_output"), python_blocks(), ids=lambda value: value if value[-1:].isdigit() else ""
)
def test_python_runs(name: str, block: str, whole_output: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, name, "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    for expected in PRINTED_BESIDE.findall(block):
        assert "".join(expected) in printed
    if whole_output:  # a port is another one each time
        assert shape(printed) == shape(whole_output) if PORT.search(whole_output) else printed == whole_output


@pytest.mark.parametrize(
    ("name", "block", "whole_output"), python_blocks(), ids=lambda value: value if value[-1:].isdigit() else ""
)
def test_what_python_prints_is_shown(name: str, block: str, whole_output: str) -> None:
    """A reader who sees a `print` sees what it prints, below the program or beside the line."""
    assert whole_output or block.count("print(") == len(PRINTED_BESIDE.findall(block))


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_the_files_that_documents_show_are_read_without_a_complaint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients' settings, a profile, and the line for programs. MirrorMaker's file is used by tests/interop, and Prometheus's by
    nobody here: its address is that of the page's commands, which tests/docs/test_walks.py runs.
    """
    for document in ("docs/reference/cli.md", "docs/how-to/secure-a-broker.md"):
        text, *others = blocks(document, "properties")
        config = client_config(read_properties(text), document)
        assert config.settings["sasl.mechanism"] == "SCRAM-SHA-512"
        assert config.settings["sasl.password"] == "correct horse"
        assert config.without_effect == []
        if others:  # a broker that takes tokens, and a client of it
            of_broker, of_client = others
            settings = Settings.from_pairs(read_properties(of_broker))
            assert token_settings(settings, "SASL_SSL").rules.audiences == ("kafka",)
            assert client_config(read_properties(of_client), document).without_effect == []
    (profile,) = blocks("docs/reference/cli.md", "toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "headwater").mkdir()
    (tmp_path / "headwater" / "profiles.toml").write_text(profile)
    assert find_profile("production").settings["sasl.username"] == "alice"
    (line,) = blocks("docs/how-to/start-from-a-program.md", "json")
    assert Ready.from_line(line).addresses == {"PLAINTEXT": "127.0.0.1:41837"}
    languages = {word for path in DOCUMENTS for word in re.findall(r"^ *```(\w+)$", path.read_text(), re.MULTILINE)}
    assert languages == {"console", "json", "properties", "python", "text", "toml", "yaml"}


def test_links_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.relative_to(ROOT)}: {link}"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    missing = [key for key in {*own_defaults(), *HONOURED} if f"`{key}`" not in text]
    assert missing == []


@pytest.mark.parametrize("document", ["docs/reference/settings.md", "SECURITY.md"])
def test_the_defaults_that_are_written_down_are_so(document: str) -> None:
    """Each row of a table that begins with keys and has as many defaults beside them."""
    checked = 0
    for keys_cell, defaults_cell in re.findall(
        r"^\| (`[^|]*`) \| ([^|]*) \|", (ROOT / document).read_text(), re.MULTILINE
    ):
        keys = re.findall(r"`([^`]+)`", keys_cell)
        defaults = [word.strip(" `") for word in defaults_cell.split(", ")]
        if len(keys) != len(defaults):
            continue
        for key, default in zip(keys, defaults, strict=True):
            if key in own_defaults() and not isinstance(own_defaults()[key], str):
                assert default == value_text(own_defaults()[key]), key
                checked += 1
    assert checked >= 8


def test_security_names_tests_that_exist() -> None:
    text = (ROOT / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::([\w:]+)`|`…::([\w:]+)`", text)
    assert len(named) > 10
    path = ROOT
    for file, name, again in named:
        path = ROOT / file if file else path
        for part in (name or again).split("::"):
            assert re.search(rf"(def|class) {part}\b", path.read_text()), f"{path.relative_to(ROOT)}::{part}"


def test_every_public_name_is_documented() -> None:
    text = (ROOT / "docs" / "reference" / "python-api.md").read_text()
    names = [name for name in (*headwater.__all__, *testing.__all__) if not name.startswith("__")]
    assert [name for name in names if f"`{name}`" not in text] == []


def test_commands_in_the_readme_exist() -> None:
    make_targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in DOCUMENTS:
        for target in re.findall(r"`make ([a-z-]+)`|^\$ make ([a-z-]+)", path.read_text(), re.MULTILINE):
            assert (target[0] or target[1]) in make_targets
    options = {option for action in parser()._actions for option in action.option_strings}
    assert {
        "--data",
        "--listen",
        "--advertise",
        "--durability",
        "--config",
        "--set",
        "--metrics",
        "--ready-fd",
    } <= options


def test_each_folder_has_a_readme() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")} - {PACKAGE}
    exempt = {PACKAGE / "protocol" / "messages", PACKAGE / "broker" / "handlers"}  # told in the folder above
    assert [folder for folder in folders - exempt if not (folder / "README.md").exists()] == []


def test_each_handler_says_its_versions() -> None:
    for key in SERVED:
        text = (PACKAGE / "broker" / "handlers" / f"{key.name.lower()}.py").read_text()
        assert re.match(r'"""[A-Za-z]+, \d', text), f"{key.name} does not begin with its versions"


def test_the_readme_has_five_rows_of_the_benchmarks() -> None:
    """As they are there: two tables that differ would both be doubted."""
    table = (ROOT / "README.md").read_text().split("## Beside Apache Kafka")[1].split("\n## ")[0]
    rows = re.findall(r"^\| [a-z].*\|$", table, re.MULTILINE)
    assert len(rows) == 5
    all_rows = (ROOT / "docs" / "benchmarks.md").read_text().splitlines()
    assert [row for row in rows if row not in all_rows] == []
    assert any(float(row.split("|")[-2].strip(" ×")) < 1 for row in rows), "one row shows where Kafka is better"


def test_the_first_screen_says_what_it_is_and_is_not() -> None:
    first_screen = (ROOT / "README.md").read_text().split("\n## ")[0]
    for question in ("Who it is for", "What it replaces", "What it does not do", "Why trust it"):
        assert f"- **{question}.**" in first_screen
    assert len(first_screen.splitlines()) <= 30
    assert re.findall(r"!\[.+\]\((.+\.svg)\)", first_screen)
