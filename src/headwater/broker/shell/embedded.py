"""`hw.Broker`: a broker in the user's own process, in a thread with its own loop, or in a child process.

Without a directory it keeps its data in memory, bounded, with the same code. It is the broker of `headwater up`, with two
different defaults, so that a test's consumer gets its partitions at once: `group.initial.rebalance.delay.ms` and
`group.consumer.assignment.interval.ms` are 0.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from headwater.broker.configs.properties_file import write_properties
from headwater.broker.configs.settings import SettingsError, value_text
from headwater.broker.core import BrokerCore
from headwater.broker.shell.listeners import read_configuration
from headwater.broker.shell.ready import Ready
from headwater.broker.shell.run import Stop, open_core, run_broker
from headwater.broker.shell.server import Server
from headwater.effects.clock import SystemClock
from headwater.effects.entropy import SystemEntropy
from headwater.effects.forks import keep_from_children
from headwater.effects.memory_files import MemoryFiles

Result = TypeVar("Result")
MEMORY_BYTES_MAX = 1 << 30
MEMORY_JOURNAL_FILE_BYTES = 16 << 20
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0


class BrokerError(RuntimeError):
    """The broker could not be started, or has ended unexpectedly."""


class Broker:
    """A Kafka broker for this process.

    `directory` is where it keeps its data; None keeps it in memory, at most `memory_bytes_max`. `port` 0 uses a free one.
    `settings` are Kafka's, by name; if they include `listeners`, the first of these is `address`. `in_child_process` runs
    the broker in its own process, where a busy application cannot slow it down; this needs a directory.

    A context manager, blocking or async; `start` and `stop` do the same. Raises BrokerError, or what opening the
    directory raises (DirectoryInUseError, FormatError), and SettingsError for a setting that is unknown or wrong.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Mapping[str, object] | None = None,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
        in_child_process: bool = False,
    ) -> None:
        at_once = dict.fromkeys(("group.consumer.assignment.interval.ms", "group.initial.rebalance.delay.ms"), "0")
        pairs = {**at_once, **{k: value_text(v) for k, v in (settings or {}).items()}}
        nothing = [
            f"{key} is None; leave it out for its default" for key, value in (settings or {}).items() if value is None
        ]
        if nothing:
            raise SettingsError(*nothing)
        if in_child_process and directory is None:
            raise SettingsError("a broker in a child process needs a directory")
        if directory is None:
            pairs.setdefault("headwater.journal.file.bytes", str(MEMORY_JOURNAL_FILE_BYTES))
        pairs.setdefault("listeners", f"PLAINTEXT://{host}:{port}")
        self.settings, self.listeners = read_configuration(pairs)
        self.pairs = pairs
        self.directory = None if directory is None else os.fspath(directory)
        self.memory_bytes_max = memory_bytes_max
        self.in_child_process = in_child_process
        self.runner: ThreadRunner | ChildRunner | None = None

    @property
    def address(self) -> str:
        """`host:port`, the bootstrap server for any client. Raises BrokerError before the start."""
        return next(iter(self.addresses.values()))

    @property
    def addresses(self) -> dict[str, str]:
        """The address of each listener, by name. Raises BrokerError before the start."""
        if self.runner is None:
            raise BrokerError("the broker is not started")
        return self.runner.addresses

    def reload_certificates(self) -> None:
        """Loads TLS certificates that have changed on disk. The broker also checks for changes every half minute."""
        if isinstance(self.runner, ThreadRunner):
            self.runner.reload_certificates()

    @property
    def is_running(self) -> bool:
        """False before the start, after the stop, and when it has ended unexpectedly: then `stop` says why."""
        return self.runner is not None and self.runner.is_alive

    def start(self) -> Self:
        """Starts the broker, and returns when clients can connect. Does nothing if it is running.

        Raises BrokerError if the broker has ended unexpectedly; the next `start` starts it again.
        """
        if self.runner is not None and not self.runner.is_alive:
            self.stop()
        if self.runner is None:
            self.runner = self.make_runner()
        return self

    def make_runner(self) -> "ThreadRunner | ChildRunner":
        return ChildRunner(self) if self.in_child_process else ThreadRunner(self)

    def stop(self) -> None:
        """Answers pending requests, syncs and ends. Does nothing if it was not started.

        Raises BrokerError if the broker has ended unexpectedly, with the reason, or does not end within a minute.
        """
        if self.runner is not None:
            runner, self.runner = self.runner, None
            runner.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def __repr__(self) -> str:
        where = self.directory or "memory"
        state = "stopped" if self.runner is None else self.address if self.is_running else f"{self.address}, ended,"
        return f"<Broker {state} in {where}>"


class ThreadRunner:
    """A broker in a thread of this process."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.addresses: dict[str, str] = {}
        self.server: Server | None = None
        self.error: BaseException | None = None
        self.ready = threading.Event()
        self.stopping = Stop()
        self.thread = threading.Thread(target=self.run, name="headwater-broker", daemon=True)
        self.thread.start()
        try:
            self.ready.wait()
        except BaseException:  # Ctrl-C: nothing is left running
            self.end_thread()
            raise
        keep_from_children(self)
        if (error := self.failure()) is not None:
            self.thread.join()
            raise error

    def failure(self) -> BaseException | None:
        """The error that ended the thread, if there was one."""
        return self.error

    def run(self) -> None:
        try:
            run_broker(
                self.open, self.make_server, self.broker.listeners, stop=self.stopping, on_ready=self.became_ready
            )
        except BaseException as error:  # noqa: BLE001 - handed to the thread that started this one
            self.error = error
        finally:
            self.ready.set()

    def open(self) -> BrokerCore:
        broker = self.broker
        if broker.directory is not None:
            return open_core(broker.settings, broker.directory)
        files = MemoryFiles(broker.memory_bytes_max)
        return BrokerCore(broker.settings, files, SystemClock(), SystemEntropy(), directory="data")

    def make_server(self, core: BrokerCore) -> Server:
        return Server(core, inline=self.broker.directory is None)

    def became_ready(self, server: Server, ready: Ready) -> None:
        self.addresses = {listener.name: listener.bound_address for listener in ready.listeners}
        self.server = server
        self.ready.set()

    def call(self, function: Callable[[Server], Result]) -> Result:
        """Runs a function in the broker's thread. Returns its result, or raises its exception."""
        assert self.server is not None
        server = self.server
        done: Future[Result] = Future()

        def run() -> None:
            try:
                done.set_result(function(server))
            except BaseException as error:  # noqa: BLE001 - raised in the thread that asked
                done.set_exception(error)

        server.loop.call_soon_threadsafe(run)
        return done.result(STOP_TIMEOUT_S)

    def reload_certificates(self) -> None:
        self.call(lambda server: server.reload_certificates())

    @property
    def is_alive(self) -> bool:
        return self.thread.is_alive()

    def own_descriptors(self) -> Iterator[int]:
        """The lock, the ports, the connections and the journal, which a forked child would keep open."""
        if self.server is not None:
            yield from self.server.own_descriptors()

    def end_thread(self) -> None:
        self.stopping.ask()
        self.thread.join(STOP_TIMEOUT_S)

    def stop(self) -> None:
        self.end_thread()
        if self.thread.is_alive():
            where = self.broker.directory or "memory"
            raise BrokerError(
                f"the broker in {where} has not ended after {STOP_TIMEOUT_S:g} s; it may still hold its files"
            )
        if self.error is not None:
            raise BrokerError(f"the broker ended with an error: {self.error}") from self.error


class ChildRunner:
    """A broker in its own process, which ends with this one.

    Its settings go through a pipe, because every user of the machine can read a command line.
    """

    def __init__(self, broker: Broker) -> None:
        command = [sys.executable, "-P", "-m", "headwater", "up", "--ready-fd", "1", "--planes", "none"]
        command += ["--data", str(Path(broker.directory or "").absolute())]
        settings_end, own_end = os.pipe()
        command += ["--end-with-stdin", "--without-environment", "--config", f"/dev/fd/{settings_end}"]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=(settings_end,)
            )
        except BaseException:
            os.close(own_end)
            raise
        finally:
            os.close(settings_end)
        with contextlib.suppress(BrokenPipeError), os.fdopen(own_end, "w") as pipe:  # a process that fails says why
            pipe.write(write_properties(broker.pairs))
        assert self.process.stdout is not None
        keep_from_children(self)
        try:
            line = self.process.stdout.readline()
        except BaseException:  # Ctrl-C: nothing is left running
            self.process.kill()
            with self.process:
                raise
        try:
            ready = Ready.from_line(line)
        except ValueError as error:
            with self.process:  # closes the pipes
                self.process.wait(START_TIMEOUT_S)
            said = line.strip() or "see its message above"
            raise BrokerError(f"the broker's process did not start: {said}") from error
        self.addresses = ready.addresses

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def own_descriptors(self) -> Iterator[int]:
        """The pipes: the broker's process ends when no process has the other end of its standard input."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                yield pipe.fileno()

    def stop(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        finally:
            self.process.stdout.close()
        if code != 0:
            raise BrokerError(f"the broker's process ended with status {code}")
