"""The broker in this process: when it dies, when its start is interrupted, and when the process forks."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import headwater as hw
from headwater.broker.shell import embedded
from headwater.broker.shell.embedded import ThreadRunner
from headwater.testing import TestBroker

WAIT_S = 30


def lose_disk(broker: hw.Broker) -> None:
    """Returns when the broker has failed and is gone."""
    assert isinstance(broker.runner, ThreadRunner)
    assert broker.runner.server is not None
    broker.runner.server.durability.fail(OSError(5, "the disk is gone"))
    broker.runner.thread.join(WAIT_S)


def test_a_broker_that_died_says_so() -> None:
    broker = TestBroker().start()
    assert broker.is_running
    lose_disk(broker)
    assert (broker.is_running, "ended" in repr(broker)) == (False, True)
    with pytest.raises(hw.BrokerError, match="the disk is gone"):
        broker.start()
    with broker:
        assert broker.is_running
    broker.close()


def test_a_stop_of_a_broker_that_died_raises() -> None:
    broker = TestBroker().start()
    lose_disk(broker)
    with pytest.raises(hw.BrokerError, match="the disk is gone"):
        broker.stop()
    broker.stop()


def test_a_stop_that_takes_too_long_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    broker = hw.Broker().start()
    assert isinstance(broker.runner, ThreadRunner)
    runner, is_held, is_free = broker.runner, threading.Event(), threading.Event()
    assert runner.server is not None

    def hold() -> None:
        is_held.set()
        is_free.wait(WAIT_S)

    runner.server.loop.call_soon_threadsafe(hold)
    assert is_held.wait(WAIT_S)
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.01)
    with pytest.raises(hw.BrokerError, match="has not ended"):
        broker.stop()
    is_free.set()
    runner.thread.join(WAIT_S)
    assert not runner.thread.is_alive()


def test_a_child_process_that_died_is_not_running(tmp_path: Path) -> None:
    broker = hw.Broker(tmp_path / "data", in_child_process=True).start()
    assert broker.is_running
    assert isinstance(broker.runner, embedded.ChildRunner)
    broker.runner.process.kill()
    broker.runner.process.wait(WAIT_S)
    assert (broker.is_running, broker.runner.process.returncode) == (False, -9)
    with pytest.raises(hw.BrokerError, match="status -9"):
        broker.stop()


def test_ctrl_c_in_a_start_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ready(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

    before, broker = set(threading.enumerate()), hw.Broker(tmp_path / "data")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        patch.setattr(embedded, "threading", SimpleNamespace(Event=Ready, Thread=threading.Thread))
        broker.start()
    assert not broker.is_running
    left = [thread for thread in set(threading.enumerate()) - before if thread.name == "headwater-broker"]
    assert left == []
    with hw.Broker(tmp_path / "data") as broker:
        assert broker.is_running


def test_modules_of_the_current_directory_are_not_the_childs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "headwater.py").write_text("raise SystemExit('this is not Headwater')")
    (tmp_path / "asyncio.py").write_text("raise SystemExit('this is not asyncio')")
    monkeypatch.chdir(tmp_path)
    with hw.Broker(tmp_path / "data", in_child_process=True) as broker:
        assert broker.is_running


def wait_for_end(running: int, ending: int) -> None:
    os.write(running, b"x")
    os.read(ending, 1)


@contextmanager
def forked_child() -> Iterator[None]:
    """A forked child that runs, and does nothing, until the block ends."""
    is_running, running = os.pipe()
    ending, end = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=wait_for_end, args=(running, ending))
    process.start()
    os.read(is_running, 1)
    try:
        yield
    finally:
        assert process.is_alive()
        os.write(end, b"x")
        process.join(WAIT_S)
        for descriptor in (is_running, running, ending, end):
            os.close(descriptor)


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), WAIT_S).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_keeps_neither_directory_nor_port(tmp_path: Path) -> None:
    broker = hw.Broker(tmp_path / "data").start()
    address = broker.address
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), WAIT_S) as client, forked_child():
        broker.stop()
        assert not is_listening(address)
        client.settimeout(WAIT_S)
        assert client.recv(1) == b""  # its connection ends, too
        with hw.Broker(tmp_path / "data", port=int(port)) as again:
            assert is_listening(again.address)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_does_not_hold_up_a_broker_in_a_child_process(tmp_path: Path) -> None:
    broker = hw.Broker(tmp_path / "data", in_child_process=True).start()
    with forked_child():
        broker.stop()
    with hw.Broker(tmp_path / "data"):
        pass


PARENT = """
import os, sys
import headwater as hw
broker = hw.Broker(sys.argv[1]).start()
forked, ready = os.pipe()
child = os.fork()
if child == 0:
    os.write(ready, b"x")
    os.read(0, 1)
    os._exit(0)
os.read(forked, 1)
print(broker.address, flush=True)
os.read(0, 1)
"""


def test_a_forked_child_that_outlives_a_killed_broker_keeps_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", PARENT, str(tmp_path / "data")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        address = parent.stdout.readline().strip()
        assert is_listening(address)
        parent.send_signal(signal.SIGKILL)
        parent.wait(WAIT_S)
        # The child still waits for its standard input to end.
        assert not is_listening(address)
        with hw.Broker(tmp_path / "data", port=int(address.rpartition(":")[2])) as broker:
            assert is_listening(broker.address)
