// franz-go: franz ADDRESS TOPIC.
package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"headwater.test/matrix/check"
)

var address, topic = check.Arguments()

func newClient(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(address))...)
	check.NoError("client", err)
	return client
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 3*check.Timeout)
	defer cancel()
	admin := kadm.NewClient(newClient())
	created, err := admin.CreateTopics(ctx, 1, 1, nil, topic)
	check.NoError("create", err)
	check.NoError("create the topic", created[topic].Err)
	end := func() int64 {
		offsets, err := admin.ListEndOffsets(ctx, topic)
		check.NoError("list offsets", err)
		offset, _ := offsets.Lookup(topic, 0)
		check.NoError("latest offset", offset.Err)
		return offset.Offset
	}

	var expected []string
	produce := func(client *kgo.Client, value string) {
		record := &kgo.Record{Topic: topic, Value: []byte(value)}
		check.NoError("produce "+value, client.ProduceSync(ctx, record).FirstErr())
	}
	for _, acks := range []struct {
		name string
		acks kgo.Acks
	}{{"1", kgo.LeaderAck()}, {"all", kgo.AllISRAcks()}, {"0", kgo.NoAck()}} {
		client := newClient(kgo.RequiredAcks(acks.acks), kgo.DisableIdempotentWrite())
		for n := 0; n < check.Rounds; n++ {
			value := fmt.Sprint(acks.name, " ", n)
			produce(client, value)
			expected = append(expected, value)
			if acks.name != "0" {
				check.Equal("latest offset after acks="+acks.name, int64(len(expected)), end())
			}
		}
		client.Close()
	}
	check.Eventually("what acks=0 sent is there", func() bool { return end() == int64(len(expected)) })
	client := newClient() // idempotent, as by default
	produce(client, "idempotent")
	expected = append(expected, "idempotent")
	client.Close()

	client = newClient(kgo.TransactionalID(topic))
	for n := 0; n < 4; n++ {
		value := fmt.Sprint("transaction ", n)
		check.NoError("begin", client.BeginTransaction())
		produce(client, value)
		check.NoError("end", client.EndTransaction(ctx, kgo.TransactionEndTry(n%2 == 0)))
		if n%2 == 0 {
			expected = append(expected, value)
		}
	}
	client.Close()

	reader := newClient(kgo.ConsumerGroup(topic), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	var found []string
	for len(found) < len(expected) {
		fetches := reader.PollFetches(ctx)
		check.NoError("fetch", fetches.Err())
		fetches.EachRecord(func(record *kgo.Record) { found = append(found, string(record.Value)) })
	}
	check.Equal("records", expected, found)
	check.NoError("commit", reader.CommitUncommittedOffsets(ctx))
	reader.Close()
	offsets, err := admin.FetchOffsets(ctx, topic)
	check.NoError("committed offsets", err)
	committed, _ := offsets.Lookup(topic, 0)
	// The last record is the last but one transaction's: its marker, an aborted record and its marker come after it.
	check.Equal("committed offset", end()-3, committed.At)
	_, err = admin.DeleteTopics(ctx, topic)
	check.NoError("delete", err)
	check.Done("github.com/twmb/franz-go")
}
