"""The shell when the disk or the system fails it: a server without a port, on files with faults."""

import errno

import pytest

from headwater.broker.server import Server
from tests.broker.harness import Harness
from tests.storage.test_checkpoint import Fault


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC])
async def test_a_checkpoint_that_meets_a_shortage_does_not_end_the_broker(number: int) -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"1")
    server = Server(broker.core, inline=True)
    broker.files.fault = Fault("open", "-checkpoint.tmp", number)
    server.begin_checkpoint()
    assert not server.failed.done()
    assert broker.core.store.dirty
    broker.files.fault = None
    assert broker.produce("t", b"2").error_code == 0
    server.begin_checkpoint()
    assert not broker.core.store.dirty
    await server.stop()


async def test_a_checkpoint_whose_sync_fails_ends_the_broker() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"1")
    server = Server(broker.core, inline=True)
    broker.files.fault = Fault("sync", ".log", errno.EIO)
    server.begin_checkpoint()
    assert server.failed.done()
    broker.files.fault = None
    await server.stop()
