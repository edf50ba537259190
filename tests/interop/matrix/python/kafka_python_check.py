"""kafka-python: python kafka_python_check.py ADDRESS TOPIC."""

import sys
import time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

ROUNDS = 10
TIMEOUT_S = 20
address, topic = sys.argv[1:]
partition = TopicPartition(topic, 0)
has_transactions = int(kafka.__version__.split(".")[0]) >= 3

admin = KafkaAdminClient(bootstrap_servers=address)
admin.create_topics([NewTopic(topic, 1, 1)])
probe = KafkaConsumer(bootstrap_servers=address)
expected = []
for acks in (1, "all", 0):
    producer = KafkaProducer(
        bootstrap_servers=address, acks=acks, **({"enable_idempotence": False} if has_transactions else {})
    )
    for n in range(ROUNDS):
        producer.send(topic, f"{acks} {n}".encode(), partition=0).get(TIMEOUT_S)
        expected.append(f"{acks} {n}")
        if acks != 0:
            assert probe.end_offsets([partition])[partition] == len(expected), acks
    producer.close()
deadline = time.monotonic() + TIMEOUT_S
while probe.end_offsets([partition])[partition] < len(expected):  # acks=0 promises nothing
    assert time.monotonic() < deadline

if has_transactions:
    producer = KafkaProducer(bootstrap_servers=address, enable_idempotence=True)
    producer.send(topic, b"idempotent", partition=0).get(TIMEOUT_S)
    expected.append("idempotent")
    producer.close()
    producer = KafkaProducer(bootstrap_servers=address, transactional_id=topic)
    producer.init_transactions()
    for n in range(4):
        producer.begin_transaction()
        producer.send(topic, f"transaction {n}".encode(), partition=0)
        if n % 2:
            producer.flush()
            producer.abort_transaction()
        else:
            producer.commit_transaction()
            expected.append(f"transaction {n}")
    producer.close()

settings = {"bootstrap_servers": address, "group_id": topic, "auto_offset_reset": "earliest"}
if has_transactions:
    settings["isolation_level"] = "read_committed"
reader = KafkaConsumer(topic, **settings, enable_auto_commit=False)
end = probe.end_offsets([partition])[partition]
found: list[str] = []
for _ in range(TIMEOUT_S * 10):
    for messages in reader.poll(timeout_ms=100).values():
        found += [message.value.decode() for message in messages]
    if reader.assignment() and reader.position(partition) >= end:
        break
assert found == expected, (found, expected)
reader.commit()
reader.close()
probe.close()
again = KafkaConsumer(**settings)
assert again.committed(partition) == end
again.close()
admin.delete_topics([topic])
print("ok", kafka.__version__)
