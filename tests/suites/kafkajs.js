// The checks of the kafkajs suite. Prints one JSON object a check: test, outcome, detail.
'use strict';
const assert = require('node:assert');
const { Kafka, CompressionTypes, CompressionCodecs, logLevel, ConfigResourceTypes, AssignerProtocol } =
  require('kafkajs');
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');
const LZ4 = require('kafkajs-lz4');
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec;

const kafka = new Kafka({
  clientId: 'varve-suite', brokers: [process.env.BROKER], logLevel: logLevel.NOTHING,
  retry: { retries: 8, initialRetryTime: 50 },
});
const admin = kafka.admin();
let counter = 0;
const fresh = (word) => `${word}-${process.pid}-${Date.now()}-${counter++}`;
const made = async (numPartitions = 1, configEntries = []) => {
  const topic = fresh('topic');
  assert.strictEqual(
    await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }], waitForLeaders: true }),
    true);
  return topic;
};

// Reads until `count` messages have come, or rejects.
const consume = async (topic, count, options = {}) => {
  const consumer = kafka.consumer({ groupId: options.groupId || fresh('group'), sessionTimeout: 10000 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const messages = [];
  let timer;
  try {
    await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`${messages.length} of ${count} messages came`)), 20000);
      // With `restart` it is kafkajs's way to retry, for example while a coordinator loads.
      consumer.on('consumer.crash', (event) => event.payload.restart || reject(event.payload.error));
      consumer.run({
        eachMessage: async ({ partition, message }) => {
          messages.push({ partition, ...message });
          if (messages.length === count) resolve();
        },
      }).catch(reject);
    });
  } finally {
    clearTimeout(timer);
    await consumer.disconnect();
  }
  return messages;
};

const produce = async (topic, messages, options = {}) => {
  const producer = kafka.producer({ allowAutoTopicCreation: false, ...options.producer });
  await producer.connect();
  try {
    return await producer.send({ topic, messages, acks: options.acks ?? -1, ...options.send });
  } finally {
    await producer.disconnect();
  }
};

const checks = {
  'cluster is described': async () => {
    const cluster = await admin.describeCluster();
    assert.ok(cluster.brokers.length >= 1 && cluster.clusterId);
    assert.ok(cluster.brokers.some((broker) => broker.nodeId === cluster.controller));
  },
  'topic is created, listed and described': async () => {
    const topic = await made(3);
    assert.ok((await admin.listTopics()).includes(topic));
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    assert.strictEqual(topics[0].partitions.length, 3);
  },
  'topic that exists is not created again': async () => {
    const topic = await made();
    assert.strictEqual(await admin.createTopics({ topics: [{ topic }] }), false);
  },
  'topic is deleted': async () => {
    const topic = await made();
    await admin.deleteTopics({ topics: [topic] });
    assert.ok(!(await admin.listTopics()).includes(topic));
  },
  'partitions are added': async () => {
    const topic = await made(1);
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] });
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    assert.strictEqual(topics[0].partitions.length, 4);
  },
  'configuration is described and altered': async () => {
    const topic = await made(1, [{ name: 'retention.ms', value: '123456' }]);
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic };
    const value = async () => (await admin.describeConfigs({ resources: [resource], includeSynonyms: false }))
      .resources[0].configEntries.find((entry) => entry.configName === 'retention.ms').configValue;
    assert.strictEqual(await value(), '123456');
    await admin.alterConfigs({
      resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '654321' }] }] });
    assert.strictEqual(await value(), '654321');
  },
  'messages with keys, headers and timestamps come back': async () => {
    const topic = await made();
    const timestamp = String(Date.now() - 5000);
    await produce(topic, [
      { key: 'k', value: 'v', headers: { a: 'b', list: ['1', '2'] }, timestamp },
      { key: null, value: 'no key' }, { key: 'tombstone', value: null }, { key: '', value: '' },
    ]);
    const found = await consume(topic, 4);
    assert.strictEqual(found[0].key.toString(), 'k');
    assert.strictEqual(found[0].headers.a.toString(), 'b');
    assert.deepStrictEqual(found[0].headers.list.map(String), ['1', '2']);
    assert.strictEqual(found[0].timestamp, timestamp);
    assert.strictEqual(found[1].key, null);
    assert.strictEqual(found[2].value, null);
    assert.strictEqual(found[3].value.length, 0);
    assert.deepStrictEqual(found.map((message) => message.offset), ['0', '1', '2', '3']);
  },
  'acks 0 and 1': async () => {
    const topic = await made();
    await produce(topic, [{ value: 'none' }], { acks: 0 });
    await produce(topic, [{ value: 'one' }], { acks: 1 });
    assert.deepStrictEqual((await consume(topic, 2)).map((m) => m.value.toString()).sort(), ['none', 'one']);
  },
  'idempotent producer': async () => {
    const topic = await made();
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    for (let i = 0; i < 10; i++) await producer.send({ topic, messages: [{ value: `${i}` }] });
    await producer.disconnect();
    const found = (await consume(topic, 10)).map((message) => message.value.toString());
    assert.deepStrictEqual(found, [...Array(10).keys()].map(String));
  },
  'unknown topic is made by producing to it': async () => {
    const topic = fresh('auto');
    await produce(topic, [{ value: 'x' }], { producer: { allowAutoTopicCreation: true } });
    assert.strictEqual((await consume(topic, 1)).length, 1);
  },
  'large message is refused by its size': async () => {
    const topic = await made();
    await assert.rejects(
      produce(topic, [{ value: 'x'.repeat(2 << 20) }], { producer: { retry: { retries: 0 } } }),
      (error) => error.type === 'MESSAGE_TOO_LARGE');
  },
  'offsets of a topic, and by timestamp': async () => {
    const topic = await made();
    const base = Date.now() - 100000;
    await produce(topic, [0, 1, 2, 3].map((i) => ({ value: `${i}`, timestamp: String(base + i * 1000) })));
    const [offsets] = await admin.fetchTopicOffsets(topic);
    assert.deepStrictEqual([offsets.low, offsets.high], ['0', '4']);
    const [found] = await admin.fetchTopicOffsetsByTimestamp(topic, base + 1500);
    assert.strictEqual(found.offset, '2');
  },
  'records are deleted': async () => {
    const topic = await made();
    await produce(topic, [...Array(10).keys()].map((i) => ({ value: `${i}` })));
    // kafkajs looks for the leader before it fetches what it knows of the topic.
    await admin.fetchTopicOffsets(topic);
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '7' }] });
    const [offsets] = await admin.fetchTopicOffsets(topic);
    assert.strictEqual(offsets.low, '7');
    assert.strictEqual((await consume(topic, 3))[0].offset, '7');
  },
  'group resumes after its committed offset': async () => {
    const topic = await made();
    const groupId = fresh('group');
    await produce(topic, [{ value: 'a' }, { value: 'b' }]);
    await consume(topic, 2, { groupId });
    await produce(topic, [{ value: 'c' }]);
    assert.deepStrictEqual((await consume(topic, 1, { groupId })).map((m) => m.value.toString()), ['c']);
  },
  'two members share the partitions': async () => {
    const topic = await made(4);
    const groupId = fresh('group');
    const members = [kafka.consumer({ groupId }), kafka.consumer({ groupId })];
    const assigned = [null, null];
    try {
      await Promise.all(members.map(async (member, index) => {
        await member.connect();
        await member.subscribe({ topics: [topic] });
        member.on('consumer.group_join', (event) => {
          assigned[index] = event.payload.memberAssignment[topic] || [];
        });
        await member.run({ eachMessage: async () => {} });
      }));
      for (let i = 0; i < 200; i++) {
        if (assigned.every((list) => list && list.length === 2)) break;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assert.deepStrictEqual(assigned.flat().sort(), [0, 1, 2, 3]);
      assert.ok(assigned.every((list) => list.length === 2));
      const { groups } = await admin.describeGroups([groupId]);
      assert.strictEqual(groups[0].state, 'Stable');
      const described = groups[0].members.flatMap((member) =>
        AssignerProtocol.MemberAssignment.decode(member.memberAssignment).assignment[topic]);
      assert.deepStrictEqual(described.sort(), [0, 1, 2, 3]);
    } finally {
      await Promise.all(members.map((member) => member.disconnect()));
    }
  },
  'groups are listed, reset and deleted': async () => {
    const topic = await made();
    const groupId = fresh('group');
    await produce(topic, [{ value: 'a' }, { value: 'b' }]);
    await consume(topic, 2, { groupId });
    assert.ok((await admin.listGroups()).groups.some((group) => group.groupId === groupId));
    await admin.setOffsets({ groupId, topic, partitions: [{ partition: 0, offset: '1' }] });
    const [offsets] = await admin.fetchOffsets({ groupId, topics: [topic] });
    assert.strictEqual(offsets.partitions[0].offset, '1');
    await admin.deleteGroups([groupId]);
    assert.ok(!(await admin.listGroups()).groups.some((group) => group.groupId === groupId));
  },
};

for (const [name, codec] of [['gzip', CompressionTypes.GZIP], ['snappy', CompressionTypes.Snappy],
  ['lz4', CompressionTypes.LZ4]]) {
  checks[`${name} comes back`] = async () => {
    const topic = await made();
    const values = [...Array(100).keys()].map((i) => `value ${i} `.repeat(20));
    await produce(topic, values.map((value) => ({ value })), { send: { compression: codec } });
    assert.deepStrictEqual((await consume(topic, 100)).map((m) => m.value.toString()), values);
  };
}

const main = async () => {
  await admin.connect();
  for (const [test, check] of Object.entries(checks)) {
    if (!test.includes(process.env.ONLY || '')) continue;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error('not done within 60 s')), 60000);
    });
    let result = { test, outcome: 'pass' };
    try {
      await Promise.race([check(), late]);
    } catch (error) {
      result = { test, outcome: 'fail', detail: `${error.name}: ${error.message} ${JSON.stringify(error.partitions || '')}`.split('\n')[0].slice(0, 300) };
    }
    clearTimeout(timer);
    console.log(JSON.stringify(result));
  }
  await admin.disconnect();
  process.exit(0);
};
main().catch((error) => { console.error(error); process.exit(1); });
