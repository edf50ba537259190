"""The shell when the disk or the system fails it: a server without a port, on files with faults."""

import asyncio
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import cast

import pytest

from headwater.broker.shell.server import Server
from headwater.broker.shell.syncer import Syncer
from headwater.effects.files import SyncError
from headwater.protocol.records import Record, build_batch
from tests.broker.harness import Harness
from tests.storage.test_checkpoint import Fault


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC])
async def test_a_checkpoint_that_meets_a_shortage_does_not_end_the_broker(number: int) -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"1")
    server = Server(broker.core, inline=True)
    broker.files.fault = Fault("open", "-checkpoint.tmp", number)
    server.durability.begin_checkpoint()
    assert not server.failure.done()
    assert broker.core.store.dirty
    broker.files.fault = None
    assert broker.produce("t", b"2").error_code == 0
    server.durability.begin_checkpoint()
    assert not broker.core.store.dirty
    await server.stop()


async def test_a_checkpoint_whose_sync_fails_ends_the_broker() -> None:
    broker = Harness()
    broker.create_topic("t")
    broker.produce("t", b"1")
    server = Server(broker.core, inline=True)
    broker.files.fault = Fault("sync", ".log", errno.EIO)
    server.durability.begin_checkpoint()
    assert server.failure.done()
    broker.files.fault = None
    with pytest.raises(SyncError):
        await server.stop()


class HeldSyncer:
    """Stands for the process that syncs: it gets its orders, and the test says when it has done them."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.is_stopped = False

    def sync(self, index: int) -> None:
        if self.is_stopped:
            raise OSError(errno.EBADF, "the process that syncs has been stopped")
        self.asked.append(index)

    def stop(self, **_: bool) -> None:
        self.is_stopped = True


def held_server(broker: Harness) -> tuple[Server, HeldSyncer]:
    broker.hold_syncs = True
    server = Server(broker.core, inline=True)
    syncer = HeldSyncer()
    server.syncer = cast(Syncer, syncer)
    return server, syncer


def end_turn(server: Server) -> None:
    """The end of a turn in which something has happened."""
    server.after_event()
    server.end_turn()


async def test_a_turn_is_written_together_at_its_end() -> None:
    broker = Harness()
    broker.create_topic("t")
    server, syncer = held_server(broker)
    batch = build_batch([Record(None, b"1", (), 1)])
    pending = []
    for _ in range(3):
        pending.append(broker.produce_batch("t", batch))
        server.after_event()
    assert not syncer.asked
    await asyncio.sleep(0)
    assert len(syncer.asked) == 1
    server.after_sync(None)
    assert all(each.is_done for each in pending)
    assert len(syncer.asked) == 1
    server.syncer = None
    await server.stop()


async def test_a_stop_writes_what_the_end_of_the_turn_would_have_written() -> None:
    broker = Harness()
    broker.create_topic("t")
    server, syncer = held_server(broker)
    pending = broker.produce_batch("t", build_batch([Record(None, b"1", (), 1)]))
    server.after_event()
    stopping = asyncio.ensure_future(server.stop())
    while not syncer.asked:
        await asyncio.sleep(0)
    assert not syncer.is_stopped  # it waits for the sync
    server.after_sync(None)
    await stopping
    assert pending.is_done


async def test_nothing_is_acknowledged_before_its_sync_has_succeeded() -> None:
    broker = Harness()
    broker.create_topic("t")
    server, syncer = held_server(broker)
    batch = build_batch([Record(None, b"1", (), 1)])
    first = broker.produce_batch("t", batch)
    end_turn(server)
    second = broker.produce_batch("t", batch)
    end_turn(server)
    assert len(syncer.asked) == 1  # one at a time
    assert not first.is_done
    server.after_sync(None)
    assert (first.is_done, second.is_done) == (True, False)
    assert len(syncer.asked) == 2
    assert broker.core.partitions.log(broker.core.metadata.topics["t"], 0).high_watermark == 1
    server.after_sync(None)
    assert second.is_done
    server.syncer = None
    await server.stop()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
async def test_after_a_failed_sync_nothing_more_is_acknowledged(number: int) -> None:
    """M22: an answer now would promise what may not be on disk."""
    broker = Harness()
    broker.create_topic("t")
    server, syncer = held_server(broker)
    batch = build_batch([Record(None, b"1", (), 1)])
    first = broker.produce_batch("t", batch)
    end_turn(server)
    second = broker.produce_batch("t", batch)
    server.after_sync(OSError(number, "the disk is gone"))
    assert server.failure.done()
    with pytest.raises(OSError, match="the disk is gone"):
        await server.run_until(asyncio.Event())
    assert broker.core.is_failed
    end_turn(server)
    assert len(syncer.asked) == 1
    assert not first.is_done
    assert not second.is_done
    assert broker.core.partitions.log(broker.core.metadata.topics["t"], 0).high_watermark == 0
    server.syncer = None
    with pytest.raises(OSError, match="the disk is gone"):
        await server.stop()
    assert not broker.files.exists("data/.kafka_cleanshutdown")


async def test_what_fails_when_a_group_is_on_disk_keeps_nobody_from_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Harness()
    broker.create_topic("t")
    server, _ = held_server(broker)
    batch = build_batch([Record(None, b"1", (), 1)])

    def fail() -> None:
        raise ValueError("broken")

    first = broker.produce_batch("t", batch)
    broker.core.when_durable(broker.core.store.journal.pending.number, fail)
    end_turn(server)
    second = broker.produce_batch("t", batch)
    server.after_sync(None)
    server.after_sync(None)
    assert first.is_done
    assert second.is_done
    assert "broken" in caplog.text
    assert not server.failure.done()
    server.syncer = None
    await server.stop()


async def test_what_waits_for_a_checkpoint_when_the_broker_stops_is_written_all_the_same() -> None:
    """The checkpoint ends when the process that syncs has been stopped."""
    broker = Harness(pairs={"headwater.journal.file.bytes": 1 << 16})
    broker.create_topic("t")
    server, syncer = held_server(broker)
    server.checkpoint_thread = ThreadPoolExecutor(1)
    released = threading.Event()
    server.checkpoint_thread.submit(released.wait)  # the checkpoint comes after it
    batch = build_batch([Record(None, bytes(20_000), (), 1)])
    answers = [broker.produce_batch("t", batch) for _ in range(9)]
    end_turn(server)
    while server.durability.syncing is not None:
        server.after_sync(None)
    assert broker.core.store.journal.waiting_bytes
    assert not answers[-1].is_done
    stopping = asyncio.create_task(server.stop())
    while not syncer.is_stopped:
        await asyncio.sleep(0)
    released.set()
    await stopping
    assert all(answer.message.responses[0].partition_responses[0].error_code == 0 for answer in answers)
    assert broker.files.exists("data/.kafka_cleanshutdown")


async def test_a_timer_that_fails_keeps_the_clock_running(caplog: pytest.LogCaptureFixture) -> None:
    broker = Harness()
    server = Server(broker.core, inline=True)

    def fail() -> None:
        raise ValueError("broken")

    broker.core.timers.call_later(1, fail)
    broker.clock.advance(1)
    server.run_timers()
    assert "broken" in caplog.text
    assert server.timer is not None
    await server.stop()
