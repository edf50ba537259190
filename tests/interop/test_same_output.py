"""Kafka's administrators' tools say the same of Headwater as of a real Kafka."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.protocol.records import Record, build_batch
from tests.broker.wire import Wire

from .servers import HeadwaterServer

Tool = Callable[..., str]
TOOLS = "org.apache.kafka.tools"
ACL = ["--allow-principal", "User:alice", "--allow-host", "10.0.0.1", "--operation", "Read"]

# The main classes of kafka-topics, -configs, -acls, -get-offsets, -delete-records, -log-dirs, -features, -transactions,
# -consumer-groups, -metadata-quorum and -leader-election; {at} is the broker, {records} a file.
COMMANDS = {
    "describe topic": f"{TOOLS}.TopicCommand {{at}} --describe --topic t",
    "list topics": f"{TOOLS}.TopicCommand {{at}} --list --exclude-internal",
    "create a topic that is there": f"{TOOLS}.TopicCommand {{at}} --create --topic t --if-not-exists",
    "set a configuration": f"{TOOLS}.ConfigCommand {{at}} --alter --topic t --add-config retention.ms=700000000000",
    "describe configurations": f"{TOOLS}.ConfigCommand {{at}} --describe --topic t",
    "set a broker's configuration": f"{TOOLS}.ConfigCommand {{at}} --alter --broker 1 --add-config log.retention.ms=900000000000",
    "describe a group's configurations": f"{TOOLS}.ConfigCommand {{at}} --describe --group g",
    "set a password": f"{TOOLS}.ConfigCommand {{at}} --alter --user bob --add-config SCRAM-SHA-256=[iterations=4096,password=x]",
    "describe a user": f"{TOOLS}.ConfigCommand {{at}} --describe --user bob",
    "limit an address": f"{TOOLS}.ConfigCommand {{at}} --alter --ip 192.0.2.1 --add-config connection_creation_rate=5000",
    "limit all addresses": f"{TOOLS}.ConfigCommand {{at}} --alter --ip-defaults --add-config connection_creation_rate=5000",
    "describe the limits of addresses": f"{TOOLS}.ConfigCommand {{at}} --describe --entity-type ips",
    "do not limit an address": f"{TOOLS}.ConfigCommand {{at}} --alter --ip 192.0.2.1 --delete-config connection_creation_rate",
    "allow": f"{TOOLS}.AclCommand {{at}} --add --topic t " + " ".join(ACL),
    "allow tokens": f"{TOOLS}.AclCommand {{at}} --add --user-principal User:bob --operation CreateTokens --allow-principal User:a",
    "allow by prefix": f"{TOOLS}.AclCommand {{at}} --add --group g --resource-pattern-type prefixed " + " ".join(ACL),
    "list entries": f"{TOOLS}.AclCommand {{at}} --list",
    "remove entries": f"{TOOLS}.AclCommand {{at}} --remove --force --topic t",
    "get offsets": f"{TOOLS}.GetOffsetShell {{at}} --topic-partitions t:0,t:1",
    "get earliest offsets": f"{TOOLS}.GetOffsetShell {{at}} --topic-partitions t:0 --time earliest",
    "delete records": f"{TOOLS}.DeleteRecordsCommand {{at}} --offset-json-file {{records}}",
    "get offsets after that": f"{TOOLS}.GetOffsetShell {{at}} --topic-partitions t:0 --time earliest",
    "list transactions": f"{TOOLS}.TransactionsCommand {{at}} list",
    "describe producers": f"{TOOLS}.TransactionsCommand {{at}} describe-producers --topic t --partition 0",
    "list groups": f"{TOOLS}.consumer.group.ConsumerGroupCommand {{at}} --list",
    "elect leaders": f"{TOOLS}.LeaderElectionCommand {{at}} --election-type preferred --topic t --partition 0",
    "describe features": f"{TOOLS}.FeatureCommand {{at}} describe",
    "describe log directories": f"{TOOLS}.LogDirsCommand {{at}} --describe --topic-list t",
    "delete a topic": f"{TOOLS}.TopicCommand {{at}} --delete --topic u",
}


def normalised(output: str) -> list[str]:
    """The lines without what is a broker's own: ids, folders, the order in which sets are printed, features not served."""
    text = re.sub(r"TopicId: \S+", "TopicId: …", output)
    text = re.sub(r"^Feature: (eligible\.leader\.replicas|share|streams)\.version .*\n", "", text, flags=re.MULTILINE)
    # The level of the records of a controller's log, which clients have no use for: Kafka 4.4's is newer than ours.
    text = re.sub(r"^(Feature: metadata\.version .*) \S+-IV\d( .*) \S+-IV\d", r"\1 …\2 …", text, flags=re.MULTILINE)
    text = re.sub(r"Epoch: \d+$", "Epoch: …", text, flags=re.MULTILINE)
    text = re.sub(r'"logDir":"[^"]*"', '"logDir":"…"', text)
    text = re.sub(r"127\.0\.0\.1:\d+", "…", text)
    text = re.sub(r"LastTimestamp|\b\d{13}\b", "…", text)
    return sorted(line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("SLF4J"))


@pytest.mark.timeout(400)
def test_tools_print_the_same(kafka: str, headwater: HeadwaterServer, kafka_tool: Tool, tmp_path: Path) -> None:
    records = tmp_path / "records.json"
    wanted = {"partitions": [{"topic": "t", "partition": 0, "offset": 2}], "version": 1}
    records.write_text(json.dumps(wanted))
    for address in (kafka, headwater.address):
        with Wire(address) as wire:
            for topic in ("t", "u"):
                wire.create_topic(topic, 2)
            batch = build_batch(
                [Record(b"k", b"v", (), 1_795_000_000_000)] * 5, producer_id=5, producer_epoch=0, base_sequence=0
            )
            for _ in range(2000):  # until Kafka's new leader is there
                if wire.produce("t", 0, batch) == 0:
                    break
    different = []
    for name, command in COMMANDS.items():
        outputs = []
        for address in (kafka, headwater.address):
            words = command.format(at=f"--bootstrap-server {address}", records=records).split()
            outputs.append(normalised(kafka_tool(*words)))
        if outputs[0] != outputs[1]:
            different.append((name, outputs))
    assert not different, "\n".join(f"{name}\n  {outputs[0]}\n  {outputs[1]}" for name, outputs in different)
