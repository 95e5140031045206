// franz-go as other people run it: a producer at a steady rate, or a consumer of a group, which tell
// each acknowledgement and each record in the words of Kafka's VerifiableProducer and
// VerifiableConsumer. SIGTERM ends them in order.
//
//	produce BOOTSTRAP TOPIC PREFIX RATE
//	consume BOOTSTRAP TOPIC GROUP
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type event struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	Offset  int64  `json:"offset"`
	Message string `json:"message,omitempty"`
}

var (
	lock   sync.Mutex
	output = bufio.NewWriter(os.Stdout)
)

func tell(told event) {
	line, err := json.Marshal(told)
	if err != nil {
		panic(err)
	}
	lock.Lock()
	defer lock.Unlock()
	output.Write(append(line, '\n'))
	output.Flush()
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if len(os.Args) < 5 {
		fmt.Fprintln(os.Stderr, "produce BOOTSTRAP TOPIC PREFIX RATE, or consume BOOTSTRAP TOPIC GROUP")
		os.Exit(2)
	}
	seeds := kgo.SeedBrokers(strings.Split(os.Args[2], ",")...)
	topic := os.Args[3]
	switch os.Args[1] {
	case "produce":
		rate, err := strconv.Atoi(os.Args[5])
		if err != nil {
			panic(err)
		}
		produce(ctx, seeds, topic, os.Args[4], rate)
	case "consume":
		consume(ctx, seeds, topic, os.Args[4])
	default:
		os.Exit(2)
	}
}

func produce(ctx context.Context, seeds kgo.Opt, topic, prefix string, rate int) {
	client, err := kgo.NewClient(seeds, kgo.DefaultProduceTopic(topic))
	if err != nil {
		panic(err)
	}
	began := time.Now()
	for number := 0; ctx.Err() == nil; number++ {
		time.Sleep(time.Until(began.Add(time.Duration(number) * time.Second / time.Duration(rate))))
		value := fmt.Sprintf("%s.%d", prefix, number)
		// Not the signal's context: what was handed over is delivered.
		client.Produce(context.Background(), kgo.StringRecord(value), func(record *kgo.Record, err error) {
			if err != nil {
				tell(event{Name: "producer_send_error", Value: string(record.Value), Message: err.Error()})
				return
			}
			tell(event{Name: "producer_send_success", Value: string(record.Value), Offset: record.Offset})
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		panic(err)
	}
	client.Close()
}

func consume(ctx context.Context, seeds kgo.Opt, topic, group string) {
	client, err := kgo.NewClient(seeds, kgo.ConsumeTopics(topic), kgo.ConsumerGroup(group))
	if err != nil {
		panic(err)
	}
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			if ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "%s-%d: %v\n", topic, partition, err)
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			tell(event{Name: "record_data", Value: string(record.Value), Offset: record.Offset})
		})
	}
	client.Close()
}
