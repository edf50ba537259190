"""The shell around the core: listening sockets, timers, and the disk for the journal's driver. It decides nothing."""

import asyncio
import contextlib
import errno
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from headwater.broker import descriptors
from headwater.broker.cluster import Endpoint
from headwater.broker.configs.settings import Settings
from headwater.broker.connection_limits import ConnectionLimits
from headwater.broker.connection_rates import ConnectionRates
from headwater.broker.core import BrokerCore
from headwater.broker.durability import ThisThread
from headwater.broker.limited_log import LimitedLog
from headwater.broker.memory_budgets import JOURNAL_WAITING_BYTES_MAX, AnswerBudget, RequestBudget, TurnBudget
from headwater.broker.shell.acceptor import Acceptor, bound_sockets
from headwater.broker.shell.cleaner_process import CleanerProcess
from headwater.broker.shell.client_protocol import ClientProtocol
from headwater.broker.shell.deadlines import Deadlines
from headwater.broker.shell.listeners import Listener
from headwater.broker.shell.muting import Muting
from headwater.broker.shell.syncer import Syncer
from headwater.broker.turns import Turns
from headwater.effects.files import DiskLock
from headwater.effects.logs import get_logger
from headwater.security.sasl import OAUTHBEARER
from headwater.security.tls import TlsError, TlsFiles
from headwater.storage.checkpoint import Checkpoint

logger = get_logger(__name__)

RECEIVE_BUFFER_BYTES = 256 * 1024
SWEEP_S = 30.0
FLUSH_ON_STOP_S = 5.0
SYNC_TIMEOUT_S = 15.0
CLEANER_TIMEOUT_S = 5.0
CHECKPOINT_TIMEOUT_S = 60.0


class Server:
    """Listens, and drives a core. `inline` writes the journal in the loop's thread, for in-memory files."""

    protocol_class = ClientProtocol  # the test broker uses one with faults

    def __init__(self, core: BrokerCore, *, inline: bool) -> None:
        self.core = core
        self.occurrences = core.occurrences
        self.loop = asyncio.get_running_loop()
        self.receive_buffer = memoryview(bytearray(RECEIVE_BUFFER_BYTES))
        self.clients: set[ClientProtocol] = set()
        self.waiting_for_journal: list[ClientProtocol] = []
        self.turns: Turns[ClientProtocol] = Turns(core.clock.steady_ms, self.loop.call_soon)
        settings = core.settings
        places = descriptors.for_connections(settings, has_logs=not inline)
        self.deadlines: Deadlines[ClientProtocol] = Deadlines(self)
        self.limits: ConnectionLimits[ClientProtocol] = ConnectionLimits(
            lambda: core.settings, places, self.deadlines.find_dispensable
        )
        self.rates = ConnectionRates(core.metadata.quotas, lambda: core.settings, core.clock.steady_ms)
        self.requests = RequestBudget(settings.queued_max_request_bytes)
        self.turn_answers = TurnBudget(self.loop.call_soon, lambda: bool(self.turns.queue))
        self.answers: AnswerBudget[ClientProtocol] = AnswerBudget(settings.headwater_queued_max_answer_bytes)
        self.log = LimitedLog(logger, lambda: self.loop.time() * 1000)
        self.acceptors: list[Acceptor] = []
        self.tls_files: list[TlsFiles] = []
        self.timer: asyncio.TimerHandle | None = None
        self.timer_deadline_ms = 0.0
        self.failure: asyncio.Future[None] = self.loop.create_future()
        self.durability, self.this_thread = core.durability, ThisThread(core.durability)
        core.durability.disk = self
        self.syncer = None if inline else self.new_syncer()
        core.store.gathers = not inline  # a write into memory costs nothing
        self.idle = asyncio.Event()  # set while no sync is under way
        self.idle.set()
        self.no_clients = asyncio.Event()
        self.no_clients.set()
        self.checkpoint_thread = None if inline else ThreadPoolExecutor(1, "headwater-checkpoint")
        self.cleaner = None if inline else CleanerProcess(self.loop, core.store.directory)
        if self.cleaner is not None:
            core.run_cleaning = self.cleaner.run
        self.is_turn_ending = False  # `end_turn` is scheduled
        self.is_stopping = False
        self.muting = Muting(self.loop)
        self.password_thread = ThreadPoolExecutor(1, "headwater-passwords")  # begins with the first password
        core.run_elsewhere = partial(self.run_in, self.password_thread)
        core.run_aside = self.run_aside
        self.batch_thread = ThreadPoolExecutor(1, "headwater-batches")  # begins with the first large batch
        core.work.run_elsewhere = partial(self.run_in, self.batch_thread)
        self.sweeping = self.loop.call_later(SWEEP_S, self.sweep)

    def new_syncer(self) -> Syncer:
        journal = self.core.store.journal
        return Syncer(journal.descriptors, self.loop, self.after_sync, [file.path for file in journal.files])

    async def listen(self, listener: Listener, endpoint: Endpoint, port: int) -> int:
        """Starts to listen; returns the port. Raises OSError if it is in use."""
        acceptor = Acceptor(self, listener, endpoint, await bound_sockets(listener.host, port, self.core.settings))
        self.acceptors.append(acceptor)
        if endpoint.has_sasl and OAUTHBEARER in self.core.settings.sasl_mechanisms(endpoint.listener):
            self.open_bearer_logins(endpoint)
        if listener.tls is not None and listener.tls not in self.tls_files:
            self.tls_files.append(listener.tls)
            self.core.reload_certificates = self.reload_all_certificates
        self.durability.after_timers()  # the start may have appended something or asked for a checkpoint
        self.after_event()
        return acceptor.port

    def open_bearer_logins(self, endpoint: Endpoint) -> None:
        if not endpoint.is_private:
            self.core.bearer_logins.open(endpoint.listener)
            self.core.bearer_listener = self.core.bearer_listener or endpoint.listener

    def reload_certificates(self) -> None:
        """Loads certificates that have changed on disk, for new connections."""
        for files in self.tls_files:
            try:
                if files.reload_if_changed():
                    logger.info("%s: loaded the new certificate", files.certificate)
            except TlsError as error:
                logger.error("the previous certificate stays in use: %s", error)

    def reload_all_certificates(self) -> None:
        """Loads the certificates of all listeners for new connections. Raises TlsError; then some of them may be new."""
        for files in self.tls_files:
            files.reload()
            logger.info("%s: loaded again, as asked for", files.certificate)

    # -- connections

    @property
    def settings(self) -> Settings:
        """The settings in force. Some may change while the broker runs."""
        return self.core.settings

    def new_client(self, listener: Listener, endpoint: Endpoint, address: str) -> ClientProtocol:
        return self.protocol_class(self, listener, endpoint, address)

    def wait_ms(self, endpoint: Endpoint, address: str) -> float:
        """How long a connection that was accepted waits, and all after it at the listener; it is counted."""
        wait_ms = 0.0 if endpoint.is_private else self.rates.wait_ms(endpoint.listener)
        if wait_ms:
            self.occurrences.throttled.emit(address, "connections")
        return wait_ms

    def penalty_ms(self, endpoint: Endpoint, address: str) -> float:
        """After how long a connection from an address is closed, because there are too many; 0 if there are not."""
        return 0.0 if endpoint.is_private else self.rates.penalty_ms(endpoint.listener, address)

    def admit(self, client: ClientProtocol) -> None:
        """Gives an accepted connection a place. Raises RefusedError."""
        leaving = self.limits.admit(client)
        self.clients.add(client)
        self.no_clients.clear()
        self.occurrences.connection_opened.emit(client.address)
        self.deadlines.arm()
        if leaving is not None:
            self.occurrences.stranger_closed.emit(leaving.address)
            self.log.warning("places taken", "connection from %s closed to make room for another", leaving.address)
            leaving.abort()

    def refused(self, address: str, reason: str) -> None:
        """A connection was closed as soon as it was accepted."""
        self.occurrences.connection_refused.emit(address, reason)
        self.log.warning("connections refused", "connection from %s refused: %s", address, reason)

    def handshake_failed(self, client: ClientProtocol, error: Exception) -> None:
        self.occurrences.handshake_failed.emit(client.address, error)
        self.log.warning("failed handshakes", "TLS handshake of %s failed: %s", client.address, error)

    def disconnected(self, client: ClientProtocol) -> None:
        if client in self.clients:
            self.clients.discard(client)
            self.occurrences.connection_closed.emit(client.address)
        self.limits.leave(client)
        if not self.clients:
            self.no_clients.set()

    def count_answers(self, size: int) -> None:
        """Counts an answer in memory. If that is too much, clients that do not read are closed."""
        answers = self.answers
        answers.used_bytes += size
        if answers.used_bytes > answers.limit_bytes:
            self.deadlines.shed_answers()

    def run_in(self, thread: ThreadPoolExecutor, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Runs a function in a thread, and passes its result on in the loop."""

        def finished(future: asyncio.Future[Any]) -> None:
            if not future.cancelled() and not self.is_stopping:
                done(future.result())
                self.after_event()

        self.loop.run_in_executor(thread, function).add_done_callback(finished)

    def run_aside(self, function: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Runs a function that may wait for a network in a thread of its own, which does not keep the process from ending."""

        def finished(result: Any) -> None:
            if not self.is_stopping:
                done(result)
                self.after_event()

        def run() -> None:
            result = function()
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                self.loop.call_soon_threadsafe(finished, result)

        threading.Thread(target=run, name="headwater-fetch", daemon=True).start()

    def wait_for_journal(self, client: ClientProtocol) -> None:
        client.pause("journal")
        self.occurrences.throttled.emit(client.address, "journal")
        self.waiting_for_journal.append(client)

    def sweep(self) -> None:
        """Runs periodically: closes idle connections, and loads certificates that have changed."""
        limit_ms = self.core.settings.connections_max_idle_ms
        if limit_ms >= 0:
            before_s = self.loop.time() - limit_ms / 1000
            for client in [c for c in self.clients if c.last_active_s < before_s and not c.slots]:
                client.close()
        self.reload_certificates()
        self.sweeping = self.loop.call_later(SWEEP_S, self.sweep)

    # -- the disk: what the journal's driver asks for (`durability.Disk`)

    def after_event(self) -> None:
        """Call this whenever the core may have something to write, or a new deadline.

        What a turn of the loop brings from all connections is written together, at the end of the turn.
        """
        durability = self.durability
        if durability.syncing is None and durability.journal.waiting_bytes:
            if self.syncer is None or self.is_stopping:
                durability.drive()
            elif not self.is_turn_ending:
                self.is_turn_ending = True
                self.loop.call_soon(self.end_turn)
        heap = self.core.timers.heap
        if heap and (self.timer is None or heap[0][0] < self.timer_deadline_ms):
            self.arm_timer()

    def end_turn(self) -> None:
        self.is_turn_ending = False
        if self.durability.syncing is None and not self.is_stopping:
            self.durability.after_event()

    def begin_sync(self, file: int) -> bool:
        if self.syncer is None:
            return self.this_thread.begin_sync(file)
        self.idle.clear()
        self.syncer.sync(file)
        return False

    def after_sync(self, error: OSError | None) -> None:
        self.durability.synced(error)
        self.after_event()

    def run_checkpoint(self, checkpoint: Checkpoint) -> None:
        if self.checkpoint_thread is None:
            self.this_thread.run_checkpoint(checkpoint)
            return
        future = self.loop.run_in_executor(self.checkpoint_thread, checkpoint.run)
        future.add_done_callback(lambda done: self.after_checkpoint(done.exception()))

    def after_checkpoint(self, error: BaseException | None) -> None:
        self.durability.checkpoint_ended(error)
        self.after_event()

    def journal_advanced(self) -> None:
        if self.durability.syncing is None:
            self.idle.set()
        if self.waiting_for_journal and self.durability.journal.waiting_bytes <= JOURNAL_WAITING_BYTES_MAX // 2:
            clients, self.waiting_for_journal = self.waiting_for_journal, []
            for client in clients:
                client.journal_has_room()

    def failed(self, error: Exception) -> None:
        self.idle.set()
        self.abort_clients()
        if not self.failure.done():
            self.failure.set_exception(error)

    def report(self, error: Exception) -> None:
        self.this_thread.report(error)

    def abort_clients(self) -> None:
        """Breaks every connection, discarding pending answers."""
        for client in list(self.clients):
            client.abort()

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
        try:
            self.core.timers.run_due()
        except Exception:
            logger.exception("a timed action failed")
        self.durability.after_timers()
        self.after_event()

    # -- the end

    def own_descriptors(self) -> Iterator[int]:
        """The descriptors that a forked child must not keep."""
        if isinstance(self.core.store.lock, DiskLock):
            yield self.core.store.lock.descriptor
        if self.syncer is not None:
            yield self.syncer.socket.fileno()
        for acceptor in self.acceptors:
            yield from (listening.fileno() for listening in acceptor.sockets)
        for client in self.clients:
            if client.transport is not None and not client.transport.is_closing():
                yield client.transport.get_extra_info("socket").fileno()

    async def run_until(self, stopping: asyncio.Event) -> None:
        """Returns when `stopping` is set. Raises OSError if the journal has failed."""
        stop = self.loop.create_task(stopping.wait())
        futures = [cast(asyncio.Future[object], stop), cast(asyncio.Future[object], self.failure)]
        await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if self.failure.done():
            self.failure.result()

    async def stop(self) -> None:
        """Answers pending requests, syncs everything and closes. Raises OSError if the disk fails, or does not respond."""
        for acceptor in self.acceptors:
            acceptor.close()
        self.deadlines.stop()
        self.is_stopping = True
        for each in (self.password_thread, self.batch_thread):
            each.shutdown(wait=False, cancel_futures=True)
        self.sweeping.cancel()
        if self.timer is not None:
            self.timer.cancel()
        for client in self.clients:
            client.pause("stop")
        self.after_event()  # what the end of this turn would have written
        await self.wait_for_disk(self.idle.wait(), "a sync of the journal", SYNC_TIMEOUT_S)
        if self.syncer is not None:
            self.syncer.stop(is_stuck=self.core.is_failed)
            self.syncer = None  # what is still written is synced in this thread
        if self.cleaner is not None:
            await self.wait_for_disk(self.cleaner.stop(), "the process that compacts", CLEANER_TIMEOUT_S)
        thread, self.checkpoint_thread = self.checkpoint_thread, None  # and so is what another checkpoint would sync
        if thread is not None:
            ended = self.loop.run_in_executor(None, thread.shutdown)
            await self.wait_for_disk(ended, "a checkpoint", CHECKPOINT_TIMEOUT_S)
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
        if self.failure.done():
            self.failure.result()

    async def wait_for_disk(self, ended: Awaitable[object], what: str, timeout_s: float) -> None:
        """Waits for something that may never end if the disk hangs. After that time the broker fails."""
        try:
            await asyncio.wait_for(ended, timeout_s)
        except TimeoutError:
            text = f"the disk does not respond: {what} has not ended for {timeout_s:.0f} s"
            self.durability.fail(OSError(errno.ETIMEDOUT, text))
