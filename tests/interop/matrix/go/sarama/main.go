// Sarama: sarama ADDRESS TOPIC.
package main

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"

	"headwater.test/matrix/check"
)

var address, topic = check.Arguments()

func newConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	return config
}

func produce(producer sarama.SyncProducer, value string) {
	_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	check.NoError("produce "+value, err)
}

func newProducer(change func(*sarama.Config)) sarama.SyncProducer {
	config := newConfig()
	change(config)
	producer, err := sarama.NewSyncProducer([]string{address}, config)
	check.NoError("producer", err)
	return producer
}

// reader collects a number of records and commits them.
type reader struct {
	count int
	found []string
	stop  context.CancelFunc
}

func (r *reader) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (r *reader) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (r *reader) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		r.found = append(r.found, string(message.Value))
		session.MarkMessage(message, "")
		if len(r.found) == r.count {
			session.Commit()
			r.stop()
		}
	}
	return nil
}

func main() {
	admin, err := sarama.NewClusterAdmin([]string{address}, newConfig())
	check.NoError("admin", err)
	check.NoError("create", admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
	client, err := sarama.NewClient([]string{address}, newConfig())
	check.NoError("client", err)
	end := func() int64 {
		offset, err := client.GetOffset(topic, 0, sarama.OffsetNewest)
		check.NoError("latest offset", err)
		return offset
	}

	var expected []string
	for _, acks := range []struct {
		name string
		acks sarama.RequiredAcks
	}{{"1", sarama.WaitForLocal}, {"all", sarama.WaitForAll}, {"0", sarama.NoResponse}} {
		producer := newProducer(func(config *sarama.Config) { config.Producer.RequiredAcks = acks.acks })
		for n := 0; n < check.Rounds; n++ {
			value := fmt.Sprint(acks.name, " ", n)
			produce(producer, value)
			expected = append(expected, value)
			if acks.name != "0" {
				check.Equal("latest offset after acks="+acks.name, int64(len(expected)), end())
			}
		}
		check.NoError("close", producer.Close())
	}
	check.Eventually("what acks=0 sent is there", func() bool { return end() == int64(len(expected)) })

	producer := newProducer(func(config *sarama.Config) {
		config.Producer.Idempotent = true
		config.Producer.RequiredAcks = sarama.WaitForAll
		config.Producer.Transaction.ID = topic
		config.Net.MaxOpenRequests = 1
	})
	for n := 0; n < 4; n++ {
		value := fmt.Sprint("transaction ", n)
		check.NoError("begin", producer.BeginTxn())
		produce(producer, value)
		if n%2 == 0 {
			check.NoError("commit", producer.CommitTxn())
			expected = append(expected, value)
		} else {
			check.NoError("abort", producer.AbortTxn())
		}
	}
	check.NoError("close", producer.Close())

	group, err := sarama.NewConsumerGroup([]string{address}, topic, newConfig())
	check.NoError("group", err)
	ctx, cancel := context.WithTimeout(context.Background(), check.Timeout)
	handler := &reader{count: len(expected), stop: cancel}
	check.NoError("consume", group.Consume(ctx, []string{topic}, handler))
	check.Equal("records", expected, handler.found)
	check.NoError("leave", group.Close())
	offsets, err := admin.ListConsumerGroupOffsets(topic, map[string][]int32{topic: {0}})
	check.NoError("committed offsets", err)
	// The last record is the last but one transaction's: its marker, an aborted record and its marker come after it.
	check.Equal("committed offset", end()-3, offsets.GetBlock(topic, 0).Offset)
	check.NoError("delete", admin.DeleteTopic(topic))
	check.NoError("close", client.Close())
	check.NoError("close", admin.Close())
	check.Done("github.com/IBM/sarama")
}
