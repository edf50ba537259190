// kafka-go, which has neither idempotence nor transactions: segmentio ADDRESS TOPIC.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"headwater.test/matrix/check"
)

func main() {
	address, topic := check.Arguments()
	ctx, cancel := context.WithTimeout(context.Background(), 3*check.Timeout)
	defer cancel()
	client := &kafka.Client{Addr: kafka.TCP(address), Timeout: check.Timeout}
	created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}},
	})
	check.NoError("create", err)
	check.NoError("create the topic", created.Errors[topic])
	end := func() int64 {
		offsets, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
			Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(0)}},
		})
		check.NoError("list offsets", err)
		check.NoError("latest offset", offsets.Topics[topic][0].Error)
		return offsets.Topics[topic][0].LastOffset
	}
	check.Eventually("the topic is known", func() bool {
		metadata, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
		check.NoError("metadata", err)
		return metadata.Topics[0].Error == nil
	})

	var expected []string
	for _, acks := range []kafka.RequiredAcks{kafka.RequireOne, kafka.RequireAll, kafka.RequireNone} {
		writer := &kafka.Writer{Addr: kafka.TCP(address), Topic: topic, RequiredAcks: acks, BatchSize: 1}
		for n := 0; n < check.Rounds; n++ {
			value := fmt.Sprint(acks, " ", n)
			check.NoError("produce "+value, writer.WriteMessages(ctx, kafka.Message{Value: []byte(value)}))
			expected = append(expected, value)
			if acks != kafka.RequireNone {
				check.Equal("latest offset after acks="+acks.String(), int64(len(expected)), end())
			}
		}
		check.NoError("close", writer.Close())
	}
	check.Eventually("what acks=0 sent is there", func() bool { return end() == int64(len(expected)) })

	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{address}, GroupID: topic, Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 50 * time.Millisecond,
	})
	for _, value := range expected {
		message, err := reader.FetchMessage(ctx)
		check.NoError("fetch", err)
		check.Equal("record", value, string(message.Value))
		check.NoError("commit", reader.CommitMessages(ctx, message))
	}
	check.NoError("leave", reader.Close())
	offsets, err := client.OffsetFetch(ctx, &kafka.OffsetFetchRequest{GroupID: topic, Topics: map[string][]int{topic: {0}}})
	check.NoError("committed offsets", err)
	check.Equal("committed offset", int64(len(expected)), offsets.Topics[topic][0].CommittedOffset)
	deleted, err := client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	check.NoError("delete", err)
	check.NoError("delete the topic", deleted.Errors[topic])
	check.Done("github.com/segmentio/kafka-go")
}
