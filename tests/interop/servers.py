"""A Headwater server in a process of its own, as a user starts it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class HeadwaterServer:
    """`headwater up` on a free port of the loopback."""

    def __init__(self, data: Path, *options: str, port: int = 0) -> None:
        self.data = data
        self.options = options
        self.port = port
        self.process = self.start()

    def start(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "headwater", "up", "--data", str(self.data)]
        command += ["--listen", f"127.0.0.1:{self.port}", *self.options]
        with (self.data.parent / "headwater.log").open("a") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "is ready on" in line, f"{line!r}: {(self.data.parent / 'headwater.log').read_text()[-2000:]}"
        self.port = int(line.split(" on ")[1].split(",")[0].rpartition(":")[2])
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


@contextmanager
def running_server(directory: Path, *options: str) -> Iterator[HeadwaterServer]:
    server = HeadwaterServer(directory / "data", "--set", "group.initial.rebalance.delay.ms=0", *options)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            assert server.stop() == 0
    log = (directory / "headwater.log").read_text()
    assert "Traceback" not in log, log[-4000:]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
