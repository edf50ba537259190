"""A Headwater server in a process of its own, as a user starts it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headwater.broker.shell.ready import Ready


class HeadwaterServer:
    """`headwater up` on a free port of the loopback."""

    def __init__(self, data: Path, *options: str, port: int = 0) -> None:
        self.data = data
        self.options = options
        self.port = port
        self.process = self.start()

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "headwater", "up", "--ready-fd", "1", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        with (self.data.parent / "headwater.log").open("a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.data.parent / "headwater.log").read_text()[-2000:]
        self.addresses = Ready.from_line(line).addresses
        self.port = self.port or int(self.addresses["PLAINTEXT"].rpartition(":")[2])
        return process

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        return self.end()

    def end(self) -> int:
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def restart(self) -> None:
        self.process = self.start()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def free_port_pair() -> int:
    """A free port of the loopback, the next one being free too: a Kafka's controller listens there."""
    for _ in range(100):
        port = free_port()
        try:
            with socket.create_server(("127.0.0.1", port + 1)):
                return port
        except OSError:
            continue
    raise AssertionError("no two free ports in a row")


class PatientProxy:
    """Stands before a server that is killed and restarted: a connection to it is never refused, it waits a moment.

    What is open when the server dies breaks, as it would; clients that give up at a refused connection survive it.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.target_port = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        server = self.loop.run_until_complete(asyncio.start_server(self.serve, sock=self.listener))
        self.loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(200):
            try:
                theirs, mine = await asyncio.open_connection("127.0.0.1", self.target_port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            await asyncio.gather(self.pump(reader, mine), self.pump(theirs, writer))
            return
        writer.close()

    async def pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()


@contextmanager
def running_server(directory: Path, *options: str, port: int = 0) -> Iterator[HeadwaterServer]:
    at_once = ("--set", "group.consumer.assignment.interval.ms=0", "--set", "group.initial.rebalance.delay.ms=0")
    server = HeadwaterServer(directory / "data", *at_once, *options, port=port)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0
    log = (directory / "headwater.log").read_text()
    assert "Traceback" not in log, log[-4000:]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
