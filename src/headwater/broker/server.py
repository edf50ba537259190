"""The shell around the core: sockets, the journal's syncs, timers. It moves bytes and holds no logic of Kafka's.

Receiving. All connections share one receive buffer, so an idle one costs next to nothing. A frame that is whole in it is
copied out once and belongs to the request from then on. Only a large frame gets a buffer of its own, which grows with
what has arrived, never with what its length field claims.

Fairness and limits. A connection that has sent a lot in a row gives way to the others. One that does not read its
answers, has too many requests under way, or meets a journal that is behind, is not read from until that changes.

Answers go out in the order of their requests: a request that waits keeps its slot, later answers queue up behind it.
"""

import asyncio
import contextlib
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import cast

from headwater.broker.cleaner_process import CleanerProcess
from headwater.broker.cluster import Endpoint
from headwater.broker.core import BrokerCore
from headwater.broker.dispatch import UNAUTHENTICATED, Connection, dispatch
from headwater.broker.listeners import Listener
from headwater.broker.syncer import Syncer
from headwater.effects.buffers import Buffer
from headwater.effects.waits import Deferred
from headwater.protocol.errors import ProtocolError
from headwater.protocol.frames import LENGTH_BYTES, REQUEST_HEADER_BYTES_MIN, unpack_length
from headwater.security.tls import TlsError, TlsFiles, certificate_principal
from headwater.storage.journal import Group, is_disk_full
from headwater.storage.store import Checkpoint

logger = logging.getLogger(__name__)

RECEIVE_BUFFER_BYTES = 256 * 1024
LARGE_FRAME_BYTES = 64 * 1024
LARGE_FRAME_FIRST_BYTES = 1 << 20
TURN_BYTES_MAX = 1 << 20
REQUESTS_UNDER_WAY_MAX = 256
WRITE_BUFFER_BYTES_HIGH = 4 << 20
JOURNAL_WAITING_BYTES_MAX = 64 << 20
JOIN_BYTES_MAX = 32 * 1024
SMALLEST_FRAME_BYTES = LENGTH_BYTES + REQUEST_HEADER_BYTES_MIN
SWEEP_S = 30.0
FLUSH_ON_STOP_S = 5.0


class Slot:
    """A place in the order of answers."""

    __slots__ = ("buffers", "is_ready")

    def __init__(self) -> None:
        self.buffers: list[Buffer] | None = None
        self.is_ready = False


class ClientProtocol(asyncio.BufferedProtocol):
    """One client's connection."""

    __slots__ = (
        "closing",
        "connection",
        "endpoint",
        "filled",
        "frame",
        "frame_size",
        "last_active_s",
        "listener",
        "pauses",
        "server",
        "slots",
        "tail",
        "transport",
        "turn_bytes",
    )

    def __init__(self, server: "Server", listener: Listener, endpoint: Endpoint) -> None:
        self.server = server
        self.listener, self.endpoint = listener, endpoint
        self.transport: asyncio.Transport | None = None
        self.connection = Connection("")
        self.tail = bytearray()  # the beginning of a small frame, or frames not handled while paused
        self.frame: bytearray | None = None  # a large frame
        self.frame_size = 0
        self.filled = 0
        self.slots: deque[Slot] = deque()
        self.pauses: set[str] = set()
        self.turn_bytes = 0
        self.last_active_s = 0.0
        self.closing = False

    # -- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's own class has no base of asyncio's
        peer = transport.get_extra_info("peername")
        self.connection = Connection(
            f"/{peer[0]}" if peer else "/", self.endpoint, self.endpoint.first_principal or UNAUTHENTICATED
        )
        if self.endpoint.has_sasl:
            self.connection.is_restricted = True
        elif self.endpoint.has_tls:
            tls = transport.get_extra_info("ssl_object")
            self.connection.principal = certificate_principal(tls.getpeercert(), self.listener.principal_of)
        self.last_active_s = self.server.loop.time()
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_HIGH)
        self.server.connected(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self.release_frame()
        self.tail = bytearray()
        self.slots.clear()
        self.connection.closed()
        self.server.disconnected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self.frame is not None:
            return memoryview(self.frame)[self.filled :]
        return self.server.receive_buffer

    def buffer_updated(self, size: int) -> None:
        self.last_active_s = self.server.loop.time()
        self.turn_bytes += size
        if self.frame is not None:
            self.take_large(size)
        elif self.tail:
            self.tail += self.server.receive_buffer[:size]
            self.take_tail()
        else:
            self.take_received(size)
        if self.turn_bytes > TURN_BYTES_MAX:
            self.pause("turn")
            self.server.loop.call_soon(self.next_turn)
        self.server.after_event()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.pause("write")

    def resume_writing(self) -> None:
        self.resume("write")

    # -- frames

    def take_received(self, size: int) -> None:
        """Handles what lies in the common buffer: nearly always one whole frame."""
        data = self.server.receive_buffer
        if size >= SMALLEST_FRAME_BYTES and not self.pauses and not self.closing:
            (length,) = unpack_length(data, 0)
            if length == size - LENGTH_BYTES and length <= self.server.core.settings.socket_request_max_bytes:
                self.handle(bytearray(data[LENGTH_BYTES:size]))
                return
        position = self.take_frames(data[:size])
        if position < size and self.frame is None and not self.closing:
            self.tail = bytearray(data[position:size])

    def take_tail(self) -> None:
        """Handles what has been kept back, as far as it is whole."""
        tail = self.tail
        self.tail = bytearray()
        position = self.take_frames(memoryview(tail))
        if position < len(tail) and self.frame is None and not self.closing:
            self.tail = tail[position:]

    def take_frames(self, data: memoryview) -> int:
        """Handles the whole frames at the beginning of `data`; returns the position behind what was taken."""
        position, size = 0, len(data)
        while size - position >= LENGTH_BYTES and not self.pauses and not self.closing:
            (length,) = unpack_length(data, position)
            if not self.is_length_allowed(length):
                return size
            start = position + LENGTH_BYTES
            if size - start >= length:
                self.handle(bytearray(data[start : start + length]))
                position = start + length
            elif length > LARGE_FRAME_BYTES:
                self.begin_large(data[start:], length)
                return size
            else:
                break
        return position

    def is_length_allowed(self, length: int) -> bool:
        limit = self.server.core.settings.socket_request_max_bytes
        if REQUEST_HEADER_BYTES_MIN <= length <= limit or (self.connection.is_raw_sasl and 0 <= length <= limit):
            return True
        self.fail(f"a frame claims {length} bytes, allowed are {REQUEST_HEADER_BYTES_MIN} to {limit}")
        return False

    def begin_large(self, start: memoryview, length: int) -> None:
        room = min(length, max(LARGE_FRAME_FIRST_BYTES, 2 * len(start)))
        if not self.server.reserve(room):
            self.fail("requests of all connections take more than queued.max.request.bytes")
            return
        self.frame = bytearray(room)
        self.frame_size, self.filled = length, len(start)
        self.frame[: len(start)] = start

    def take_large(self, size: int) -> None:
        assert self.frame is not None
        self.filled += size
        if self.filled == self.frame_size:
            frame = self.frame
            self.release_frame()
            self.handle(frame)
        elif self.filled == len(self.frame):
            room = min(self.frame_size, 2 * len(self.frame))
            if not self.server.reserve(room - len(self.frame)):
                self.release_frame()
                self.fail("requests of all connections take more than queued.max.request.bytes")
                return
            larger = bytearray(room)
            larger[: self.filled] = self.frame
            self.frame = larger

    def release_frame(self) -> None:
        if self.frame is not None:
            self.server.release(len(self.frame))
            self.frame = None

    def handle(self, frame: bytearray) -> None:
        """Dispatches one request and takes care of its answer."""
        try:
            answer = dispatch(self.server.core, self.connection, frame)
        except ProtocolError as error:
            self.fail(str(error))
            return
        except Exception:
            # The last line of defence: a defect of ours ends this connection, not the broker.
            logger.exception("a request from %s could not be handled", self.connection.client_host)
            self.close()
            return
        if answer is None:
            return
        if isinstance(answer, Deferred):
            slot = Slot()
            self.slots.append(slot)
            answer.when_done(lambda buffers: self.fill_slot(slot, buffers))
        elif self.slots:
            slot = Slot()
            slot.buffers, slot.is_ready = answer, True
            self.slots.append(slot)
        else:
            self.write(answer)
        if self.connection.must_close and not self.slots:
            self.close()
        if len(self.slots) >= REQUESTS_UNDER_WAY_MAX:
            self.pause("requests")
        if self.server.core.store.journal.waiting_bytes > JOURNAL_WAITING_BYTES_MAX:
            self.server.wait_for_journal(self)

    # -- answers

    def fill_slot(self, slot: Slot, buffers: list[Buffer] | None) -> None:
        slot.buffers, slot.is_ready = buffers, True
        slots = self.slots
        while slots and slots[0].is_ready:
            ready = slots.popleft().buffers
            if ready is not None:
                self.write(ready)
        if "requests" in self.pauses and len(slots) < REQUESTS_UNDER_WAY_MAX // 2:
            self.resume("requests")

    def write(self, buffers: list[Buffer]) -> None:
        if self.transport is None or self.closing:
            return
        if len(buffers) == 1:
            self.transport.write(buffers[0])
        elif sum(map(len, buffers)) <= JOIN_BYTES_MAX:
            self.transport.write(b"".join(buffers))
        else:
            self.transport.writelines(buffers)

    # -- pauses

    def pause(self, reason: str) -> None:
        if self.transport is None or self.closing:
            return
        if not self.pauses:
            self.transport.pause_reading()
        self.pauses.add(reason)

    def resume(self, reason: str) -> None:
        if reason not in self.pauses:
            return
        self.pauses.discard(reason)
        if self.pauses or self.closing or self.transport is None:
            return
        if self.tail:
            self.take_tail()
            self.server.after_event()
        if not self.pauses and not self.closing:
            self.transport.resume_reading()

    def next_turn(self) -> None:
        self.turn_bytes = 0
        self.resume("turn")

    # -- the end

    def fail(self, reason: str) -> None:
        """Closes the connection for what its client sent."""
        self.server.core.statistics.protocol_errors += 1
        logger.warning("connection from %s closed: %s", self.connection.client_host, reason)
        self.close()

    def close(self) -> None:
        if self.transport is not None and not self.closing:
            self.closing = True
            self.transport.close()


class Server:
    """Listens, and drives a core. `inline` writes the journal in the loop's thread: for in-memory files."""

    protocol_class = ClientProtocol  # the test broker has one with faults

    def __init__(self, core: BrokerCore, *, inline: bool) -> None:
        self.core = core
        self.loop = asyncio.get_running_loop()
        self.receive_buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
        self.clients: set[ClientProtocol] = set()
        self.waiting_for_journal: list[ClientProtocol] = []
        self.frame_bytes = 0
        self.listening: list[asyncio.Server] = []
        self.tls_files: list[TlsFiles] = []
        self.timer: asyncio.TimerHandle | None = None
        self.timer_deadline_ms = 0.0
        self.failed: asyncio.Future[None] = self.loop.create_future()
        self.syncer = None if inline else Syncer(core.store.journal.descriptors, self.loop, self.after_sync)
        self.syncing: Group | None = None
        self.idle = asyncio.Event()  # no sync is under way
        self.idle.set()
        self.no_clients = asyncio.Event()
        self.no_clients.set()
        self.checkpoint_thread = None if inline else ThreadPoolExecutor(1, "headwater-checkpoint")
        self.cleaner = None if inline else CleanerProcess(self.loop, core.store.directory)
        if self.cleaner is not None:
            core.run_cleaning = self.cleaner.run
        core.when_broken = self.fail
        self.sweeping = self.loop.call_later(SWEEP_S, self.sweep)
        core.timers.call_later(core.settings.log_flush_offset_checkpoint_interval_ms, self.checkpoint_regularly)

    async def listen(self, listener: Listener, endpoint: Endpoint, port: int) -> int:
        """Starts to listen; returns the port. Raises OSError when it is taken."""
        context = listener.tls.context if listener.tls is not None else None
        listening = await self.loop.create_server(
            lambda: self.protocol_class(self, listener, endpoint), listener.host, port, backlog=1024, ssl=context
        )
        self.listening.append(listening)
        if listener.tls is not None and listener.tls not in self.tls_files:
            self.tls_files.append(listener.tls)
        self.checkpoint_if_needed()  # of what was recovered
        self.after_event()
        return int(listening.sockets[0].getsockname()[1])

    def reload_certificates(self) -> None:
        """Takes certificates that have changed on disk, for the connections that come from now on."""
        for files in self.tls_files:
            try:
                if files.reload_if_changed():
                    logger.info("%s: took the new certificate", files.certificate)
            except TlsError as error:
                logger.error("the certificate before stays in force: %s", error)

    # -- connections

    def connected(self, client: ClientProtocol) -> None:
        statistics = self.core.statistics
        if len(self.clients) >= self.core.settings.max_connections:
            client.fail("max.connections is reached")
            return
        self.clients.add(client)
        self.no_clients.clear()
        statistics.connections = len(self.clients)
        statistics.connections_accepted += 1

    def disconnected(self, client: ClientProtocol) -> None:
        self.clients.discard(client)
        if not self.clients:
            self.no_clients.set()
        self.core.statistics.connections = len(self.clients)

    def reserve(self, size: int) -> bool:
        """Takes memory for a large frame out of the common budget."""
        if self.frame_bytes + size > self.core.settings.queued_max_request_bytes:
            return False
        self.frame_bytes += size
        return True

    def release(self, size: int) -> None:
        self.frame_bytes -= size

    def wait_for_journal(self, client: ClientProtocol) -> None:
        client.pause("journal")
        self.waiting_for_journal.append(client)

    def sweep(self) -> None:
        """Now and then: closes idle connections, and takes certificates that have changed."""
        limit_ms = self.core.settings.connections_max_idle_ms
        if limit_ms >= 0:
            before_s = self.loop.time() - limit_ms / 1000
            for client in [c for c in self.clients if c.last_active_s < before_s and not c.slots]:
                client.close()
        self.reload_certificates()
        self.sweeping = self.loop.call_later(SWEEP_S, self.sweep)

    # -- the journal

    def after_event(self) -> None:
        """To be called whenever the core may have something to write or a new deadline."""
        if self.syncing is None and self.core.store.journal.waiting_bytes:
            self.write_next()
        heap = self.core.timers.heap
        if heap and (self.timer is None or heap[0][0] < self.timer_deadline_ms):
            self.arm_timer()

    def write_next(self) -> None:
        journal = self.core.store.journal
        if self.core.is_failed or not journal.waiting_bytes:
            return
        group = journal.take()
        if group is None:
            self.checkpoint_if_needed()
            return
        try:
            file = self.core.store.write_group(group)
            if file is not None and self.syncer is not None:
                self.syncing = group
                self.idle.clear()
                self.syncer.sync(journal.files.index(file))
                return
            if file is not None:
                file.file.sync()
        except OSError as error:
            self.fail(error)
            return
        self.take_written(group)
        self.write_next()

    def after_sync(self, error: OSError | None) -> None:
        group, self.syncing = self.syncing, None
        if error is not None or group is None:
            self.fail(error or OSError("the journal was synced out of turn"))
            return
        # The next group goes to the disk before this one's answers are made.
        self.write_next()
        if self.syncing is None:
            self.idle.set()
        self.take_written(group)
        self.after_event()

    def take_written(self, group: Group) -> None:
        self.core.statistics.journal_syncs += 1
        self.core.group_synced(group)
        if self.waiting_for_journal and self.core.store.journal.waiting_bytes <= JOURNAL_WAITING_BYTES_MAX // 2:
            clients, self.waiting_for_journal = self.waiting_for_journal, []
            for client in clients:
                client.resume("journal")
        self.checkpoint_if_needed()

    def fail(self, error: OSError) -> None:
        """The journal is broken: nothing is acknowledged any more, and the broker ends."""
        self.core.fail(error)
        self.idle.set()
        self.abort_clients()
        if not self.failed.done():
            self.failed.set_exception(error)

    def abort_clients(self) -> None:
        """Breaks every connection, whatever is on its way."""
        for client in list(self.clients):
            if client.transport is not None:
                client.transport.abort()

    # -- checkpoints

    def checkpoint_if_needed(self) -> None:
        if self.core.store.needs_checkpoint():
            self.begin_checkpoint()

    def checkpoint_regularly(self) -> None:
        if self.core.store.dirty and not self.core.store.checkpointing:
            self.begin_checkpoint()
        self.core.timers.call_later(
            self.core.settings.log_flush_offset_checkpoint_interval_ms, self.checkpoint_regularly
        )

    def begin_checkpoint(self) -> None:
        checkpoint = self.core.store.begin_checkpoint()
        if self.checkpoint_thread is not None:
            future = self.loop.run_in_executor(self.checkpoint_thread, checkpoint.run)
            future.add_done_callback(lambda done: self.end_checkpoint(checkpoint, done.exception()))
            return
        try:
            checkpoint.run()
        except OSError as error:
            self.end_checkpoint(checkpoint, error)
        else:
            self.end_checkpoint(checkpoint, None)

    def end_checkpoint(self, checkpoint: Checkpoint, error: BaseException | None) -> None:
        if error is None:
            self.core.store.finish_checkpoint(checkpoint)
            self.core.statistics.checkpoints += 1
            self.core.compact()
            self.after_event()
        elif isinstance(error, OSError) and is_disk_full(error):
            logger.error("the disk is full: no checkpoint; writes are refused until there is room")
            self.core.store.undo_checkpoint(checkpoint)
        elif isinstance(error, OSError):
            self.fail(error)
        else:
            raise error

    # -- timers

    def arm_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        deadline_ms = self.core.timers.next_deadline_ms()
        if deadline_ms is None:
            return
        self.timer_deadline_ms = deadline_ms
        delay_s = max(0.0, (deadline_ms - self.core.clock.steady_ms()) / 1000)
        self.timer = self.loop.call_later(delay_s, self.run_timers)

    def run_timers(self) -> None:
        self.timer = None
        self.core.timers.run_due()
        self.checkpoint_if_needed()
        self.after_event()

    # -- the end

    async def run_until(self, stopping: asyncio.Event) -> None:
        """Returns when told to stop. Raises OSError when the journal has failed."""
        stop = self.loop.create_task(stopping.wait())
        futures = [cast(asyncio.Future[object], stop), cast(asyncio.Future[object], self.failed)]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self.failed.done():
            self.failed.result()

    async def stop(self) -> None:
        """Answers what is under way, syncs everything and closes."""
        for listening in self.listening:
            listening.close()
        self.sweeping.cancel()
        if self.timer is not None:
            self.timer.cancel()
        for client in self.clients:
            client.pause("stop")
        await self.idle.wait()
        if self.syncer is not None:
            self.syncer.stop()
        if self.cleaner is not None:
            await self.cleaner.stop()
        if self.checkpoint_thread is not None:
            await self.loop.run_in_executor(None, self.checkpoint_thread.shutdown)
            await asyncio.sleep(0)
        if self.core.is_failed:
            self.core.store.abandon()
        else:
            self.core.close()
        for client in list(self.clients):
            client.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.no_clients.wait(), FLUSH_ON_STOP_S)
        self.abort_clients()
        if self.failed.done():
            self.failed.exception()
