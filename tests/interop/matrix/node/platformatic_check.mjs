// @platformatic/kafka: node platformatic_check.mjs PACKAGE ADDRESS TOPIC.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

const [name, address, topic] = process.argv.slice(2);
const { Admin, Consumer, Producer, stringDeserializers, stringSerializers } = await import(name);
const ROUNDS = 10;
const TIMEOUT_MS = 20_000;
const connection = { clientId: "matrix", bootstrapBrokers: [address] };

async function eventually(what, holds) {
  for (const start = Date.now(); !(await holds()); await sleep(5))
    assert(Date.now() - start < TIMEOUT_MS, `not in time: ${what}`);
}

const admin = new Admin(connection);
await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1 });
const probe = new Consumer({ ...connection, groupId: topic });
const end = async () => Number((await probe.listOffsets({ topics: [topic], isolationLevel: 0 })).get(topic)[0]);
const newProducer = (more = {}) => new Producer({ ...connection, serializers: stringSerializers, ...more });
const messages = (value) => [{ topic, partition: 0, value }];

const expected = [];
for (const acks of [1, -1, 0]) {
  const producer = newProducer();
  for (let n = 0; n < ROUNDS; n++) {
    await producer.send({ acks, messages: messages(`${acks} ${n}`) });
    expected.push(`${acks} ${n}`);
    if (acks !== 0) assert.equal(await end(), expected.length, `latest offset after acks=${acks}`);
  }
  await producer.close();
}
await eventually("what acks=0 sent is there", async () => (await end()) === expected.length);

const producer = newProducer({ idempotent: true, transactionalId: topic });
if (producer.beginTransaction) {
  // None is aborted: this client hands out aborted records too.
  const transaction = await producer.beginTransaction();
  await transaction.send({ messages: messages("transaction") });
  await transaction.commit();
} else await producer.send({ messages: messages("transaction") });
expected.push("transaction");
await producer.close();

for (const groupProtocol of ["classic", "consumer"]) {
  const groupId = `${topic}-${groupProtocol}`;
  const group = { ...connection, groupId, groupProtocol, isolationLevel: 1, maxWaitTime: 50, deserializers: stringDeserializers };
  const consumer = new Consumer(group);
  const stream = await consumer.consume({ topics: [topic], mode: "earliest", autocommit: false });
  const found = [];
  for await (const message of stream) {
    found.push(message.value);
    await consumer.commit({ offsets: [{ topic, partition: 0, offset: message.offset + 1n, leaderEpoch: 0 }] });
    if (found.length === expected.length) break;
  }
  assert.deepEqual(found, expected, groupProtocol);
  await consumer.close(true);
  const reader = new Consumer({ ...connection, groupId });
  const committed = await reader.listCommittedOffsets({ topics: [{ topic, partitions: [0] }] });
  const marker = producer.beginTransaction ? 1 : 0;
  assert.equal(Number(committed.get(topic)[0]), (await end()) - marker, "committed offset");
  await reader.close();
}
await probe.close();
await admin.deleteTopics({ topics: [topic] });
await admin.close();
const manifest = new URL(`node_modules/${name}/package.json`, import.meta.url);
console.log("ok", JSON.parse(readFileSync(manifest)).version);
