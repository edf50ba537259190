"""`make fuzz-full`: every attack in full, and what it costs the broker and a well-behaved client beside it.

A row per attack: how long it took, by how much the broker's memory grew at its peak, and the 99th percentile of a client
that sends one record per request, beside the attack and beside as many ordinary requests. Ends with 1 where the broker's
log names a defect, memory grew by more than the limit, or the percentile more than doubled.
"""

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from fuzz.attacks import bombs, damaged_frames, held, sasl_in_any_order, slow_readers, strangers
from fuzz.bystander import Bystander, Latencies
from fuzz.target import GROWTH_MIB_MAX, Target, target

FRAMES = 2_000_000
BOMBS = 4 * 200
WARM_UP_FRAMES = 5000
SASL_STEPS = 20_000
STRANGERS = 5000
SLOW_READERS = 1000
MEASURED_S = 20.0
RATIO_MAX = 2.0


class Row(NamedTuple):
    attack: str
    taken_s: float
    growth_mib: float
    quiet: Latencies
    beside: Latencies

    @property
    def is_good(self) -> bool:
        return self.growth_mib <= GROWTH_MIB_MAX and self.beside.p99_ms <= RATIO_MAX * self.quiet.p99_ms


def run_attack(attacked: Target, name: str, attack: Callable[[], Awaitable[None]]) -> Row:
    """Runs an attack in a thread of its own, and the well-behaved client before it and beside it."""
    quiet = attacked.serve_bystander(MEASURED_S)
    before_mib = attacked.begin_peak()
    begun = time.perf_counter()
    failures: list[BaseException] = []

    def run() -> None:
        os.nice(19)  # of this thread: an attacker has a processor of its own, and here it must not take the broker's
        try:
            asyncio.run(as_coroutine(attack()))
        except BaseException as error:  # noqa: BLE001 - it is raised again in the main thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    beside = Bystander(attacked.address, MEASURED_S).result()
    thread.join()
    if failures:
        raise failures[0]
    return Row(name, time.perf_counter() - begun, attacked.peak_mib() - before_mib, quiet, beside)


async def as_coroutine(attack: Awaitable[None]) -> None:
    await attack


async def hold(address: str, count: int, first_bytes: Callable[[int], bytes]) -> None:
    async with held(address, count, first_bytes):
        await asyncio.sleep(MEASURED_S)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else time.time_ns() % 2**32
    print(f"seed {seed}")
    print(f"{'attack':34} {'s':>6} {'MiB':>6} {'p99 quiet':>10} {'beside':>8} {'ratio':>6} {'longest':>8}")
    with tempfile.TemporaryDirectory() as directory, target(Path(directory)) as attacked:
        plain, secured = attacked.address, attacked.secured
        attacks: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            (f"{SASL_STEPS} steps of SASL", lambda: sasl_in_any_order(secured, SASL_STEPS, seed)),
            (f"{STRANGERS} strangers", lambda: hold(secured, STRANGERS, strangers)),
            (f"{SLOW_READERS} slow readers", lambda: hold(plain, SLOW_READERS, slow_readers)),
            (f"{BOMBS} bombs", lambda: bombs(plain, BOMBS, seed)),
            (f"{FRAMES} damaged frames", lambda: damaged_frames(plain, FRAMES, seed)),
        ]
        asyncio.run(
            as_coroutine(damaged_frames(plain, WARM_UP_FRAMES, seed))
        )  # code is compiled once, not by an attack
        is_good = True
        for name, attack in attacks:
            row = run_attack(attacked, name, attack)
            is_good &= row.is_good
            quiet, beside = row.quiet.p99_ms, row.beside.p99_ms
            figures = f"{row.taken_s:6.0f} {row.growth_mib:6.0f} {quiet:10.1f} {beside:8.1f} {beside / quiet:6.2f}"
            print(f"{name:34} {figures} {row.beside.max_ms:8.1f}{'' if row.is_good else '  <-- beyond the limit'}")
        defects = attacked.defects()
        print("\n".join(defects[:20]))
        return 0 if is_good and not defects else 1


if __name__ == "__main__":
    sys.exit(main())
