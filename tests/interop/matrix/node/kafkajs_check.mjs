// KafkaJS: node kafkajs_check.mjs PACKAGE ADDRESS TOPIC.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const [name, address, topic] = process.argv.slice(2);
const require = createRequire(import.meta.url);
const { Kafka, Partitioners, logLevel } = require(name);
const ROUNDS = 10;
const TIMEOUT_MS = 20_000;

async function eventually(what, holds) {
  for (const start = Date.now(); !(await holds()); await sleep(5))
    assert(Date.now() - start < TIMEOUT_MS, `not in time: ${what}`);
}

const kafka = new Kafka({ brokers: [address], logLevel: logLevel.ERROR });
const admin = kafka.admin();
await admin.connect();
await admin.createTopics({ topics: [{ topic, numPartitions: 1 }], waitForLeaders: true });
const end = async () => Number((await admin.fetchTopicOffsets(topic))[0].offset);
const newProducer = (more = {}) => kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner, ...more });
const send = (producer, value, acks) => producer.send({ topic, acks, messages: [{ value }] });

const expected = [];
for (const acks of [1, -1, 0]) {
  const producer = newProducer();
  await producer.connect();
  for (let n = 0; n < ROUNDS; n++) {
    await send(producer, `${acks} ${n}`, acks);
    expected.push(`${acks} ${n}`);
    if (acks !== 0) assert.equal(await end(), expected.length, `latest offset after acks=${acks}`);
  }
  await producer.disconnect();
}
await eventually("what acks=0 sent is there", async () => (await end()) === expected.length);

const producer = newProducer({ idempotent: true, maxInFlightRequests: 1, transactionalId: topic });
await producer.connect();
for (let n = 0; n < 4; n++) {
  const transaction = await producer.transaction();
  await send(transaction, `transaction ${n}`, -1);
  if (n % 2) await transaction.abort();
  else {
    await transaction.commit();
    expected.push(`transaction ${n}`);
  }
}
await producer.disconnect();

const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 50 });
const found = [];
await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
await consumer.run({
  autoCommit: false,
  eachMessage: async ({ partition, message }) => {
    found.push(message.value.toString());
    await consumer.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }]);
  },
});
await eventually("all records are read", () => found.length >= expected.length);
await consumer.disconnect();
assert.deepEqual(found, expected);
const [group] = (await admin.describeGroups([topic])).groups;
assert.equal(group.state, "Empty");
// The last record is the last but one transaction's: its marker, an aborted record and its marker come after it.
assert.equal(await committedOffset(), (await end()) - 3);
await admin.deleteGroups([topic]);
await admin.deleteTopics({ topics: [topic] });
await admin.disconnect();
console.log("ok", require(`${name}/package.json`).version);

/** 1.x answers partitions of a topic, 2.x a list of topics. */
async function committedOffset() {
  if (require(`${name}/package.json`).version.startsWith("1."))
    return Number((await admin.fetchOffsets({ groupId: topic, topic }))[0].offset);
  return Number((await admin.fetchOffsets({ groupId: topic, topics: [topic] }))[0].partitions[0].offset);
}
