// A Flink job copies a topic exactly once, with a failure in the middle: FlinkCheck ADDRESS SOURCE TARGET.
//
// Prints "ok FLINK-VERSION", or ends with the error.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.MapFunction;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class FlinkCheck {
    static final int COUNT = 2000, PARTITIONS = 2;
    static final int LIMIT_S = 60;

    /** Passes records on, and fails once: in a transaction that holds records, after one that was committed. */
    static class FailsOnce implements MapFunction<String, String>, CheckpointListener {
        static final AtomicInteger failures = new AtomicInteger(), checkpoints = new AtomicInteger();
        int sinceCheckpoint;

        @Override
        public String map(String value) throws Exception {
            if (failures.get() == 0) Thread.sleep(10); // slow enough for checkpoints while there are records
            sinceCheckpoint++;
            if (checkpoints.get() >= 2 && sinceCheckpoint >= 5 && failures.compareAndSet(0, 1))
                throw new IllegalStateException("the failure in the middle");
            return value;
        }

        @Override
        public void notifyCheckpointComplete(long id) {
            checkpoints.incrementAndGet();
            sinceCheckpoint = 0;
        }
    }

    public static void main(String[] args) throws Exception {
        String address = args[0], source = args[1], target = args[2];
        List<String> sent = IntStream.range(0, COUNT).mapToObj(n -> String.format("%05d", n)).collect(Collectors.toList());
        prepare(address, source, target, sent);
        run(address, source, target);
        equal("failures", 1, FailsOnce.failures.get());
        List<String> committed = read(address, target, "read_committed");
        Collections.sort(committed);
        equal("records", sent, committed);
        // What the failure left behind is there, aborted: it was not a job that wrote all in one transaction.
        int all = read(address, target, "read_uncommitted").size();
        if (all <= COUNT) throw new AssertionError("no record was aborted: " + all);
        System.out.println("ok " + EnvironmentInformation.getVersion());
        System.exit(0);
    }

    static void prepare(String address, String source, String target, List<String> values) throws Exception {
        try (Admin admin = Admin.create(Collections.singletonMap("bootstrap.servers", address))) {
            List<NewTopic> topics = Arrays.asList(new NewTopic(source, PARTITIONS, (short) 1), new NewTopic(target, PARTITIONS, (short) 1));
            admin.createTopics(topics).all().get(LIMIT_S, TimeUnit.SECONDS);
        }
        Map<String, Object> settings = Collections.singletonMap("bootstrap.servers", address);
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int n = 0; n < values.size(); n++) producer.send(new ProducerRecord<>(source, n % PARTITIONS, null, values.get(n)));
        }
    }

    static void run(String address, String source, String target) throws Exception {
        Map<String, String> settings = new HashMap<>();
        settings.put("execution.checkpointing.interval", "200ms");
        settings.put("restart-strategy.type", "fixed-delay");
        settings.put("restart-strategy.fixed-delay.attempts", "1");
        settings.put("restart-strategy.fixed-delay.delay", "100ms");
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(PARTITIONS, Configuration.fromMap(settings));
        KafkaSource<String> from = KafkaSource.<String>builder()
            .setBootstrapServers(address).setTopics(source).setGroupId(source)
            .setStartingOffsets(OffsetsInitializer.earliest()).setBounded(OffsetsInitializer.latest())
            .setValueOnlyDeserializer(new SimpleStringSchema()).build();
        KafkaSink<String> to = KafkaSink.<String>builder()
            .setBootstrapServers(address)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix(target)
            .setProperty("transaction.timeout.ms", "60000")
            .setRecordSerializer(KafkaRecordSerializationSchema.builder().setTopic(target)
                .setValueSerializationSchema(new SimpleStringSchema()).build())
            .build();
        environment.fromSource(from, WatermarkStrategy.noWatermarks(), "source").map(new FailsOnce()).sinkTo(to);
        environment.execute();
    }

    static List<String> read(String address, String topic, String isolation) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", address);
        settings.put("isolation.level", isolation);
        List<TopicPartition> partitions = IntStream.range(0, PARTITIONS).mapToObj(n -> new TopicPartition(topic, n)).collect(Collectors.toList());
        List<String> values = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long start = System.nanoTime();
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) values.add(record.value());
                if (System.nanoTime() - start > LIMIT_S * 1_000_000_000L) throw new AssertionError("only " + values.size() + " of " + ends);
            }
        }
        return values;
    }

    static void equal(String what, Object expected, Object found) {
        if (!expected.equals(found)) throw new AssertionError(what + ": expected " + expected + ", found " + found);
    }
}
