"""From a configuration to an orderly end: what happens in which order, and what is left when a step fails."""

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable

import pytest

from headwater.broker.cluster import PRIVATE_LISTENER
from headwater.broker.configs.settings import Settings
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import ListenError, read_listeners
from headwater.broker.shell.ready import Ready, address_text
from headwater.broker.shell.run import Stop, run_broker
from headwater.broker.shell.server import Server
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.memory_files import MemoryFiles

CLEAN_MARKER = "data/.kafka_cleanshutdown"
PROTOCOLS = {"listener_security_protocol_map": "EXTERNAL:PLAINTEXT"}
WAIT_S = 20


class Run:
    """A broker on files in memory, and what has happened to it. It is stopped as soon as it is ready."""

    def __init__(self, **settings: str) -> None:
        pairs = {"listeners": "PLAINTEXT://127.0.0.1:0", "offsets.topic.num.partitions": "1"}
        given = {key.replace("_", "."): value for key, value in settings.items()}
        self.settings = Settings.from_pairs({**pairs, **given})
        self.files = MemoryFiles(1 << 28)
        self.stop = Stop()
        self.listeners = read_listeners(self.settings)
        self.happened: list[str] = []
        self.when_ready: Callable[[Server, Ready], None] = lambda server, ready: self.stop.ask()

    def open(self) -> BrokerCore:
        self.happened.append("open")
        return BrokerCore(self.settings, self.files, SystemClock(), SystemEntropy(), directory="data")

    def server(self, core: BrokerCore) -> Server:
        self.happened.append("server")
        return Server(core, inline=True)

    def on_ready(self, server: Server, ready: Ready) -> None:
        self.happened.append("ready")
        self.when_ready(server, ready)

    async def on_stopped(self) -> None:
        self.happened.append("stopped")

    def run(self) -> list[str]:
        run_broker(
            self.open,
            self.server,
            self.listeners,
            stop=self.stop,
            on_ready=self.on_ready,
            on_stopping=lambda: self.happened.append("stopping"),
            on_stopped=self.on_stopped,
        )
        return self.happened

    @property
    def is_closed(self) -> bool:
        """Whether it ended as it should: its logs are marked so."""
        return self.files.exists(CLEAN_MARKER)


def test_each_step_follows_the_one_before() -> None:
    run = Run()
    assert run.run() == ["open", "server", "ready", "stopping", "stopped"]
    assert run.is_closed


def test_a_stop_before_the_start_starts_nothing() -> None:
    run = Run()
    run.stop.ask()
    assert run.run() == []


def test_any_thread_may_ask_for_the_stop_and_more_than_once() -> None:
    run = Run()

    def ask(server: Server, ready: Ready) -> None:
        for _ in range(2):
            threading.Thread(target=run.stop.ask).start()

    run.when_ready = ask
    assert run.run()[-2:] == ["stopping", "stopped"]
    run.stop.ask()  # its loop is closed


def test_the_end_of_a_descriptor_is_a_stop_and_what_is_read_from_it_is_not() -> None:
    reading, writing = os.pipe()

    async def watch() -> None:
        stop = Stop(descriptor=reading)
        with stop.watched() as stopping:
            os.write(writing, b"x")
            stop.read(reading, stopping)
            assert not stopping.is_set()
            os.close(writing)
            await asyncio.wait_for(stopping.wait(), WAIT_S)

    try:
        asyncio.run(watch())
    finally:
        os.close(reading)


def test_clients_get_one_address_and_the_broker_has_another() -> None:
    run = Run(advertised_listeners="PLAINTEXT://broker.example.org:19092")
    found: list[Ready] = []

    def look(server: Server, ready: Ready) -> None:
        found.append(ready)
        host, port = ready.listeners[0].bound_host, ready.listeners[0].bound_port
        socket.create_connection((host, port), WAIT_S).close()
        run.stop.ask()

    run.when_ready = look
    run.run()
    (ready,) = found
    assert ready.addresses == {"PLAINTEXT": "broker.example.org:19092"}
    assert ready.listeners[0].bound_host == "127.0.0.1"
    assert (ready.process_id, ready.data_directory, ready.metrics) == (os.getpid(), "data", None)
    assert ready.start_ms >= 0


def test_of_several_nodes_the_first_is_named() -> None:
    run = Run(headwater_nodes="3")
    ports: list[int] = []

    def look(server: Server, ready: Ready) -> None:
        ports.extend(listener.port for listener in ready.listeners)
        ports.extend(acceptor.port for acceptor in server.acceptors)
        run.stop.ask()

    run.when_ready = look
    run.run()
    assert len(ports) == 1 + 3
    assert ports[0] == ports[1]


def test_a_port_that_is_taken_is_an_error_and_an_orderly_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = address_text(*taken.getsockname())
        run = Run(listeners=f"PLAINTEXT://127.0.0.1:0,EXTERNAL://{where}", **PROTOCOLS)
        with pytest.raises(ListenError, match=f"{where} is in use"):
            run.run()
    assert run.happened == ["open", "server", "stopping", "stopped"]
    assert run.is_closed


def test_a_private_listener_is_for_nobody_that_reads_the_ready_line() -> None:
    run = Run()
    run.listeners.append(read_listeners(run.settings)[0]._replace(name=PRIVATE_LISTENER, protocol="SASL_PLAINTEXT"))
    found: list[tuple[str, int]] = []

    def look(server: Server, ready: Ready) -> None:
        assert [listener.name for listener in ready.listeners] == ["PLAINTEXT"]
        found.append(server.core.cluster.address(PRIVATE_LISTENER, 1))
        socket.create_connection(found[0], WAIT_S).close()
        run.stop.ask()

    run.when_ready = look
    run.run()
    assert found[0][1] > 0


def test_a_caller_that_fails_at_ready_ends_the_broker() -> None:
    run = Run()

    def fail(server: Server, ready: Ready) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads")

    run.when_ready = fail
    with pytest.raises(BrokenPipeError):
        run.run()
    assert run.happened[-2:] == ["stopping", "stopped"]
    assert run.is_closed


def test_a_disk_that_fails_ends_the_broker_and_leaves_no_mark_of_an_orderly_end() -> None:
    run = Run()
    run.when_ready = lambda server, ready: server.durability.fail(OSError(errno.EIO, "the disk is gone"))
    with pytest.raises(OSError, match="the disk is gone"):
        run.run()
    assert run.happened[-2:] == ["stopping", "stopped"]
    assert not run.is_closed


def test_a_directory_that_cannot_be_opened_is_an_error_before_anything_listens() -> None:
    run = Run()

    def fail(call: str, path: str) -> int | None:
        return errno.EACCES

    run.files.fault = fail
    with pytest.raises(PermissionError):
        run.run()
    assert run.happened == ["open"]
