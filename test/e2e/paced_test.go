package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/test/stack/services"
)

// rateVar sets the trades a second that are posted with the request store on DynamoDB Local, which is an emulator and
// not made for load.
const rateVar = "TRADESTORE_E2E_DYNAMODB_RATE"

// A thousand trades a second, posted whether the servers keep up or not: who is turned away is told so, and every 202
// holds. A long run, which should have the machine to itself, says what was attained; a short one posts fewer, as it
// shares the machine with other tests.
func TestAThousandASecond(t *testing.T) {
	if !stack.Long {
		t.Parallel()
	}
	const rate = 1000
	t.Run(onReal, func(t *testing.T) { testPaced(t, newRoles(t, pacedStores(t), 2, 2), scale(300, rate)) })
	t.Run(onDynamoDB, func(t *testing.T) {
		slower := scale(200, rate)
		if given := os.Getenv(rateVar); given != "" {
			var err error
			slower, err = strconv.Atoi(given)
			require.NoError(t, err, rateVar)
		}
		stores := pacedStores(t)
		stores.dynamoDB = pacedDynamoDB(t)
		testPaced(t, newRoles(t, stores, 2, 2), slower)
	})
}

// pacedStores are the real ones; a long run has a broker that gets as fast as it can.
func pacedStores(t *testing.T) stores {
	t.Helper()
	if !stack.Long {
		return realStores(t)
	}
	broker := stack.ApacheKafka(t, func(cfg *services.KafkaConfig) { cfg.FullSpeed, cfg.HeapMiB = true, 1024 })
	return stores{kafka: broker.Addrs(), database: stack.Database(t), env: handOver}
}

// pacedDynamoDB holds its tables in memory: the emulator is not what is measured.
func pacedDynamoDB(t *testing.T) (endpoint string) {
	t.Helper()
	if !stack.Long {
		return stack.DynamoDB(t)
	}
	return stack.OwnDynamoDB(t,
		func(cfg *services.DynamoDBConfig) { cfg.InMemory, cfg.FullSpeed, cfg.HeapMiB = true, true, 2048 }).Endpoint()
}

func testPaced(t *testing.T, s *deployment, rate int) {
	t.Helper()
	if !stack.Long { // a connection that waits for the processor is not a slow client: 408 or a cut before the answer
		s.env = append(append(s.env, unhurried...), "TRADESTORE_READ_TIMEOUT=20s")
	}
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	posts := rate * scale(5, 60)
	took := s.pace(t.Context(), t, rate, posts)
	ended := time.Now()
	require.True(t, poll(t, pacedLimit, func() bool { return Drained(t.Context(), s.Endpoints) == nil }),
		"the log is not worked through")
	drained := time.Since(ended)
	s.check(t)
	s.answered(t, http.StatusAccepted, http.StatusBadRequest, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	answers := s.ledger.Count()
	require.NotZero(t, answers[http.StatusAccepted], "%v", answers)
	t.Logf("%d posts at %d/s in %.1f s: %.0f/s accepted, answers %v; drained %.1f s after the last answer",
		posts, rate, took.Seconds(), float64(answers[http.StatusAccepted])/took.Seconds(), answers, drained.Seconds())
	s.stop(t)
}

// pacedLimit is longer than an emulator needs to project what a long run left over.
const pacedLimit = 10 * time.Minute

// pace posts trades at a rate a second, each when it is due and by a client of its own: an answer that is late holds up
// none of those after it. Most trades have a few versions, in turn. It ends after that many posts or when ctx ends, and
// returns the time from the first post to the last answer.
func (s *deployment) pace(ctx context.Context, t *testing.T, rate, posts int) (took time.Duration) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	var under sync.WaitGroup
	for sent := 0; sent < posts && ctx.Err() == nil; <-tick.C {
		for due := min(posts, int(time.Since(began).Seconds()*float64(rate))); sent < due; sent++ {
			tr := s.ledger.newTrade(fmt.Sprintf("PACED-%06d", sent/4), int32(sent%4)+1)
			under.Go(func() { s.client.Submit(t.Context(), tr) })
		}
	}
	under.Wait()
	return time.Since(began)
}
