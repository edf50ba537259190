"""The move to Kafka, as docs/how-to/upgrade.md describes it: MirrorMaker 2 copies records, and groups continue."""

import re
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import headwater as hw
from headwater.client.positions import Partition

from .conftest import HERE, jars
from .servers import HeadwaterServer
from .test_kafka_programs import Background, eventually

PAGE = HERE.parents[1] / "docs" / "how-to" / "upgrade.md"
PARTITIONS = 3
FIRST = 300
ALL = 400
# What only a cluster of one node and a hurried test need.
FOR_THE_TEST = """
headwater->kafka.replication.factor = 1
headwater->kafka.offset-syncs.topic.replication.factor = 1
checkpoints.topic.replication.factor = 1
heartbeats.topic.replication.factor = 1
offset.storage.replication.factor = 1
status.storage.replication.factor = 1
config.storage.replication.factor = 1
sync.group.offsets.interval.seconds = 1
emit.checkpoints.interval.seconds = 1
"""


def settings_of_the_page(source: str, target: str) -> str:
    """The page's file with these two addresses."""
    (block,) = re.findall(r"```properties\n(.*?)```", PAGE.read_text(), re.DOTALL)
    replaced = str(block).replace("= localhost:9092", f"= {source}").replace("= kafka.example.org:9092", f"= {target}")
    assert source in replaced
    assert target in replaced
    return replaced


def write(address: str, numbers: range) -> None:
    with hw.Producer(address) as producer:
        for number in numbers:
            producer.send("mirrored", number, key=str(number))


def write_and_abort(address: str) -> None:
    with (
        hw.Producer(address, transactional_id="mirrored-writer") as producer,
        suppress(KeyError),
        producer.transaction(),
    ):
        producer.send("mirrored", ALL, key="aborted").result()  # it is in the log, so that copying it would show
        raise KeyError


def offsets(admin: hw.Admin) -> dict[Partition, int]:
    """Where the group is in each partition; empty while there is no such group, or its coordinator is loading."""
    try:
        return admin.committed("mirrored-readers") if "mirrored-readers" in admin.groups() else {}
    except hw.ClientError as error:
        assert error.code in ("COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR"), error
        return {}


@pytest.mark.timeout(300)
def test_records_and_groups_move_to_kafka(server: HeadwaterServer, kafka: str, tmp_path: Path) -> None:
    with hw.Admin(server.address) as admin:
        admin.create_topic("mirrored", partitions=PARTITIONS)
    write(server.address, range(FIRST))
    with hw.Consumer(server.address, "mirrored", group="mirrored-readers") as readers:
        for _ in readers.take(FIRST):
            pass
    write_and_abort(server.address)
    write(server.address, range(FIRST, ALL))

    properties = tmp_path / "mirror.properties"
    properties.write_text(settings_of_the_page(server.address, kafka) + FOR_THE_TEST)
    flags = ["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", jars(HERE / "mirror" / "pom.xml")]
    main = "org.apache.kafka.connect.mirror.MirrorMaker"
    maker = Background(tmp_path / "mirror.log", ["java", *flags, main, str(properties)])
    try:
        with hw.Admin(kafka) as there, hw.Admin(server.address) as here:
            eventually(lambda: len(offsets(there)) == PARTITIONS)
            assert all(offsets(there)[partition] <= offset for partition, offset in offsets(here).items())
            assert all(offset > 0 for offset in offsets(there).values())
            assert [topic for topic in here.topics() if topic.startswith(("mm2-", "heartbeats"))] == []
        with hw.Consumer(kafka, "mirrored", group="from-the-start") as everything:
            assert sorted(event.value for event in everything.take(ALL)) == list(range(ALL))
        with hw.Consumer(kafka, "mirrored", group="mirrored-readers", idle_timeout_ms=5000) as readers:
            assert {event.value for event in readers} >= set(range(FIRST, ALL))
    finally:
        sys.stderr.write(maker.stop()[-3000:])
