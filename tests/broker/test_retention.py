"""Retention looks at every log, a slice per turn of the loop, and at what is there then."""

from headwater.effects.clock import ManualClock
from headwater.protocol.apis import ApiKey
from headwater.protocol.messages.delete_topics import DeleteTopicsRequest
from tests.broker.harness import Harness

PARTITIONS = 20


class SlowClock(ManualClock):
    """Time passes while things are done."""

    step_ms = 0.0

    def steady_ms(self) -> float:
        self.advance(self.step_ms)
        return super().steady_ms()


def stopped_and_started(clock: SlowClock) -> Harness:
    """Two topics with old records in every partition; no log has been used since the start."""
    broker = Harness(clock=clock, pairs={"log.retention.check.interval.ms": 86_400_000})
    for name in ("a", "b"):
        broker.create_topic(name, PARTITIONS, retention_ms="1000")
        for partition in range(PARTITIONS):
            broker.produce(name, b"v", partition=partition)
    broker.restart()
    broker.clock.advance(60_000)
    return broker


def logs_in_use(broker: Harness) -> int:
    return sum(log.topic in ("a", "b") for log in broker.core.store.logs.values())


def pass_turns(broker: Harness, turns: int) -> None:
    for _ in range(turns):
        broker.core.work.run()
        broker.sync()


def test_a_pass_is_done_in_slices() -> None:
    clock = SlowClock()
    broker = stopped_and_started(clock)
    clock.step_ms = 3.0
    broker.core.apply_retention()
    assert 0 < logs_in_use(broker) < PARTITIONS
    broker.core.apply_retention()  # the next is due before the first has ended: it begins no second one
    assert len(broker.core.work.queue) == 1
    pass_turns(broker, 100)
    clock.step_ms = 0.0
    assert logs_in_use(broker) == 2 * PARTITIONS
    for topic in broker.core.metadata.topics.values():
        assert [broker.core.partitions.log(topic, n).start_offset for n in range(PARTITIONS)] == [1] * PARTITIONS


def test_a_topic_that_is_deleted_during_a_pass_does_not_come_back() -> None:
    clock = SlowClock()
    broker = stopped_and_started(clock)
    clock.step_ms = 3.0
    broker.core.apply_retention()
    clock.step_ms = 0.0
    broker.call(ApiKey.DELETE_TOPICS, 5, DeleteTopicsRequest(topic_names=["b"]))
    pass_turns(broker, 100)
    clock.step_ms = 0.0
    assert logs_in_use(broker) == PARTITIONS
    assert not [name for name in broker.files.list_directory("data") if name.startswith("b-")]
    assert broker.core.partitions.log(broker.core.metadata.topics["a"], 0).start_offset == 1
