"""Markers, which end transactions in their partitions, and what a start does with transactions that nobody will end."""

from headwater.broker.metadata import OFFSETS_TOPIC
from headwater.broker.partitions import Partitions
from headwater.broker.state_logs import StateLogs, StateTopic
from headwater.coordinators.groups.coordinator import GroupCoordinator
from headwater.coordinators.transactions.coordinator import TransactionCoordinator
from headwater.coordinators.transactions.transaction import EPOCH_PER_TRANSACTION, Transaction
from headwater.effects.clock import Clock
from headwater.effects.logs import get_logger
from headwater.protocol.records import CONTROL, TRANSACTIONAL, build_batch, control_record, read_header
from headwater.replay.state_record import StateRecord
from headwater.replay.sync_number import NO_SYNC, SyncNumber
from headwater.storage.log import Log
from headwater.storage.producers import FORGETTING_COORDINATOR_EPOCH, FencedMarkerError

logger = get_logger(__name__)

COORDINATOR_EPOCH = 0  # one node: no other coordinator ever takes over


class Markers:
    """Writes markers. Offsets that a transaction has committed take effect with its marker."""

    def __init__(
        self,
        partitions: Partitions,
        logs: StateLogs,
        offsets_topic: StateTopic[StateRecord],
        groups: GroupCoordinator,
        clock: Clock,
    ) -> None:
        self.partitions = partitions
        self.logs = logs
        self.offsets_topic = offsets_topic
        self.groups = groups
        self.clock = clock

    def write_markers(self, transaction: Transaction, *, commit: bool) -> SyncNumber:
        """Ends the transaction in each of its partitions; returns the last sync. Raises OSError."""
        last_sync = NO_SYNC
        for name, number in sorted(transaction.partitions):
            topic = self.partitions.metadata.topics.get(name)
            if topic is None or number >= topic.partitions:
                continue  # deleted meanwhile
            log = self.partitions.log(topic, number)
            try:
                sync = self.write(log, transaction.producer_id, transaction.producer_epoch, commit=commit)
            except FencedMarkerError as error:
                logger.warning("transaction %s: %s: %s", transaction.transactional_id, log.directory, error)
                continue
            last_sync = max(last_sync, sync)
        return last_sync

    def write(
        self, log: Log, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = COORDINATOR_EPOCH
    ) -> SyncNumber:
        """Ends a producer's transaction in one partition. Raises OSError and FencedMarkerError."""
        marker = control_record(int(commit), coordinator_epoch, self.clock.wall_ms())
        batch = build_batch([marker], attributes=CONTROL | TRANSACTIONAL, producer_id=producer_id, producer_epoch=epoch)
        _, sync = self.partitions.append(log, batch, read_header(batch))
        if log.topic == OFFSETS_TOPIC:
            self.logs.note_appended(log, 1)
            belongs = self.offsets_topic.belongs_to(log.partition)
            self.groups.end_transaction(producer_id, belongs, commit=commit, sync=sync)
        return sync

    def end_hanging(self, log: Log, transactions: TransactionCoordinator) -> None:
        """Resolves the open transactions that a start finds in a log.

        After a power cut a batch may be on disk, while the record that added its partition to the transaction is not. If the
        producer still belongs to its transactional id, the partition is added now, so that the client's commit or abort
        finds it. Otherwise nobody will ever end the transaction, so it is aborted here, and the producer is forgotten: if
        the client sends the batch again, it is a new one. The same happens if the batch already has the epoch that its
        transactional id will get with the end that is being written: it belongs to the next transaction, which that end must
        not commit. Raises OSError.
        """
        partition = (log.topic, log.partition)
        for producer_id in list(log.producers.ongoing):
            epoch = log.producers.entries[producer_id].epoch
            known = transactions.of_producer(producer_id, epoch)
            if known is not None and not known.state.is_prepared:
                if partition not in known.partitions:
                    transactions.change(known.begun_with([partition], self.clock.wall_ms(), known.client_version))
                continue
            is_next_one = known is not None and known.client_version >= EPOCH_PER_TRANSACTION
            decided = (t for t in transactions.transactions.values() if t.producer_id == producer_id)
            if not is_next_one and any(partition in t.partitions for t in decided):
                continue  # its marker is about to be written
            logger.warning("%s: aborting what producer %d left open", log.directory, producer_id)
            self.write(log, producer_id, epoch, commit=False, coordinator_epoch=FORGETTING_COORDINATOR_EPOCH)
