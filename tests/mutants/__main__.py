"""`python -m tests.mutants`: plants each bug and tells which of them no test has noticed. Exit status 1 if there is one.

python -m tests.mutants                        all bugs
python -m tests.mutants --draw 6 [--seed N]    some of them, others each time
python -m tests.mutants NAME...                these
python -m tests.mutants NAME --look PATH...    which tests in these paths notice the bug, the fastest first
"""

import argparse
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from random import Random
from time import monotonic

from tests.mutants.planting import Bug, BugError, Sources, check_tests, load_bugs
from tests.mutants.running import Copy, Fate, Report, fate_of

WORKERS = 2
LOOK_TIMEOUT_S = 900.0
SOUND_TIMEOUT_S = 600.0


class Workers:
    """Copies of the source, one for each worker; `run` waits for a free one."""

    def __init__(self, number: int, place: Path) -> None:
        self.free: SimpleQueue[Copy] = SimpleQueue()
        for n in range(number):
            self.free.put(Copy(place / str(n)))

    def kill(self, bug: Bug, sources: Sources) -> tuple[Bug, Fate, str, float]:
        copy = self.free.get()
        began = monotonic()
        try:
            fate, why = fate_of(bug, copy.run(bug.tests, sources.plant(bug)))
        finally:
            self.free.put(copy)
        return bug, fate, why, monotonic() - began

    def run_sound(self, tests: Sequence[str]) -> Report:
        """The same tests without any bug."""
        copy = self.free.get()
        try:
            return copy.run(tests, timeout_s=SOUND_TIMEOUT_S, to_the_end=True)
        finally:
            self.free.put(copy)

    def look(self, bug: Bug, sources: Sources, paths: Sequence[str]) -> Report:
        copy = self.free.get()
        try:
            return copy.run(paths, sources.plant(bug), timeout_s=LOOK_TIMEOUT_S, to_the_end=True)
        finally:
            self.free.put(copy)


def problems_of_sound(report: Report) -> Iterator[str]:
    """What shows that the named tests prove nothing: they fail, or do not run, where there is no bug."""
    if report.trouble:
        yield report.trouble
    for what, names in (("fails", report.failed), ("does not end", report.timed_out), ("is skipped", report.skipped)):
        yield from (f"without any bug {name} {what}" for name in names)


def kill_all(bugs: list[Bug], sources: Sources, workers: Workers, number: int) -> int:
    """Plants every bug; returns how many did not die, or whose tests prove nothing."""
    began, wrong = monotonic(), 0
    tests = sorted({test for bug in bugs for test in bug.tests})
    with ThreadPoolExecutor(number) as pool:
        sound = pool.submit(workers.run_sound, tests)
        for future in as_completed([pool.submit(workers.kill, bug, sources) for bug in bugs]):
            bug, fate, why, took_s = future.result()
            print(f"{fate.value:9} {bug.area}/{bug.name} ({took_s:.1f} s): {why}", flush=True)
            if fate is not Fate.DIED:
                wrong += 1
                print(f"          {bug.breaks}", flush=True)
        for problem in problems_of_sound(sound.result()):
            wrong += 1
            print(problem, flush=True)
    died = "all died" if not wrong else f"{wrong} WRONG"
    print(f"{len(bugs)} planted bugs, {len(tests)} tests: {died} ({monotonic() - began:.0f} s)", flush=True)
    return wrong


def look(bug: Bug, sources: Sources, workers: Workers, paths: Sequence[str]) -> None:
    report = workers.look(bug, sources, paths)
    if report.trouble:
        print(report.trouble)
    for kind, names in (("fails", report.failed), ("does not end", report.timed_out)):
        for name in sorted(set(names), key=lambda name: report.seconds[name]):
            print(f"{report.seconds[name]:6.2f} s {kind}: {name}")
    print(f"{bug.name}: {len(report.passed)} tests do not notice it")


def chosen(arguments: argparse.Namespace, bugs: list[Bug]) -> list[Bug]:
    """Raises BugError for a name that is none."""
    if arguments.names:
        unknown = set(arguments.names) - {bug.name for bug in bugs}
        if unknown:
            raise BugError(f"there is no bug {', '.join(sorted(unknown))}")
        return [bug for bug in bugs if bug.name in arguments.names]
    if not arguments.draw:
        return bugs
    seed = arguments.seed if arguments.seed is not None else secrets.randbits(32)
    print(f"drawn with --draw {arguments.draw} --seed {seed}", flush=True)
    return Random(seed).sample(bugs, min(arguments.draw, len(bugs)))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="bugs to plant; all without a name")
    parser.add_argument("--draw", type=int, default=0, help="plant this many, drawn from all")
    parser.add_argument("--seed", type=int, help="draw the same again")
    parser.add_argument("--workers", type=int, default=WORKERS, help="how many at a time")
    parser.add_argument("--look", nargs="+", metavar="PATH", help="show which of these tests notice each bug")
    arguments = parser.parse_args()
    try:
        bugs, sources = chosen(arguments, load_bugs()), Sources()
        for bug in bugs:
            sources.plant(bug)
            if not arguments.look:
                check_tests(bug)
    except BugError as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="headwater-mutants-") as place:
        workers = Workers(arguments.workers, Path(place))
        if not arguments.look:
            return 1 if kill_all(bugs, sources, workers, arguments.workers) else 0
        with ThreadPoolExecutor(arguments.workers) as pool:
            list(pool.map(lambda bug: look(bug, sources, workers, arguments.look), bugs))
        return 0


if __name__ == "__main__":
    sys.exit(main())
