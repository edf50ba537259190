"""Power cuts: a broker under load on ext4, the state of its disk at any moment, and a broker that starts on that.

    python -m tests.power.cuts DIRECTORY CUTS SEED

Run it as root in a mount and a process namespace of its own, as `test_power_cuts.py` does: when it ends, however it ends,
the kernel kills the broker, unmounts everything and detaches the loop devices. It ends with standard input.

A life: a new disk, a broker, its load, and an orderly stop. At random moments of it, most of them under load, some during
the start, the stop and after it, the power is cut: `recorded_disk.py` makes the image of that moment. The life continues. After it, each
image is mounted, and a broker on it must have all that had been acknowledged when the cut began. Every third time the power
is cut again while the broker recovers; then the state after the second cut must be as good.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from headwater.broker.shell.ready import Ready
from headwater.testing.simulate.history import History
from tests.power.clients import Clients, Fact
from tests.power.cut_history import Readers, facts_until, until, write_everywhere
from tests.power.recorded_disk import RecordedDisk

DISK_BYTES = 256 << 20
CUTS_IN_LIFE = 4
LOAD_S = (1.0, 6.0)
RECOVERY_S = 1.2
WRITES_MAX = 40  # that a cut waits for: right after a write, most of them are before the flush
PHASES = ("start", "load", "stop", "after the stop")
WEIGHTS = (2, 14, 3, 1)
START_S, STOP_S = 1.0, 0.25  # about how long they take
STOP_TIMEOUT_S = 120
UNMOUNT_TIMEOUT_S = 30
SETTINGS = (
    "headwater.journal.file.bytes=1048576",
    "log.flush.offset.checkpoint.interval.ms=250",
    "log.cleaner.backoff.ms=100",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.num.partitions=3",
    "transaction.state.log.num.partitions=3",
)
# How much reaches the disk besides what is synced: nothing, much of the names, everything soon.
MOUNTS = ("commit=300,noauto_da_alloc", "commit=1,noauto_da_alloc", "commit=1,noauto_da_alloc,nodelalloc")
ALARMING = re.compile(r"ERROR|CRITICAL|Traceback|stray|is kept; inspect it")


@dataclass(frozen=True, slots=True)
class Cut:
    """An image, and the moment of which it is."""

    image: Path
    moment: int
    phase: str
    unflushed: int


class Phases:
    """When each phase of a life has begun; `end` begins those that are left."""

    def __init__(self) -> None:
        self.begun_s: dict[str, float] = {}
        self.events = {phase: threading.Event() for phase in PHASES}
        self.now = "before the start"

    def begin(self, phase: str) -> None:
        self.now, self.begun_s[phase] = phase, time.monotonic()
        self.events[phase].set()

    def end(self) -> None:
        for phase in PHASES:
            if phase not in self.begun_s:
                self.begin(phase)

    def wait(self, phase: str) -> float:
        self.events[phase].wait()
        return self.begun_s[phase]


class Broker:
    """`headwater up` on a mounted disk."""

    def __init__(self, data: Path, log: Path) -> None:
        self.log = log
        command = [sys.executable, "-m", "headwater", "up", "--data", str(data), "--listen", "127.0.0.1:0"]
        command += ["--ready-fd", "1"]
        for setting in SETTINGS:
            command += ["--set", setting]
        with log.open("a") as file:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True)

    def wait_ready(self) -> str:
        """The address."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()[-2000:]
        return Ready.from_line(line).listeners[0].address

    def state(self) -> str:
        """What its processes do at the moment, as the kernel sees it."""
        lines = []
        for status in Path("/proc").glob("[0-9]*/status"):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            waiting = (status.parent / "wchan").read_text()
            lines.append(f"{fields['Pid']} {fields['Name']} {fields['State']} in {waiting}")
        return "\n".join(lines)

    def stop(self) -> None:
        code = self.end(signal.SIGTERM)
        assert code == 0, f"status {code}: {self.log.read_text()[-2000:]}"

    def end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def unmount(at: Path) -> None:
    """Waits for the children of a broker that was killed: they end by themselves, and have files open until then."""
    deadline = time.monotonic() + UNMOUNT_TIMEOUT_S
    while subprocess.run(["umount", str(at)], capture_output=True, check=False).returncode:
        if time.monotonic() > deadline:
            run("umount", at)
        time.sleep(0.05)  # nothing tells that a disk is no longer used


@contextmanager
def mounted(disk: Path, at: Path, options: str = "") -> Iterator[Path]:
    at.mkdir(exist_ok=True)
    run("mount", "-t", "ext4", "-o", f"loop,{options}".rstrip(","), disk, at)
    try:
        yield at
    finally:
        unmount(at)


@contextmanager
def recorded(directory: Path, image: Path | None = None) -> Iterator[RecordedDisk]:
    disk = RecordedDisk(directory, DISK_BYTES, image)
    try:
        yield disk
    finally:
        unmount(directory)
        disk.stop()
        directory.rmdir()


class PowerCuts:
    """See the module's docstring."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.random = Random(seed)
        self.made = self.checked = self.nested = 0
        self.operations = self.unflushed = 0
        self.phases: dict[str, int] = {}

    def run(self, count: int) -> list[str]:
        """The problems of the first life that has some."""
        while self.checked < count:
            problems = self.live(min(CUTS_IN_LIFE, count - self.checked))
            print(f"{self.checked} cuts, {self.operations} operations, {len(problems)} problems", flush=True)
            if problems:
                return problems
        return []

    # -- a life with cuts

    def live(self, count: int) -> list[str]:
        random, directory = self.random, self.directory
        options, load_s = random.choice(MOUNTS), random.uniform(*LOAD_S)
        lengths_s = dict(zip(PHASES, (START_S, load_s, STOP_S, 0.1), strict=True))
        phases = sorted(random.choices(PHASES, WEIGHTS, k=count), key=PHASES.index)
        moments = sorted((PHASES.index(phase), random.uniform(0, lengths_s[phase])) for phase in phases)
        cuts: list[Cut] = []
        begun = Phases()
        with ExitStack() as stack:
            disk = stack.enter_context(recorded(directory / "device"))
            run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", disk.path)
            mount = stack.enter_context(mounted(disk.path, directory / "disk", options))
            cutter = threading.Thread(target=self.cut_at, args=(disk, moments, cuts, begun))
            cutter.start()
            try:
                clients = self.work(mount / "data", load_s, begun)
            finally:
                begun.end()
                cutter.join()
        return self.check_all(cuts, clients, options)

    def work(self, data: Path, load_s: float, phases: Phases) -> Clients:
        """A broker's whole life."""
        log = self.directory / "life.log"
        broker = Broker(data, log)
        try:
            phases.begin("start")
            address = broker.wait_ready()
            clients = Clients(address, self.random.getrandbits(32))
            phases.begin("load")
            clients.start()
            clients.over.wait(load_s)  # an error ends it early
            clients.stop()
            phases.begin("stop")
            broker.stop()
        except BaseException:
            print(f"{broker.state()}\n{log.read_text()[-4000:]}", flush=True)  # all of this is gone with this process
            raise
        finally:
            broker.end(signal.SIGKILL)
        return clients

    def cut_at(self, disk: RecordedDisk, moments: list[tuple[int, float]], cuts: list[Cut], phases: Phases) -> None:
        """Each moment: so many seconds after the beginning of a phase."""
        for number, delay_s in moments:
            begun_s = phases.wait(PHASES[number])
            time.sleep(max(0.0, begun_s + delay_s - time.monotonic()))  # when is the seed's choice
            cuts.append(self.cut(disk, phases.now))

    def cut(self, disk: RecordedDisk, phase: str) -> Cut:
        self.made += 1
        image = self.directory / f"cut-{self.made}.img"
        moment, unflushed = disk.cut(image, self.random.getrandbits(32), self.random.randrange(WRITES_MAX))
        return Cut(image, moment, phase, unflushed)

    # -- what is there afterwards

    def check_all(self, cuts: list[Cut], clients: Clients, options: str) -> list[str]:
        problems = []
        for cut in cuts:
            history = until(clients.history.operations, cut.moment)
            facts = facts_until(clients.facts, cut.moment)
            self.checked += 1
            self.operations += len(history.operations)
            self.unflushed += cut.unflushed > 0
            self.phases[cut.phase] = self.phases.get(cut.phase, 0) + 1
            image, is_second = cut.image, self.checked % 3 == 0
            if is_second:
                image = self.cut_again(image, options)
                self.nested += 1
            found = self.check(image, history, facts)
            where = f"cut {self.checked} ({cut.phase}{', and during recovery' * is_second}; {options})"
            problems += [f"{where}: {problem}" for problem in found]
            if found:
                (self.directory / "history").write_text("\n".join(history.lines()))
                break
            image.unlink()
        return problems

    def cut_again(self, image: Path, options: str) -> Path:
        """Starts a broker on a disk after a cut, and cuts the power while it starts; returns the second image."""
        with (
            recorded(self.directory / "device", image) as disk,
            mounted(disk.path, self.directory / "disk", options) as at,
        ):
            broker = Broker(at / "data", self.directory / "recovery.log")
            time.sleep(self.random.uniform(0.1, RECOVERY_S))  # when is the seed's choice
            cut = self.cut(disk, "recovery")
            broker.end(signal.SIGKILL)
        image.unlink()
        return cut.image

    def check(self, image: Path, history: History, facts: list[Fact]) -> list[str]:
        log = self.directory / "check.log"
        log.unlink(missing_ok=True)
        with mounted(image, self.directory / "disk") as mount:
            broker = Broker(mount / "data", log)
            try:
                address = broker.wait_ready()
                readers = Readers(address, history)
                problems = readers.problems(facts)
                topics = {name for name in readers.topics if not name.startswith("__")}
                problems += write_everywhere(address, topics, self.checked)
                broker.stop()
            finally:
                broker.end(signal.SIGKILL)
        problems += [f"the log says: {line}" for line in log.read_text().splitlines() if ALARMING.search(line)]
        run("e2fsck", "-f", "-n", image)  # a disk that ext4 does not survive is not a disk: then the test is wrong
        return problems


def end_with_input() -> None:
    """Whoever started this is gone: as the first process of its namespace it takes everything along."""
    sys.stdin.read()
    os._exit(3)


def main() -> None:
    directory, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=end_with_input, daemon=True).start()
    run("mount", "-t", "tmpfs", "-o", "size=4g", "power-cuts", directory)
    cuts = PowerCuts(directory, seed)
    began = time.monotonic()
    problems = cuts.run(count)
    figures = {
        "cuts": cuts.checked,
        "nested": cuts.nested,
        "with unflushed writes": cuts.unflushed,
        "operations": cuts.operations,
        "phases": cuts.phases,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(figures), flush=True)
    for problem in problems[:30]:
        print(problem, flush=True)
    os._exit(1 if problems else 0)  # the thread that reads standard input does not end


if __name__ == "__main__":
    main()
