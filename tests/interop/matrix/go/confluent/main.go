// librdkafka by confluent-kafka-go: confluent ADDRESS TOPIC.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"

	"headwater.test/matrix/check"
)

var address, topic = check.Arguments()

func newProducer(name string, value any) *kafka.Producer {
	producer, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": address, "linger.ms": 0, name: value})
	check.NoError("producer", err)
	return producer
}

func newConsumer() *kafka.Consumer {
	consumer, err := kafka.NewConsumer(&kafka.ConfigMap{
		"bootstrap.servers": address, "group.id": topic, "auto.offset.reset": "earliest", "enable.auto.commit": false,
	})
	check.NoError("consumer", err)
	return consumer
}

func produce(producer *kafka.Producer, value string) {
	report := make(chan kafka.Event, 1)
	message := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic}, Value: []byte(value)}
	check.NoError("produce", producer.Produce(message, report))
	check.NoError("deliver "+value, (<-report).(*kafka.Message).TopicPartition.Error)
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*check.Timeout)
	defer cancel()
	probe := newConsumer()
	admin, err := kafka.NewAdminClientFromConsumer(probe)
	check.NoError("admin", err)
	created, err := admin.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}})
	check.NoError("create", err)
	check.Equal("create the topic", kafka.ErrNoError, created[0].Error.Code())
	end := func() int64 {
		_, high, err := probe.QueryWatermarkOffsets(topic, 0, int(check.Timeout.Milliseconds()))
		check.NoError("latest offset", err)
		return high
	}

	var expected []string
	for _, acks := range []string{"1", "all", "0"} {
		producer := newProducer("acks", acks)
		for n := 0; n < check.Rounds; n++ {
			value := fmt.Sprint(acks, " ", n)
			produce(producer, value)
			expected = append(expected, value)
			if acks != "0" {
				check.Equal("latest offset after acks="+acks, int64(len(expected)), end())
			}
		}
		producer.Close()
	}
	check.Eventually("what acks=0 sent is there", func() bool { return end() == int64(len(expected)) })

	producer := newProducer("transactional.id", topic)
	check.NoError("initialise", producer.InitTransactions(ctx))
	for n := 0; n < 4; n++ {
		value := fmt.Sprint("transaction ", n)
		check.NoError("begin", producer.BeginTransaction())
		produce(producer, value)
		if n%2 == 0 {
			check.NoError("commit", producer.CommitTransaction(ctx))
			expected = append(expected, value)
		} else {
			check.NoError("abort", producer.AbortTransaction(ctx))
		}
	}
	producer.Close()

	reader := newConsumer()
	check.NoError("subscribe", reader.SubscribeTopics([]string{topic}, nil))
	for _, value := range expected {
		message, err := reader.ReadMessage(check.Timeout)
		check.NoError("read", err)
		check.Equal("record", value, string(message.Value))
		_, err = reader.CommitMessage(message)
		check.NoError("commit", err)
	}
	_, err = reader.ReadMessage(100 * time.Millisecond)
	check.Equal("after the last record", kafka.ErrTimedOut, err.(kafka.Error).Code())
	check.NoError("leave", reader.Close())
	committed, err := probe.Committed([]kafka.TopicPartition{{Topic: &topic}}, int(check.Timeout.Milliseconds()))
	check.NoError("committed offsets", err)
	// The last record is the last but one transaction's: its marker, an aborted record and its marker come after it.
	check.Equal("committed offset", kafka.Offset(end()-3), committed[0].Offset)
	_, err = admin.DeleteTopics(ctx, []string{topic})
	check.NoError("delete", err)
	check.NoError("close", probe.Close())
	check.Done("github.com/confluentinc/confluent-kafka-go/v2")
}
