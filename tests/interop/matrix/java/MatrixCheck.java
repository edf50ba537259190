// What an application does with kafka-clients, checked to the last record: MatrixCheck ADDRESS.
//
// Compiled once, against the oldest version of the matrix; what came later is called by reflection where the version at
// hand has it. Prints "ok NAME" for each check and ends with the version, or with "failed NAME" and the error.

import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class MatrixCheck {
    static final Duration POLL = Duration.ofMillis(50);
    static final long LIMIT_MS = 30_000;
    static final String RANGE = "org.apache.kafka.clients.consumer.RangeAssignor";
    static final String COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

    interface Check {
        void run() throws Exception;
    }

    final String address;
    final Admin admin;

    MatrixCheck(String address) {
        this.address = address;
        this.admin = Admin.create(Collections.singletonMap("bootstrap.servers", address));
    }

    public static void main(String[] args) throws Exception {
        Properties build = new Properties();
        build.load(MatrixCheck.class.getResourceAsStream("/kafka/kafka-version.properties"));
        String version = build.getProperty("version");
        MatrixCheck matrix = new MatrixCheck(args[0]);
        Map<String, Check> checks = new LinkedHashMap<>();
        checks.put("cluster", matrix::cluster);
        checks.put("topics", matrix::topics);
        checks.put("records", matrix::records);
        checks.put("transactions", matrix::transactions);
        checks.put("group-range", () -> matrix.group(Collections.singletonMap("partition.assignment.strategy", RANGE)));
        checks.put("group-cooperative", () -> matrix.group(Collections.singletonMap("partition.assignment.strategy", COOPERATIVE)));
        checks.put("static-member", matrix::staticMember);
        if (Integer.parseInt(version.split("\\.")[0]) >= 4) // KIP-848
            checks.put("group-consumer-protocol", () -> matrix.group(Collections.singletonMap("group.protocol", "consumer")));
        for (Map.Entry<String, Check> check : checks.entrySet()) {
            try {
                check.getValue().run();
            } catch (Exception | AssertionError error) {
                System.out.println("failed " + check.getKey());
                error.printStackTrace(System.out);
                System.exit(1);
            }
            System.out.println("ok " + check.getKey());
        }
        matrix.admin.close();
        System.out.println("kafka-clients " + version);
    }

    // The checks.

    void cluster() throws Exception {
        DescribeClusterResult cluster = admin.describeCluster();
        isTrue("the controller is a node", get(cluster.nodes()).contains(get(cluster.controller())));
        isTrue("there is a cluster id", !get(cluster.clusterId()).isEmpty());
        if (has(admin, "describeFeatures")) { // 2.7, KIP-584
            Object features = get(future(call(call(admin, "describeFeatures"), "featureMetadata")));
            Object finalized = call(features, "finalizedFeatures");
            isTrue("metadata.version is a feature", ((Map<?, ?>) finalized).containsKey("metadata.version"));
        }
    }

    void topics() throws Exception {
        String topic = newTopic(2);
        try {
            get(admin.createTopics(Collections.singleton(new NewTopic(topic, 2, (short) 1))).all());
            throw new AssertionError("a topic was created twice");
        } catch (TopicExistsException expected) {
            isTrue("the message names the topic", expected.getMessage().contains(topic));
        }
        isTrue("the topic is listed", get(admin.listTopics().names()).contains(topic));
        get(admin.createPartitions(Collections.singletonMap(topic, NewPartitions.increaseTo(3))).all());
        eventually("there are 3 partitions", () -> describe(topic).partitions().size() == 3);
        equal("replicas", 1, describe(topic).partitions().get(2).replicas().size());

        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        equal("retention.ms", "-1", config(resource).get("retention.ms").value());
        equal("cleanup.policy", ConfigEntry.ConfigSource.DEFAULT_CONFIG, config(resource).get("cleanup.policy").source());
        AlterConfigOp set = new AlterConfigOp(new ConfigEntry("retention.ms", "7654321"), AlterConfigOp.OpType.SET);
        get(admin.incrementalAlterConfigs(Collections.singletonMap(resource, Collections.singleton(set))).all());
        eventually("retention.ms changes", () -> config(resource).get("retention.ms").value().equals("7654321"));

        get(admin.deleteTopics(Collections.singleton(topic)).all());
        eventually("the topic is gone", () -> !get(admin.listTopics().names()).contains(topic));
    }

    /** Records of every compression and acks keep key, value, headers and time; what acks=1 acknowledged is seen at once. */
    void records() throws Exception {
        String topic = newTopic(1);
        TopicPartition partition = new TopicPartition(topic, 0);
        List<String> sent = new ArrayList<>();
        for (String acks : Arrays.asList("1", "all", "0")) {
            for (String codec : Arrays.asList("none", "gzip", "snappy", "lz4", "zstd")) {
                try (KafkaProducer<String, String> producer = producer("acks", acks, "compression.type", codec)) {
                    sent.add(acks + " " + codec);
                    ProducerRecord<String, String> record = new ProducerRecord<>(topic, 0, 1_700_000_000_000L + sent.size(), "key", acks + " " + codec);
                    record.headers().add("codec", codec.getBytes(StandardCharsets.UTF_8));
                    RecordMetadata metadata = get(producer.send(record));
                    if (acks.equals("0")) continue;
                    equal("offset", sent.size() - 1L, metadata.offset());
                    equal("latest offset after acks=" + acks, (long) sent.size(), latest(partition));
                }
            }
        }
        eventually("what acks=0 sent is there", () -> latest(partition) == sent.size());
        List<ConsumerRecord<String, String>> found = read(topic, sent.size());
        for (int n = 0; n < sent.size(); n++) {
            ConsumerRecord<String, String> record = found.get(n);
            equal("value", sent.get(n), record.value());
            equal("key", "key", record.key());
            equal("timestamp", 1_700_000_000_001L + n, record.timestamp());
            String codec = new String(record.headers().lastHeader("codec").value(), StandardCharsets.UTF_8);
            equal("header", sent.get(n).split(" ")[1], codec);
        }
        try (KafkaConsumer<String, String> consumer = consumer()) {
            Map<TopicPartition, Long> time = Collections.singletonMap(partition, 1_700_000_000_004L);
            equal("offset for a time", 3L, consumer.offsetsForTimes(time).get(partition).offset());
        }
        try (KafkaProducer<String, String> producer = producer("acks", "1")) {
            for (int n = 1; n <= 20; n++) {
                get(producer.send(new ProducerRecord<>(topic, 0, "key", "more")));
                long end = sent.size() + n;
                equal("latest offset right after acks=1", end, latest(partition));
                RecordsToDelete before = RecordsToDelete.beforeOffset(end);
                equal("low watermark", end, get(admin.deleteRecords(Collections.singletonMap(partition, before)).lowWatermarks().get(partition)).lowWatermark());
            }
        }
    }

    void transactions() throws Exception {
        String topic = newTopic(2);
        String name = topic + "-id";
        Map<TopicPartition, OffsetAndMetadata> offsets = Collections.singletonMap(new TopicPartition(topic, 0), new OffsetAndMetadata(7, "seven"));
        Set<String> committed = new TreeSet<>(), aborted = new TreeSet<>();
        KafkaProducer<String, String> producer = producer("transactional.id", name);
        producer.initTransactions();
        try (KafkaConsumer<String, String> reader = consumer("group.id", topic)) {
            for (int round = 0; round < 4; round++) {
                boolean aborts = round % 2 == 1;
                producer.beginTransaction();
                for (int n = 0; n < 10; n++) {
                    String value = round + " " + n;
                    (aborts ? aborted : committed).add(value);
                    producer.send(new ProducerRecord<>(topic, n % 2, null, value));
                }
                if (round == 0) sendOffsets(producer, offsets, reader);
                producer.flush();
                if (aborts) producer.abortTransaction();
                else producer.commitTransaction();
            }
        }
        // A second producer of that id fences the first, whose open transaction is aborted.
        producer.beginTransaction();
        aborted.add("fenced");
        get(producer.send(new ProducerRecord<>(topic, 0, null, "fenced")));
        try (KafkaProducer<String, String> second = producer("transactional.id", name)) {
            second.initTransactions();
            second.beginTransaction();
            committed.add("second");
            second.send(new ProducerRecord<>(topic, 0, null, "second"));
            second.commitTransaction();
        }
        try {
            producer.commitTransaction();
            throw new AssertionError("a fenced producer committed");
        } catch (KafkaException expected) {
            String kind = expected.getClass().getSimpleName() + expected;
            isTrue("it was fenced: " + kind, kind.contains("Fenced") || kind.contains("InvalidProducerEpoch"));
        }
        producer.close(Duration.ZERO);

        equal("committed", committed, values(read(topic, committed.size(), "isolation.level", "read_committed")));
        Set<String> all = new TreeSet<>(committed);
        all.addAll(aborted);
        equal("uncommitted", all, values(read(topic, all.size())));
        equal("offsets of the transaction", offsets, committed(topic));
    }

    /** Two members share four partitions, read all records, commit; one leaves, the other takes over. */
    void group(Map<String, String> protocol) throws Exception {
        String topic = newTopic(4), group = topic + "-group";
        Set<String> sent = new TreeSet<>();
        try (KafkaProducer<String, String> producer = producer("enable.idempotence", "true", "linger.ms", "5")) {
            for (int n = 0; n < 200; n++) {
                sent.add("value " + n);
                producer.send(new ProducerRecord<>(topic, n % 4, null, "value " + n));
            }
        }
        Set<String> seen = new TreeSet<>();
        try (KafkaConsumer<String, String> one = member(group, protocol)) {
            one.subscribe(Collections.singleton(topic));
            eventually("one member has all partitions", () -> poll(one, seen) && one.assignment().size() == 4);
            try (KafkaConsumer<String, String> two = member(group, protocol)) {
                two.subscribe(Collections.singleton(topic));
                eventually("two members have half each", () -> poll(one, seen) && poll(two, seen)
                    && one.assignment().size() == 2 && two.assignment().size() == 2
                    && Collections.disjoint(one.assignment(), two.assignment()));
                eventually("both are at the ends", () -> poll(one, seen) && poll(two, seen) && isAt(50, one) && isAt(50, two));
                equal("records", sent, seen);
                one.commitSync();
                two.commitSync();
                ConsumerGroupDescription description = describeGroup(group);
                equal("members", 2, description.members().size());
                equal("state", "Stable", description.state().toString());
            }
            eventually("the member that stays has all partitions", () -> poll(one, seen) && one.assignment().size() == 4);
        }
        for (Map.Entry<TopicPartition, OffsetAndMetadata> offset : committed(group).entrySet())
            equal("committed offset of " + offset.getKey(), 50L, offset.getValue().offset());
        equal("partitions with a committed offset", 4, committed(group).size());
        isTrue("the group is listed", get(admin.listConsumerGroups().all()).stream().anyMatch(g -> g.groupId().equals(group)));
        eventually("the group is empty", () -> describeGroup(group).members().isEmpty());
        get(admin.deleteConsumerGroups(Collections.singleton(group)).all());
    }

    /** A static member that comes back has its partitions without a rebalance (KIP-345). */
    void staticMember() throws Exception {
        String topic = newTopic(2), group = topic + "-group";
        Set<String> ids = new HashSet<>();
        for (int round = 0; round < 2; round++) {
            try (KafkaConsumer<String, String> consumer = member(group, Collections.singletonMap("group.instance.id", "instance"))) {
                consumer.subscribe(Collections.singleton(topic));
                eventually("it has its partitions", () -> poll(consumer, new HashSet<>()) && consumer.assignment().size() == 2);
            }
            Collection<MemberDescription> members = describeGroup(group).members();
            equal("members after it is closed", 1, members.size());
            MemberDescription member = members.iterator().next();
            equal("instance id", "instance", member.groupInstanceId().orElse(null));
            equal("partitions", 2, member.assignment().topicPartitions().size());
            ids.add(member.consumerId());
        }
        equal("member ids over a restart", 2, ids.size());
    }

    // What the checks do with the clients.

    String newTopic(int partitions) throws Exception {
        String topic = "matrix-" + UUID.randomUUID();
        Map<String, String> keepsAll = Collections.singletonMap("retention.ms", "-1");
        get(admin.createTopics(Collections.singleton(new NewTopic(topic, partitions, (short) 1).configs(keepsAll))).all());
        eventually("the topic is known", () -> get(admin.listTopics().names()).contains(topic));
        return topic;
    }

    KafkaProducer<String, String> producer(String... settings) {
        return new KafkaProducer<>(settings(settings), new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(String... settings) {
        Map<String, Object> all = settings(settings);
        all.put("auto.offset.reset", "earliest");
        all.put("enable.auto.commit", "false");
        all.put("fetch.max.wait.ms", "50");
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    KafkaConsumer<String, String> member(String group, Map<String, String> protocol) {
        List<String> settings = new ArrayList<>(Arrays.asList("group.id", group));
        if (!protocol.containsKey("group.protocol")) settings.addAll(Arrays.asList("heartbeat.interval.ms", "100", "session.timeout.ms", "45000"));
        protocol.forEach((name, value) -> settings.addAll(Arrays.asList(name, value)));
        return consumer(settings.toArray(new String[0]));
    }

    Map<String, Object> settings(String... settings) {
        Map<String, Object> all = new HashMap<>();
        all.put("bootstrap.servers", address);
        for (int n = 0; n < settings.length; n += 2) all.put(settings[n], settings[n + 1]);
        return all;
    }

    List<ConsumerRecord<String, String>> read(String topic, int count, String... settings) throws Exception {
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = consumer(settings)) {
            List<TopicPartition> partitions = new ArrayList<>();
            for (int n = 0; n < describe(topic).partitions().size(); n++) partitions.add(new TopicPartition(topic, n));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            eventually("the end is read", () -> {
                consumer.poll(POLL).forEach(found::add);
                return ends.entrySet().stream().allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
            });
        }
        equal("records of " + topic, count, found.size());
        return found;
    }

    static Set<String> values(List<ConsumerRecord<String, String>> records) {
        Set<String> values = new TreeSet<>();
        for (ConsumerRecord<String, String> record : records) values.add(record.value());
        return values;
    }

    static boolean poll(KafkaConsumer<String, String> consumer, Set<String> seen) {
        consumer.poll(POLL).forEach(record -> seen.add(record.value()));
        return true;
    }

    static boolean isAt(long offset, KafkaConsumer<String, String> consumer) {
        return consumer.assignment().stream().allMatch(partition -> consumer.position(partition) == offset);
    }

    TopicDescription describe(String topic) throws Exception {
        // allTopicNames since 3.1; all was removed in 4.0 (KIP-516).
        Object result = admin.describeTopics(Collections.singleton(topic));
        Object all = call(result, has(result, "allTopicNames") ? "allTopicNames" : "all");
        return (TopicDescription) ((Map<?, ?>) get(future(all))).get(topic);
    }

    Config config(ConfigResource resource) throws Exception {
        return get(admin.describeConfigs(Collections.singleton(resource)).all()).get(resource);
    }

    ConsumerGroupDescription describeGroup(String group) throws Exception {
        return get(admin.describeConsumerGroups(Collections.singleton(group)).all()).get(group);
    }

    Map<TopicPartition, OffsetAndMetadata> committed(String group) throws Exception {
        return get(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata());
    }

    /** By Admin.listOffsets since 2.5 (KIP-396), by a consumer before. */
    long latest(TopicPartition partition) throws Exception {
        if (!has(admin, "listOffsets"))
            try (KafkaConsumer<String, String> consumer = consumer()) {
                return consumer.endOffsets(Collections.singleton(partition)).get(partition);
            }
        Object latest = Class.forName("org.apache.kafka.clients.admin.OffsetSpec").getMethod("latest").invoke(null);
        Object result = call(admin, "listOffsets", Collections.singletonMap(partition, latest));
        return (Long) call(get(future(call(result, "partitionResult", partition))), "offset");
    }

    /** By the consumer's metadata since 2.5 (KIP-447), by the group's name before (removed in 4.0). */
    static void sendOffsets(KafkaProducer<String, String> producer, Map<TopicPartition, OffsetAndMetadata> offsets, KafkaConsumer<String, String> consumer) throws Exception {
        boolean byMetadata = has(consumer, "groupMetadata");
        String group = offsets.keySet().iterator().next().topic();
        call(producer, "sendOffsetsToTransaction", offsets, byMetadata ? call(consumer, "groupMetadata") : group);
    }

    // Waiting, comparing, calling by name.

    static <T> T get(Future<T> future) throws Exception {
        try {
            return future.get(LIMIT_MS, TimeUnit.MILLISECONDS);
        } catch (ExecutionException error) {
            if (error.getCause() instanceof Exception) throw (Exception) error.getCause();
            throw error;
        }
    }

    static void eventually(String what, Callable<Boolean> holds) throws Exception {
        long start = System.nanoTime();
        while (!holds.call()) {
            if (System.nanoTime() - start > LIMIT_MS * 1_000_000) throw new AssertionError("not in time: " + what);
            Thread.sleep(5);
        }
    }

    static void equal(String what, Object expected, Object found) {
        if (!expected.equals(found)) throw new AssertionError(what + ": expected " + expected + ", found " + found);
    }

    static void isTrue(String what, boolean holds) {
        if (!holds) throw new AssertionError("not so: " + what);
    }

    static boolean has(Object target, String name) {
        return Arrays.stream(target.getClass().getMethods()).anyMatch(method -> method.getName().equals(name));
    }

    /** Calls a public method by its name and the types of its arguments. */
    static Object call(Object target, String name, Object... arguments) throws Exception {
        for (Method method : target.getClass().getMethods()) {
            Class<?>[] types = method.getParameterTypes();
            boolean fits = method.getName().equals(name) && types.length == arguments.length;
            for (int n = 0; fits && n < types.length; n++) fits = types[n].isInstance(arguments[n]);
            if (!fits) continue;
            try {
                return method.invoke(target, arguments);
            } catch (InvocationTargetException error) {
                if (error.getCause() instanceof Exception) throw (Exception) error.getCause();
                throw error;
            }
        }
        throw new AssertionError("no method " + name + " of " + target.getClass());
    }

    static KafkaFuture<?> future(Object future) {
        return (KafkaFuture<?>) future;
    }
}
