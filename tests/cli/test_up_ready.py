"""How a program that starts `headwater up` learns that it is ready, and where: `--ready-fd`."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import headwater as hw
from headwater.cli import up

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
WAIT_S = 30
OTHER = ("--set", "listener.security.protocol.map=OTHER:PLAINTEXT")


def start(
    data: Path, *options: str, listen: str = "127.0.0.1:0", pass_fds: tuple[int, ...] = ()
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "headwater", "up", "--data", str(data), "--listen", listen, *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT, pass_fds=pass_fds)


def started(data: Path, *options: str) -> tuple["subprocess.Popen[str]", str]:
    """The process and all that it writes to its descriptor: the broker and its own children have closed it then."""
    reading, writing = os.pipe()
    process = start(data, "--ready-fd", str(writing), *options, pass_fds=(writing,))
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return process, pipe.read()


def end(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    process.terminate()
    output, errors = process.communicate(timeout=WAIT_S)
    return process.returncode, output, errors


def test_a_program_reads_one_line_of_json_and_people_still_have_theirs(tmp_path: Path) -> None:
    process, line = started(tmp_path / "d", "--metrics", "127.0.0.1:0")
    try:
        ready: dict[str, Any] = json.loads(line)
        (listener,) = ready["listeners"]
        for address in ((listener["host"], listener["port"]), (ready["metrics"]["host"], ready["metrics"]["port"])):
            socket.create_connection(address, WAIT_S).close()
    finally:
        code, output, errors = end(process)
    assert (code, errors) == (0, "")
    assert listener["name"] == "PLAINTEXT"
    assert (ready["process_id"], ready["data_directory"]) == (process.pid, str(tmp_path / "d"))
    assert f"Headwater is ready on 127.0.0.1:{listener['port']}, data in {tmp_path / 'd'}, metrics on" in output
    assert f", {ready['start_ms']} ms. Ctrl-C stops it." in output


def test_on_standard_output_the_line_takes_the_place_of_the_one_for_people(tmp_path: Path) -> None:
    process = start(tmp_path / "d", "--ready-fd", "1")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert end(process) == (0, "", "")
    assert json.loads(line)["process_id"] == process.pid


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_with_closed_standard_descriptors_it_runs_and_ends_in_order(tmp_path: Path, closed: str) -> None:
    """libuv ends a process, with a core dump, that closes a socket whose number is that of a standard descriptor."""
    reading, writing = os.pipe()
    command = (
        f"exec {sys.executable} -m headwater up --data {tmp_path}/d --listen 127.0.0.1:0 --ready-fd {writing} {closed}"
    )
    process = subprocess.Popen(
        ["bash", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT, pass_fds=(writing,)
    )
    os.close(writing)
    with os.fdopen(reading) as pipe:
        (listener,) = json.loads(pipe.read())["listeners"]
    with hw.Admin(f"127.0.0.1:{listener['port']}") as admin:
        admin.create_topic("t")
    process.terminate()
    _, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, errors) == (0, b"")


def test_the_time_counts_from_the_start_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def since_start() -> int:
        os.kill(os.getpid(), signal.SIGTERM)  # ready: that is all
        return 4711

    monkeypatch.setattr(up, "milliseconds_since_start", since_start)
    reading, writing = os.pipe()
    options = ["--data", str(tmp_path / "d"), "--listen", "127.0.0.1:0", "--without-environment"]
    assert up.main([*options, "--ready-fd", str(writing)]) == 0
    with os.fdopen(reading) as pipe:
        assert json.loads(pipe.read())["start_ms"] == 4711


def test_a_broker_that_does_not_start_writes_no_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process, line = started(tmp_path / "d", "--listen", f"OTHER://127.0.0.1:{taken.getsockname()[1]}", *OTHER)
        _, errors = process.communicate(timeout=WAIT_S)
    assert (process.returncode, line) == (1, "")
    assert "in use" in errors


def test_a_bad_descriptor_is_one_line(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    for number, expected in (
        (writing, "there is no such descriptor"),  # it was not passed on
        (reading, "the descriptor is read-only"),
    ):
        process = start(tmp_path / "d", "--ready-fd", str(number), pass_fds=(reading,))
        output, errors = process.communicate(timeout=WAIT_S)
        assert (process.returncode, output) == (2, "")
        (line,) = errors.splitlines()
        assert line.startswith(f"headwater up: --ready-fd {number}: {expected}")
    os.close(reading)
    os.close(writing)
    assert not (tmp_path / "d").exists()


def test_a_program_that_is_gone_when_the_broker_is_ready_ends_it(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(tmp_path / "d", "--ready-fd", str(writing), pass_fds=(writing,))
    os.close(writing)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert errors == f"headwater up: --ready-fd {writing}: cannot write to it: Broken pipe\n"
    assert (tmp_path / "d" / ".kafka_cleanshutdown").exists()


@pytest.mark.parametrize("given", ["</dev/null", "<&-", "<$0"])
def test_a_standard_input_that_has_ended_already_is_one_line(tmp_path: Path, given: str) -> None:
    command = f"exec {sys.executable} -m headwater up --data {tmp_path}/d --listen 127.0.0.1:0 --end-with-stdin {given}"
    ended = subprocess.run(
        ["bash", "-c", command, __file__], capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=WAIT_S
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("headwater up: --end-with-stdin needs a standard input that stays open")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("asked", [("--ready-fd", "x"), ("--ready-fd",)])
def test_what_is_not_a_number_is_one_line(asked: tuple[str, ...], tmp_path: Path) -> None:
    process = start(tmp_path / "d", *asked)
    _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert "--ready-fd" in line
