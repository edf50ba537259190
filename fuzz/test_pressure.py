"""Attacks on a broker that was started as users start it, while a well-behaved client keeps working: CI's share of them.

`make fuzz-full` has them whole, and measures how much slower the well-behaved client becomes. Here it only must be served.
"""

import asyncio
import os
from collections.abc import Iterator

import pytest

from fuzz.attacks import Attack, bombs, damaged_frames, held, sasl_in_any_order, slow_readers, strangers
from fuzz.bystander import Bystander
from fuzz.target import GROWTH_MIB_MAX, Target, target

SEED = int(os.environ.get("TEST_FUZZ_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
BYSTANDER_S = 3.0


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with target(tmp_path_factory.mktemp("attacked")) as running:
        asyncio.run(damaged_frames(running.address, 500, 1))  # modules and codecs are loaded by now
        yield running


def check(attacked: Target, before_mib: float) -> None:
    assert attacked.defects() == [], f"seed {SEED}"
    assert attacked.peak_mib() - before_mib <= GROWTH_MIB_MAX, f"seed {SEED}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("attack", "count"),
    [(damaged_frames, 20_000), (bombs, 120), (sasl_in_any_order, 400)],
    ids=["damaged frames", "bombs", "SASL in any order"],
)
def test_a_client_beside_an_attacker_is_served(attacked: Target, attack: Attack, count: int) -> None:
    before_mib = attacked.begin_peak()
    bystander = Bystander(attacked.address, BYSTANDER_S)
    asyncio.run(attack(attacked.secured if attack is sasl_in_any_order else attacked.address, count, SEED))
    assert bystander.result().answers > 0
    check(attacked, before_mib)


@pytest.mark.timeout(300)
def test_strangers_and_slow_readers_keep_nobody_out(attacked: Target) -> None:
    async def hold() -> None:
        async with held(attacked.secured, 1500, strangers), held(attacked.address, 200, slow_readers) as readers:
            assert readers > 0
            assert (await asyncio.to_thread(attacked.serve_bystander, BYSTANDER_S)).answers > 0

    before_mib = attacked.begin_peak()
    asyncio.run(hold())
    check(attacked, before_mib)
