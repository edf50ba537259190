"""What the first use of a log costs: after a stop or a checkpoint no segment is read, and what must be is read at the start."""

import errno
from collections.abc import Callable

import pytest

from headwater.effects.memory_files import MemoryFiles
from tests.broker.harness import Harness

BATCHES = 200


def written(files: MemoryFiles | None = None, *, producer_id: int = -1) -> Harness:
    """A broker with a topic of small segments, all of it covered by a checkpoint."""
    broker = Harness(files)
    broker.create_topic("t", segment_bytes=str(1 << 20))
    for n in range(BATCHES):
        more = {"producer_id": producer_id, "producer_epoch": 0, "base_sequence": n} if producer_id >= 0 else {}
        broker.produce("t", bytes(20_000), **more)
    broker.core.store.checkpoint()
    return broker


def count_reads(broker: Harness) -> list[str]:
    reads: list[str] = []

    def fault(call: str, path: str) -> None:
        if call == "read" and path.startswith("data/t-0/") and path.endswith(".log"):
            reads.append(path)

    broker.files.fault = fault
    return reads


def first_use(broker: Harness) -> None:
    log = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    assert log.end_offset == BATCHES
    assert log.last_stable_offset == BATCHES


@pytest.mark.parametrize("producer_id", [-1, 7])
@pytest.mark.parametrize("clean", [True, False])
def test_after_a_checkpoint_a_log_is_opened_without_reading_it(clean: bool, producer_id: int) -> None:
    broker = written(producer_id=producer_id)
    broker.core.close() if clean else broker.core.store.abandon()
    reads = count_reads(broker)
    broker.core = broker.open()
    first_use(broker)
    # The first header for the time at which it began, and the batch of the last index entry.
    assert len(reads) <= (2 if clean else BATCHES // 4)


def remove(suffix: str) -> Callable[[Harness], None]:
    def damage(broker: Harness) -> None:
        for name in broker.files.list_directory("data/t-0"):
            if name.endswith(suffix):
                broker.files.remove(f"data/t-0/{name}")

    return damage


def lose_points(broker: Harness) -> None:
    for name in broker.files.list_directory("data"):
        if name.startswith("recovery-point"):
            broker.files.remove(f"data/{name}")


def empty(suffix: str) -> Callable[[Harness], None]:
    def damage(broker: Harness) -> None:
        for name in broker.files.list_directory("data/t-0"):
            if name.endswith(suffix):
                broker.files.open(f"data/t-0/{name}").truncate(0)

    return damage


@pytest.mark.parametrize("suffix", [".snapshot", ".sums"])
def test_what_a_power_cut_has_emptied_is_read_before_anyone_is_served(suffix: str) -> None:
    broker = written()
    broker.core.store.abandon()
    empty(suffix)(broker)
    broker.core = broker.open()
    reads = count_reads(broker)
    first_use(broker)
    log = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    log.load_indexes()
    assert len(reads) <= 2 * len(log.segments)


@pytest.mark.parametrize(
    "damage", [remove(".snapshot"), remove(".index"), remove(".timeindex"), remove(".sums"), lose_points]
)
def test_what_has_to_be_read_is_read_before_anyone_is_served(damage: Callable[[Harness], None]) -> None:
    broker = written()
    broker.core.close()
    damage(broker)
    broker.core = broker.open()
    reads = count_reads(broker)
    first_use(broker)
    log = broker.core.partitions.log(broker.core.metadata.topics["t"], 0)
    for segment in log.segments:
        log.ensure_index(segment)
    assert len(reads) <= 2 * len(log.segments)
    broker.files.fault = None
    assert len(broker.read_all("t")) == BATCHES


@pytest.mark.parametrize(
    ("call", "suffixes"),
    [("open", (".sums", ".index", ".timeindex")), ("read", (".sums", ".index", ".timeindex")), ("read", (".log",))],
)
def test_a_segment_that_cannot_be_loaded_now_is_loaded_later(call: str, suffixes: tuple[str, ...]) -> None:
    """The broker has no descriptor left for a moment, or the disk gives an error once: no reader may miss a record for it."""
    broker = written()
    broker.core.close()
    if suffixes == (".log",):
        remove(".sums")(broker)  # the indexes have to be built from the log
    for failing in range(1, 100):
        broker.core = broker.open()
        count = 0

        def fault(called: str, path: str, failing: int = failing) -> int | None:
            nonlocal count
            count += called == call and path.startswith("data/t-0/") and path.endswith(suffixes)
            return errno.EMFILE if count == failing and called == call else None

        broker.files.fault = fault
        for offset in (60, 0, BATCHES - 1):
            broker.fetch("t", offset)
        broker.files.fault = None
        offsets = [record.offset for record in broker.read_all("t")]
        assert offsets == list(range(BATCHES)), failing
        if count < failing:
            break
        broker.core.store.abandon()
    assert failing > 1
