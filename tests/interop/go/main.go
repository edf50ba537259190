// A franz-go client: creates records with every compression, reads them back as a group of two members.
// With two more arguments, a delegation token and its password, it logs in with these.
package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

func check(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func main() {
	seeds, topic := os.Args[1], os.Args[2]
	login := []kgo.Opt{kgo.SeedBrokers(seeds)}
	if len(os.Args) > 3 {
		token := scram.Auth{User: os.Args[3], Pass: os.Args[4], IsToken: true}
		login = append(login, kgo.SASL(token.AsSha512Mechanism()))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	const each = 2000
	for i, codec := range codecs {
		client, err := kgo.NewClient(append(login, kgo.ProducerBatchCompression(codec), kgo.AllowAutoTopicCreation())...)
		check(err)
		for n := 0; n < each; n++ {
			value := fmt.Sprintf("%d-%d", i, n)
			record := &kgo.Record{Topic: topic, Key: []byte(value), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "codec", Value: []byte{byte(i)}}}}
			client.Produce(ctx, record, func(_ *kgo.Record, err error) { check(err) })
		}
		check(client.Flush(ctx))
		client.Close()
	}
	var mu sync.Mutex
	seen := map[string]int{}
	done := make(chan struct{})
	var members sync.WaitGroup
	for m := 0; m < 2; m++ {
		client, err := kgo.NewClient(append(login, kgo.ConsumerGroup("franz"), kgo.ConsumeTopics(topic),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
		check(err)
		members.Add(1)
		go func() {
			defer members.Done()
			defer client.Close()
			for {
				select {
				case <-done:
					check(client.CommitUncommittedOffsets(ctx))
					return
				default:
				}
				poll, stop := context.WithTimeout(ctx, 200*time.Millisecond)
				fetches := client.PollFetches(poll)
				stop()
				mu.Lock()
				fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
				if len(seen) == each*len(codecs) {
					select {
					case <-done:
					default:
						close(done)
					}
				}
				mu.Unlock()
			}
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
		fmt.Println("failed: only", len(seen), "records came")
		os.Exit(1)
	}
	members.Wait()
	fmt.Println("ok", len(seen))
}
