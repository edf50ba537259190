"""A reader who follows a document: in a directory and with ports of its own, types each command of it and reads what comes back.

What a document leaves to the reader is replaced: its addresses and absolute paths (`Walk.places`), and the numbers that differ from
one run to the next, which are compared by their shape (`shape`).
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.docs.consoles import Shown

WAIT_S = 60
PROMPT = re.compile(r"(?:Password|Again): $|\? \[y/N\]:? ?$")
UNITS = re.compile(r"\b(?:B|KiB|MiB|GiB)\b")


def shape(text: str) -> str:
    """Without what differs between two runs: numbers, their units, and how many blanks align them."""
    text = re.sub(r"\d+(?:[.,:T-]\d+)*Z?(?:-\d+)?", "N", text)
    return re.sub(r"[ \t]+", " ", UNITS.sub("U", text))


class Walk:
    """One reader. `places` replaces text in the commands and in what they should print."""

    def __init__(self, directory: Path, places: Mapping[str, str]) -> None:
        self.directory = directory
        self.places = places
        self.broker: subprocess.Popen[str] | None = None
        commands = Path(sys.executable).parent
        own = {key: value for key, value in os.environ.items() if not key.startswith("HEADWATER_")}
        self.environment = {**own, "PATH": f"{commands}:{os.environ['PATH']}", "COLUMNS": "200"}

    def replaced(self, text: str) -> str:
        for written, ours in self.places.items():
            text = text.replace(written, ours)
        return text

    def follow(self, shown: Shown, typed: str = "") -> str:
        """Runs a command as the reader does; returns what it prints. Asserts that it succeeds. `typed` answers each question."""
        line = self.replaced(shown.line)
        if line.startswith("export "):
            self.environment |= dict(word.split("=", 1) for word in shlex.split(line)[1:])
            return ""
        if line.startswith("headwater up") and "--check-config" not in line:
            return self.start(line)
        return self.answered(line, typed) if typed else self.run(line)

    def run(self, line: str) -> str:
        result = subprocess.run(
            ["bash", "-c", line],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert result.returncode in self.statuses(line), (line, result.stdout)
        return result.stdout

    def statuses(self, line: str) -> tuple[int, ...]:
        """`headwater doctor` says with its status whether there is damage."""
        return (0, 1) if line.startswith("headwater doctor") else (0,)

    def answered(self, line: str, typed: str) -> str:
        """As `run`, at a terminal, whose questions are answered. What is typed there is not shown."""
        ours, theirs = os.openpty()
        process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=self.directory,
            env=self.environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        printed = ""
        try:
            while more := self.read(ours):
                printed += more
                if PROMPT.search(printed):
                    os.write(ours, f"{typed}\n".encode())
        finally:
            os.close(ours)
        assert process.wait(WAIT_S) in self.statuses(line), (line, printed)
        return printed.replace("\r\n", "\n")

    def read(self, terminal: int) -> str:
        """What comes next, or "" when the other side has closed the terminal."""
        try:
            return os.read(terminal, 65536).decode()
        except OSError:
            return ""

    def start(self, line: str) -> str:
        """A broker, in place of the one before; returns the line with which it says that it is ready."""
        self.stop()
        in_background = line.endswith("&")
        command = line.removesuffix("&")
        if "--listen" not in command:
            command += f" --listen {self.places['127.0.0.1:9092']}"
        self.broker = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.broker.stdout is not None
        if in_background:  # the document reads itself when it is ready
            return ""
        ready = self.broker.stdout.readline()
        assert ready.startswith("Headwater is ready"), ready + self.broker.stdout.read()
        self.environment.setdefault("HEADWATER_BOOTSTRAP_SERVER", self.places["127.0.0.1:9092"])
        return ready

    def stop(self) -> None:
        """As Ctrl-C does, which a shell may have turned off for what it runs in the background."""
        if self.broker is not None:
            self.broker.send_signal(signal.SIGTERM)
            output, _ = self.broker.communicate(timeout=WAIT_S)
            assert self.broker.returncode == 0, output
            self.broker = None
