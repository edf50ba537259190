"""Keeps the planes' process running beside the broker, in the broker's loop.

    waiting ── start ──> running ── it ends by itself ──> waiting, for longer each time
                            │
                           stop ──> ended: by the end of its standard input, or killed after a while

The process serves on sockets that the broker's process has bound. So an address is known before the process exists, a port
that is in use is noticed at once, and clients that ask while the process starts, or restarts, wait in the system's queue. It
stops when its standard input ends. That happens even if the broker is killed: nothing is left running.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from headwater.broker.shell.children import start_child
from headwater.effects.clock import Clock, SystemClock
from headwater.effects.logs import get_logger
from headwater.planes.restarts import Restarts

logger = get_logger(__name__)

COMMAND = (sys.executable, "-P", "-m", "headwater.planes.process")
STOP_TIMEOUT_S = 10.0
READ_BYTES = 4096


class Supervisor:
    """Runs `command`, with a handover on its standard input and with inherited descriptors.

    The process writes one line to its standard output, when it serves.
    """

    def __init__(
        self,
        handover: Callable[[], bytes],
        descriptors: Sequence[int],
        *,
        command: Sequence[str] = COMMAND,
        clock: Clock | None = None,
    ) -> None:
        self.handover, self.descriptors, self.command = handover, descriptors, command
        self.loop = asyncio.get_running_loop()
        self.steady_ms = (clock or SystemClock()).steady_ms
        self.restarts = Restarts()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_ms = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.reaping: asyncio.Task[None] | None = None
        self.is_stopping = False
        self.ready = asyncio.Event()  # set while the process serves
        self.gone = asyncio.Event()  # set while there is no process
        self.gone.set()

    def start(self) -> None:
        """Starts the process. If that is not possible, tries again later."""
        self.timer, self.started_ms = None, self.steady_ms()
        try:
            self.process = start_child(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=self.descriptors,
            )
        except OSError as error:
            self.start_again(f"cannot be started: {error}")
            return
        self.gone.clear()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended; its status says why
            self.process.stdin.write(self.handover())
        self.loop.add_reader(self.process.stdout.fileno(), self.read, self.process)

    def read(self, process: subprocess.Popen[bytes]) -> None:
        """Reads its standard output: a line when it serves, and the end when it ends."""
        assert process.stdout is not None
        if os.read(process.stdout.fileno(), READ_BYTES):
            took_ms = round(self.steady_ms() - self.started_ms)
            logger.info("the planes are served by process %d, which took %d ms to start", process.pid, took_ms)
            self.ready.set()
            return
        self.loop.remove_reader(process.stdout.fileno())
        self.ready.clear()
        self.reaping = self.loop.create_task(self.reap(process))

    async def reap(self, process: subprocess.Popen[bytes]) -> None:
        """Waits for a process that has closed its output to end, and starts another, unless the broker stops."""
        status = await self.loop.run_in_executor(None, process.wait)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        self.process = None
        self.gone.set()
        if not self.is_stopping:
            self.start_again(f"ended by signal {-status}" if status < 0 else f"ended with status {status}")

    def start_again(self, reason: str) -> None:
        delay_ms = self.restarts.delay_ms(self.steady_ms() - self.started_ms)
        logger.warning("the planes' process %s; restarting it in %.1f s", reason, delay_ms / 1000)
        self.timer = self.loop.call_later(delay_ms / 1000, self.start)

    def stop(self) -> None:
        """Asks the process to end; `ended` waits for it."""
        self.is_stopping = True
        if self.timer is not None:
            self.timer.cancel()
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()

    async def ended(self) -> None:
        """Returns when the process is gone. A process that does not end by itself is killed."""
        try:
            await asyncio.wait_for(self.gone.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            logger.warning("the planes' process does not end; killing it")
            if self.process is not None:
                self.process.kill()
            await self.gone.wait()
