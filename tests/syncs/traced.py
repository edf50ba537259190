"""A broker that runs under strace, one life after the other in the same directory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from headwater.broker.shell.ready import Ready
from tests.syncs.rules import Checker
from tests.syncs.strace import OPTIONS, parse

STOP_TIMEOUT_S = 60


class TracedBroker:
    """`start`, then `kill` or `stop`; each of these gives the life's trace to the checker."""

    def __init__(self, directory: Path, *settings: str) -> None:
        self.data = directory / "data"
        self.log = directory / "headwater.log"
        self.settings = settings
        self.checker = Checker(str(self.data))
        self.lives = 0
        self.calls = 0
        self.address = ""
        self.process: subprocess.Popen[str] | None = None

    @property
    def trace(self) -> Path:
        return self.data.parent / f"trace-{self.lives}"

    def start(self) -> None:
        self.lives += 1
        command = ["strace", *OPTIONS, "-o", str(self.trace), sys.executable, "-m", "headwater", "up"]
        command += ["--data", str(self.data), "--listen", "127.0.0.1:0", "--ready-fd", "1"]
        for setting in self.settings:
            command += ["--set", setting]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        self.address = Ready.from_line(line).listeners[0].address

    def broker_process(self) -> int:
        """The one that strace has started."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def kill(self) -> None:
        """SIGKILL: what is in the page cache stays."""
        self.end(signal.SIGKILL)

    def stop(self) -> None:
        assert self.end(signal.SIGTERM) == 0, self.log.read_text()[-2000:]

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        os.kill(self.broker_process(), number)
        code = self.process.wait(STOP_TIMEOUT_S)
        self.process.stdout.close()
        self.process = None
        with self.trace.open() as lines:
            calls = list(parse(lines, str(self.data), self.checker.next_line))
        self.calls += len(calls)
        self.checker.run(calls)
        return code

    def abandon(self) -> None:
        """Ends what still runs, where a test has failed."""
        if self.process is not None and self.process.poll() is None:
            os.kill(self.broker_process(), signal.SIGKILL)
            self.process.wait(STOP_TIMEOUT_S)
