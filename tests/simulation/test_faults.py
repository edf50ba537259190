"""A fault at every call: whichever call on the files fails, nothing that was acknowledged is lost, and the broker says
so with a code or an exception that has a name.
"""

import errno

import pytest

from headwater.effects.memory_files import MemoryFiles
from headwater.protocol.apis import ApiKey
from headwater.protocol.error_codes import ErrorCode
from headwater.protocol.messages.create_topics import CreateTopicsRequest
from headwater.storage.errors import StorageError
from tests.broker.harness import Harness

CALLS_MAX = 400
VALUES = [b"%d" % n for n in range(6)]


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
