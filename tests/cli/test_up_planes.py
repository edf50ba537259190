"""`headwater up` with planes: real processes, killed and stopped, on free ports."""

import json
import os
import select
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headwater.broker.shell.ready import Ready, address_text
from tests.cli.test_up_ready import start

WAIT_S = 30
SERVED = "the planes are served by process "


class Up:
    """A broker with its planes; what it logs is read line by line."""

    def __init__(self, directory: Path, *options: str, listen: str) -> None:
        self.process = start(directory, "--ready-fd", "1", "--log-level", "info", *options, listen=listen)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.errors = self.process.stderr
        self.ready = Ready.from_line(self.process.stdout.readline())

    def planes_process(self) -> int:
        """Waits until the planes are served; returns the number of their process."""
        return int(self.line_with(SERVED).split(SERVED)[1].split(",")[0])

    def line_with(self, words: str) -> str:
        for line in self.errors:
            if words in line:
                return line
        raise AssertionError(f"the broker has ended and did not say {words!r}")

    def get(self, path: str) -> tuple[int, str]:
        assert self.ready.metrics is not None
        try:
            with urllib.request.urlopen(f"http://{address_text(*self.ready.metrics)}{path}", timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@contextmanager
def up(directory: Path, *options: str, listen: str = "127.0.0.1:0") -> Iterator[Up]:
    found = Up(directory, *options, listen=listen)
    try:
        yield found
    finally:
        found.process.kill()
        found.process.communicate(timeout=WAIT_S)


METRICS = ("--metrics", "127.0.0.1:0")


def wait_for_end(descriptor: int) -> None:
    """Of the process whose descriptor that is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(WAIT_S * 1000), "the process is still there"
    os.close(descriptor)


def test_a_request_that_comes_before_the_planes_is_answered_when_they_are_there(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        assert broker.get("/healthz") == (200, "ok\n")
        status, text = broker.get("/metrics")
        assert status == 200
        assert "\nheadwater_up 1.0\n" in text
        assert "\nheadwater_topics 1.0\n" in text
        assert json.loads(broker.get("/nowhere")[1])["error_code"] == 404


def test_the_planes_stop_with_the_broker(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        planes = os.pidfd_open(broker.planes_process())
        broker.process.send_signal(signal.SIGINT)
        assert broker.process.wait(WAIT_S) == 0
        wait_for_end(planes)
        assert broker.errors.read() == ""


def test_nothing_is_left_of_a_broker_that_is_killed(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        planes = os.pidfd_open(broker.planes_process())
        broker.process.kill()
        wait_for_end(planes)
        assert broker.ready.metrics is not None
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(broker.ready.metrics, WAIT_S)


def test_planes_that_are_killed_come_back_and_the_broker_does_not_care(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        first = broker.planes_process()
        os.kill(first, signal.SIGKILL)
        broker.line_with("the planes' process ended by signal 9; restarting it in 0.5 s")
        assert broker.get("/healthz") == (200, "ok\n")  # who asks meanwhile waits
        assert broker.planes_process() != first


def test_a_broker_that_hangs_is_down(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        broker.planes_process()
        broker.process.send_signal(signal.SIGSTOP)
        try:
            status, text = broker.get("/metrics")
            assert (status, text.splitlines()[2:]) == (200, ["headwater_up 0.0"])
            assert broker.get("/healthz")[0] == 503
        finally:
            broker.process.send_signal(signal.SIGCONT)
        assert broker.get("/healthz") == (200, "ok\n")


def test_a_port_that_is_taken_is_a_warning(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = address_text(*taken.getsockname())
        with up(tmp_path / "d", "--metrics", where) as broker:
            assert broker.ready.metrics is None
            socket.create_connection((broker.ready.listeners[0].host, broker.ready.listeners[0].port), WAIT_S).close()
            broker.process.send_signal(signal.SIGINT)
            assert broker.process.wait(WAIT_S) == 0
            (line,) = broker.errors.read().splitlines()
    assert f"metrics is not served: cannot listen on {where}: Address already in use" in line


def test_a_broker_that_lets_nobody_in_lets_its_planes_in(tmp_path: Path) -> None:
    """Where every listener wants a login and every user ACLs, the counters are served, and the secret is nowhere to be seen."""
    secured = ("--set", "super.users=User:admin")
    with up(tmp_path / "d", *METRICS, *secured, listen="SASL_PLAINTEXT://127.0.0.1:0") as broker:
        number = broker.planes_process()
        assert "\nheadwater_up 1.0\n" in broker.get("/metrics")[1]
        assert [listener.name for listener in broker.ready.listeners] == ["SASL_PLAINTEXT"]
        command = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        assert [part for part in command if part][1:] == [b"-P", b"-m", b"headwater.planes.process"]
        environment = Path(f"/proc/{number}/environ").read_bytes()
        assert environment == Path(f"/proc/{broker.process.pid}/environ").read_bytes()


@pytest.mark.parametrize(
    ("options", "is_served"),
    [((), False), (("--planes", "none"), False), (("--planes", "metrics=127.0.0.1:0"), True)],
)
def test_planes_are_chosen(tmp_path: Path, options: tuple[str, ...], is_served: bool) -> None:
    with up(tmp_path / "d", *options) as broker:
        assert (broker.ready.metrics is not None) == is_served
        if is_served:
            assert broker.get("/healthz") == (200, "ok\n")
        broker.process.send_signal(signal.SIGINT)
        assert broker.process.wait(WAIT_S) == 0
        assert (SERVED in broker.errors.read()) == is_served
    assert (tmp_path / "d" / "__headwater_counters-0").exists() == is_served


def test_a_page_of_another_name_is_refused(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        assert broker.ready.metrics is not None
        request = urllib.request.Request(
            f"http://{address_text(*broker.ready.metrics)}/metrics", headers={"Host": "evil.example"}
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=WAIT_S)
        with caught.value as error:
            assert error.code == 421


def test_connections_that_send_nothing_keep_nobody_out(tmp_path: Path) -> None:
    with up(tmp_path / "d", *METRICS) as broker:
        assert broker.ready.metrics is not None
        idle = [socket.create_connection(broker.ready.metrics, WAIT_S) for _ in range(100)]
        for each in idle:
            each.sendall(b"GET /heal")
        while broker.get("/healthz") != (200, "ok\n"):  # 503 while the broker's answer is late, as on a busy machine
            pass
        assert idle[0].recv(1) == b""
        for each in idle:
            each.close()
