"""Each command that a document shows is run as its reader would run it, and what it prints is compared; or its reason is here."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import headwater as hw
from tests.certificates import make_certificate
from tests.docs.consoles import Shown, commands_in
from tests.docs.walk import Walk, shape
from tests.interop.servers import free_port

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
PASSWORD = "correct horse"
# What a test does not run, by how the line begins.
NOT_RUN = {
    "make ": "runs these tests, or installs; test_commands_in_the_readme_exist looks for the target",
    ".venv/bin/python -m pytest": "runs tests",
    "kcat ": "is another program; tests/interop/test_clients.py runs it",
    "sudo ": "changes the machine; tests/docs/test_deployment.py reads the unit",
    "journalctl ": "needs systemd",
    "docker ": "needs Docker; tests/docs/test_deployment.py reads the Dockerfile",
    "bin/connect-mirror-maker.sh ": "is Kafka's; tests/interop/test_mirror_maker.py runs it with the page's file",
}
# Documents with commands of whose output something differs with each run.
BY_SHAPE = {"back-up-and-restore", "check-and-repair", "start-from-a-program", "first-broker"}
# What is typed where a command asks.
TYPED = {"headwater user create .*": PASSWORD, "headwater doctor ./data --repair": "n"}
Prepare = Callable[[Walk], None]


def nothing(walk: Walk) -> None:
    """The document begins with an empty directory."""


def running(walk: Walk) -> None:
    """A broker on the default address, as the text above the commands says."""
    walk.follow(Shown("headwater up --data ./data", ""))


def running_with_records(walk: Walk) -> None:
    running(walk)
    walk.run("seq 1000 | headwater produce orders")


def damaged(walk: Walk) -> None:
    """A directory with one flipped bit in the second of three batches."""
    data = walk.directory / "data"
    with hw.Broker(data) as broker, hw.Producer(broker) as producer:
        for batch in range(3):
            producer.send("orders", f"record {batch} of some length").result()
    segment = next((data / "orders-0").glob("*.log"))
    content = bytearray(segment.read_bytes())
    content[content.index(b"record 1 of") + 3] ^= 4
    segment.write_bytes(content)


def certified(walk: Walk) -> None:
    """The files that the page asks for: a certificate with its key, its authority, and the properties that it shows."""
    make_certificate(walk.directory, "ca")
    certificate = make_certificate(walk.directory, "localhost", walk.directory / "ca.pem")
    certificate.rename(walk.directory / "broker.pem")
    page = (ROOT / "docs" / "how-to" / "secure-a-broker.md").read_text()
    (walk.directory / "admin.properties").write_text(page.split("```properties\n")[1].split("```")[0])


def with_settings(walk: Walk) -> None:
    running_with_records(walk)
    (walk.directory / "server.properties").write_text("log.retention.hours=24\n")


PREPARED: dict[str, Prepare] = {
    "README": running,
    "first-broker": nothing,
    "back-up-and-restore": running_with_records,
    "check-and-repair": damaged,
    "limit-clients": running,
    "monitor": nothing,
    "secure-a-broker": certified,
    "start-from-a-program": nothing,
    "upgrade": with_settings,
}


def run_by_a_reader(path: Path) -> list[Shown]:
    return [shown for shown in commands_in(path.read_text()) if not shown.line.startswith(tuple(NOT_RUN))]


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    plain, encrypted, metrics = free_port(), free_port(), free_port()
    places = {
        "127.0.0.1:9092": f"127.0.0.1:{plain}",
        "0.0.0.0:9093": f"127.0.0.1:{encrypted}",
        "broker.example.org:9093": f"localhost:{encrypted}",
        "127.0.0.1:9644": f"127.0.0.1:{metrics}",
        "/backups/broker": str(tmp_path / "backups"),
        "/srv/data": str(tmp_path / "data"),
    }
    made = Walk(tmp_path, places)
    yield made
    made.stop()


def test_every_document_with_commands_is_walked() -> None:
    with_commands = {path.stem for path in DOCUMENTS if run_by_a_reader(path)}
    assert with_commands == set(PREPARED)


def test_every_reason_is_needed() -> None:
    lines = [shown.line for path in DOCUMENTS for shown in commands_in(path.read_text())]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in lines)] == []


@pytest.mark.parametrize("name", PREPARED)
def test_a_reader_gets_what_the_document_shows(walk: Walk, name: str) -> None:
    """A command whose output a document leaves out is run all the same: later ones build on it."""
    (path,) = (path for path in DOCUMENTS if path.stem == name and run_by_a_reader(path))
    PREPARED[name](walk)
    for shown in run_by_a_reader(path):
        typed = next((text for start, text in TYPED.items() if re.fullmatch(start, shown.line)), "")
        printed = walk.follow(shown, typed)
        if shown.output.strip():
            compare(shown, walk.replaced(shown.output), printed, by_shape=name in BY_SHAPE)


def compare(shown: Shown, expected: str, printed: str, *, by_shape: bool) -> None:
    """Lines in any order: between partitions there is none. A line of three dots stands for any others."""
    form = shape if by_shape else str
    wanted, found = ([form(line.rstrip()) for line in text.strip().split("\n")] for text in (expected, printed))
    if "…" in wanted:
        assert [line for line in wanted if line not in [*found, "…"]] == [], shown.line
    else:
        assert sorted(wanted) == sorted(found), shown.line


@pytest.mark.parametrize(
    ("expected", "printed"), [("Created a\n", "Created b\n"), ("1\n2\n", "1\n"), ("a 1.2 GiB\n", "b 3 MiB\n")]
)
def test_another_output_is_noticed(expected: str, printed: str) -> None:
    with pytest.raises(AssertionError):
        compare(Shown("headwater x", expected), expected, printed, by_shape=True)


def test_what_differs_between_runs_is_not() -> None:
    written = "Backed up as 20261129T204811Z: 1.2 GiB new, in 9.8 s\n"
    compare(Shown("x", written), written, "Backed up as 20261230T111111Z: 11.5 KiB new, in 0.0 s\n", by_shape=True)
