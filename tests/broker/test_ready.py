"""The line that tells a program that the broker is ready: what it says, where it may go, what is not such a line."""

import json
import os
from collections.abc import Iterator

import pytest

from headwater.broker.configs.settings import SettingsError
from headwater.broker.shell import ready as ready_module
from headwater.broker.shell.ready import Ready, ReadyError, ReadyListener, check_descriptor, write_line

READY = Ready(
    (
        ReadyListener("PLAINTEXT", "::1", 9092, "::1", 9092),
        ReadyListener("SASL_SSL", "broker.example.org", 9093, "0.0.0.0", 41000),
    ),
    ("127.0.0.1", 9464),
    "/var/lib/headwater",
    4711,
    190,
)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:  # the test has closed it
            continue


def test_the_line_has_all_that_a_program_needs() -> None:
    line = READY.line()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    listeners = [
        {"name": "PLAINTEXT", "host": "::1", "port": 9092, "bound_host": "::1", "bound_port": 9092},
        {
            "name": "SASL_SSL",
            "host": "broker.example.org",
            "port": 9093,
            "bound_host": "0.0.0.0",
            "bound_port": 41000,
        },
    ]
    assert json.loads(line) == {
        "listeners": listeners,
        "metrics": {"host": "127.0.0.1", "port": 9464},
        "data_directory": "/var/lib/headwater",
        "process_id": 4711,
        "start_ms": 190,
    }


@pytest.mark.parametrize("ready", [READY, READY._replace(metrics=None), READY._replace(data_directory="/ä\n\udcff")])
def test_what_is_written_is_read(ready: Ready) -> None:
    assert Ready.from_line(ready.line()) == ready


def test_keys_of_later_releases_are_ignored() -> None:
    said = json.loads(READY.line())
    said["listeners"][0]["new"] = said["new"] = 1
    assert Ready.from_line(json.dumps(said)) == READY


@pytest.mark.parametrize("line", ["", "Headwater is ready on 127.0.0.1:9092\n", "{}", "[]", "1", '{"listeners": [1]}'])
def test_anything_else_is_not_such_a_line(line: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting|not the line"):
        Ready.from_line(line)


def test_addresses_are_as_clients_take_them() -> None:
    assert READY.addresses == {"PLAINTEXT": "[::1]:9092", "SASL_SSL": "broker.example.org:9093"}
    assert READY.listeners[1].bound_address == "0.0.0.0:41000"


def test_the_line_is_followed_by_the_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(reading, False)
    os.set_inheritable(writing, True)
    check_descriptor(writing)
    assert not os.get_inheritable(writing)
    write_line(writing, "line\n")
    assert os.read(reading, 100) == b"line\n"
    assert os.read(reading, 100) == b""


def test_a_descriptor_that_takes_a_part_is_given_the_rest(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    write = os.write
    monkeypatch.setattr(os, "write", lambda number, data: write(number, data[:2]))
    write_line(writing, "line\n")
    assert os.read(reading, 100) == b"line\n"


def test_a_standard_descriptor_stays_open(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    _, writing = pipe
    monkeypatch.setattr(ready_module, "STANDARD", (writing,))
    os.set_inheritable(writing, True)
    check_descriptor(writing)
    write_line(writing, "line\n")
    assert os.get_inheritable(writing)


def test_a_descriptor_that_is_not_open_or_not_for_writing_is_an_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(writing)
    for number in (writing, -1, 1 << 40):
        with pytest.raises(SettingsError, match=f"--ready-fd {number}: there is no such descriptor"):
            check_descriptor(number)
    with pytest.raises(SettingsError, match=f"--ready-fd {reading}: the descriptor is read-only"):
        check_descriptor(reading)


def test_a_reader_that_is_gone_is_an_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    with pytest.raises(ReadyError, match=f"--ready-fd {writing}: cannot write to it: Broken pipe"):
        write_line(writing, "line\n")
