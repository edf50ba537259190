"""A fault at every call: whichever call on the files fails, nothing that was acknowledged is lost, and the broker says
so with a code or an exception that has a name.

The short work is done with each call failing. Of the whole script (`scripted_run.py`) each run draws some: `TEST_FAULTS` says
how many, and `all` is every call, for every kind of fault. A failure prints the seed, the call and the kind.
"""

import errno
import os
from random import Random

import pytest

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.storage.errors import StorageError
from tests.broker.harness import Harness
from tests.simulation.faulty_files import Fault, FaultyFiles
from tests.simulation.scripted_run import ScriptedRun

CALLS_MAX = 400
VALUES = [b"%d" % n for n in range(6)]
FAULTS = os.environ.get("TEST_FAULTS", "30")
SEED = int(os.environ.get("TEST_FAULTS_SEED", "0")) or int.from_bytes(os.urandom(4))
KINDS = [
    Fault(errno.EIO),
    Fault(errno.EIO, lasts=True),
    Fault(errno.EIO, is_short=True),
    Fault(errno.ENOSPC),
    Fault(errno.ENOSPC, is_short=True),
    Fault(errno.ENOSPC, is_short=True, lasts=True),
    Fault(errno.EMFILE),
    Fault(errno.EMFILE, lasts=True),
]


def work(files: MemoryFiles) -> list[bytes]:
    """Starts, writes, checkpoints and stops a broker; returns what was acknowledged until something failed."""
    acknowledged: list[bytes] = []
    try:
        broker = Harness(files)
        created = broker.call(
            ApiKey.CREATE_TOPICS, 7, CreateTopicsRequest([CreateTopicsRequest.CreatableTopic("t", 1, 1)])
        )
        if created.topics[0].error_code:
            assert created.topics[0].error_code == ErrorCode.KAFKA_STORAGE_ERROR
            return []
        for n, value in enumerate(VALUES):
            answer = broker.produce("t", value)
            if answer.error_code == 0:
                acknowledged.append(value)
            else:
                assert answer.error_code == ErrorCode.KAFKA_STORAGE_ERROR
            if n == 3:
                broker.core.store.checkpoint()
        broker.restart()
        broker.produce("t", b"after")
    except (OSError, StorageError):
        pass  # a broker that ends is a broker that acknowledges nothing more
    return acknowledged


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EMFILE])
def test_a_fault_at_every_call(number: int) -> None:
    for failing in range(1, CALLS_MAX):
        files = MemoryFiles()
        count = 0

        def fault(call: str, path: str, failing: int = failing) -> int | None:
            nonlocal count
            count += 1
            return number if count == failing else None

        files.fault = fault
        acknowledged = work(files)
        files.fault = None
        files.locks.clear()
        if count < failing:
            return
        broker = Harness(files)
        found = [r.value for r in broker.read_all("t")] if "t" in broker.core.metadata.topics else []
        assert [value for value in found if value in acknowledged] == acknowledged, f"call {failing}"
    raise AssertionError(f"the work makes more than {CALLS_MAX} calls")


@pytest.mark.timeout(7200)
def test_a_fault_at_the_calls_of_a_script() -> None:
    random = Random(SEED)
    whole = FaultyFiles()
    run = ScriptedRun(whole, SEED)
    run.run()
    assert run.has_done_everything
    plan = [
        (fault, number) for fault in KINDS for number, (call, _) in enumerate(whole.calls, 1) if fault.can_fail(call)
    ]
    for fault, number in plan if FAULTS == "all" else random.sample(plan, int(FAULTS)):
        files = FaultyFiles(fault, number)
        try:
            ScriptedRun(files, SEED).run()
        except BaseException as error:
            raise AssertionError(
                f"TEST_FAULTS_SEED={SEED}, {fault} at call {number} {files.hits[:1]}: {error}"
            ) from error
