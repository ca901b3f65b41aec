package server

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/valyala/fasthttp"

	"tradestore/kafka"
	"tradestore/trade"
)

func TestAcceptedTradeIsTrackedAndInTheLog(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	const failedBefore = "019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a"
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	r := a.post(tradeJSON("T1", 3), "X-Correlation-ID: corr/1", "traceparent: "+parent, "Trade-Replay-Of: "+failedBefore)
	id := r.accepted(t)
	assert.JSONEq(t, `{"request_id":"`+id.String()+`","status":"PENDING","trade_id":"T1","version":3}`, r.body)
	assert.Equal(t, "application/json", r.header.Get("Content-Type"))
	assert.NotEmpty(t, r.header.Get("Retry-After"))
	assert.Equal(t, "corr/1", r.header.Get("X-Correlation-ID"))
	assert.Empty(t, r.header.Get("Server"))

	rec := a.records(1)[0]
	want := trade.Request{
		ID: id,
		Trade: trade.Trade{TradeID: "T1", Version: 3, CounterpartyID: "CP-1", BookID: "B1",
			MaturityDate: trade.DateOf(testNow), CreatedDate: trade.DateOf(testNow) - 1},
		AcceptedAt:    testNow.Truncate(time.Microsecond),
		BusinessDate:  trade.DateOf(testNow),
		Partition:     kafka.Partition("T1", testPartitions),
		CorrelationID: "corr/1",
		TraceParent:   parent,
	}
	want.ReplayOf, _ = trade.ParseRequestID(failedBefore)
	assert.Equal(t, want, rec.Request)
	assert.Equal(t, want, a.stores.opened[id], "what is tracked is what is in the log")

	state := a.get(requestsPath + id.String())
	assert.Equal(t, 200, state.status)
	assert.Equal(t, "PENDING", state.fields(t)["status"])
}

func TestACorrelationIDIsMadeAndNoTraceWhenAbsentOrUnfit(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	for i, headers := range [][]string{nil, {"X-Correlation-ID: two words", "traceparent: 00-0-0-00"}} {
		r := a.post(tradeJSON(fmt.Sprint("T", i), 1), headers...)
		id := r.accepted(t)
		a.stores.set(func() {
			req := a.stores.opened[id]
			assert.Len(t, req.CorrelationID, 36)
			assert.Equal(t, r.header.Get("X-Correlation-ID"), req.CorrelationID)
			assert.Empty(t, req.TraceParent)
		})
	}
}

func TestRefusedTradesCostNoStoreCall(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	good := tradeJSON("T1", 1)
	f := func(body, headers string, status int, code trade.Code) {
		t.Helper()
		a.send("POST", tradesPath, body, strings.Split(headers, "\n")...).problem(t, status, code)
	}
	f(`{}`, jsonType, 400, trade.InvalidTrade)
	f(`[]`, jsonType, 400, trade.MalformedJSON)
	f(`{"trade_id":`, jsonType, 400, trade.MalformedJSON)
	f(``, jsonType, 400, trade.MalformedJSON)
	f(strings.Replace(good, "2026-11-22", "2026-11-21", 1), jsonType, 400, trade.MaturityInPast)
	f(good, "Accept: */*", 415, UnsupportedMediaType)
	f(good, "Content-Type: text/json", 415, UnsupportedMediaType)
	f(good, "Content-Type: application/json; charset=latin1", 415, UnsupportedMediaType)
	f(good, "Content-Type: application/json; version=2", 415, UnsupportedMediaType)
	f(good, jsonType+"\n"+jsonType, 415, UnsupportedMediaType)
	f(good, jsonType+"\nContent-Encoding: gzip", 415, UnsupportedMediaType)
	f(good, jsonType+"\nContent-Encoding: identity", 415, UnsupportedMediaType)
	f(good, jsonType+"\nIdempotency-Key: two words", 400, InvalidIdempotencyKey)
	f(good, jsonType+"\nIdempotency-Key: a\nIdempotency-Key: a", 400, InvalidIdempotencyKey)
	f(`{}`, jsonType+"\nIdempotency-Key: a", 400, trade.InvalidTrade)
	f(good, jsonType+"\nTrade-Replay-Of: T1", 400, InvalidReplayOf)
	f(good, jsonType+strings.Repeat("\nTrade-Replay-Of: 019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a", 2), 400, InvalidReplayOf)
	f(good+strings.Repeat(" ", 16<<10), jsonType, 413, BodyTooLarge)
	a.send("POST", tradesPath+"?dry=1", good, jsonType).problem(t, 400, InvalidQuery)
	lookUps, opens := a.stores.calls()
	assert.Zero(t, lookUps)
	assert.Zero(t, opens)

	a.send("POST", tradesPath, good, `Content-Type: Application/JSON; charset="UTF-8"`).accepted(t)
	a.post(good + strings.Repeat(" ", 16<<10-len(good))).accepted(t)
}

func TestRefusalListsTheFields(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	m := a.post(`{"trade_id":"=1","version":0,"Colour":"<b>\u0007"}`).problem(t, 400, trade.InvalidTrade)
	fields := map[string]string{}
	for _, e := range m["errors"].([]any) {
		v := e.(map[string]any)
		fields[v["field"].(string)] = v["code"].(string)
		assert.NotEmpty(t, v["detail"])
	}
	assert.Equal(t, string(trade.FieldFormat), fields["trade_id"])
	assert.Equal(t, string(trade.FieldRange), fields["version"])
	assert.Equal(t, string(trade.FieldUnknown), fields["Colour"])
	assert.Equal(t, string(trade.FieldRequired), fields["book_id"])
	assert.NotContains(t, m, "request_id")
}

func TestLowerVersionIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() { a.stores.stored = []trade.Trade{{TradeID: "T1", Version: 4}, {TradeID: "T1", Version: 5}} })
	m := a.post(tradeJSON("T1", 4)).problem(t, 400, trade.StaleVersion)
	assert.Contains(t, m["detail"], "version 5")
	assert.Equal(t, "version", m["errors"].([]any)[0].(map[string]any)["field"])
	_, opens := a.stores.calls()
	assert.Zero(t, opens, "a refused trade is not tracked")
	a.post(tradeJSON("T1", 5)).accepted(t)
	a.post(tradeJSON("T1", 6)).accepted(t)
	a.post(tradeJSON("T2", 1)).accepted(t)
	a.records(3)
}

// Each step of the accept path fails, fails although it took effect, or is slow.
func TestFaultsOfTheAcceptPath(t *testing.T) {
	notOpened := fmt.Errorf("%w: %w", trade.ErrNotOpened, errDown)
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	slowOpen := func(ctx context.Context, batch []*trade.Request) []error { return all(wait(ctx))(ctx, batch) }
	short := func(cfg *Config, _ *Deps) {
		cfg.AcceptDeadline, cfg.OpenTimeout = 150*time.Millisecond, 100*time.Millisecond
		cfg.LookupTimeout = 50 * time.Millisecond
	}
	quick := func(cfg *Config, _ *Deps) { cfg.LookupTimeout = 50 * time.Millisecond }

	f := func(name string, change func(*Config, *Deps), fault func(*api), check func(*testing.T, reply), records int) {
		t.Run(name, func(t *testing.T) {
			a := start(t, change)
			a.stores.set(func() { fault(a) })
			check(t, a.post(tradeJSON("T1", 1)))
			close(a.answered)
			assert.NotContains(t, a.log.String(), "CP-1", "no payload in the log")
			a.stores.set(func() { a.stores.onOpen, a.stores.onLookUp = nil, nil })
			a.records(records)
		})
	}
	taken := func(t *testing.T, r reply) { r.accepted(t) }
	noEffect := func(code trade.Code) func(*testing.T, reply) {
		return func(t *testing.T, r reply) { r.noEffect(t, code) }
	}
	unknown := func(t *testing.T, r reply) { r.unknown(t) }

	downLookUp := func(context.Context) error { return errDown }
	f("look-up fails", quick, func(a *api) { a.stores.onLookUp = downLookUp }, taken, 1)
	f("look-up is slow", quick, func(a *api) { a.stores.onLookUp = wait }, taken, 1)
	f("open fails", nil, func(a *api) { a.stores.onOpen = all(notOpened) }, noEffect(RequestStoreUnavailable), 0)
	f("open fails, may be persisted", nil, func(a *api) { a.stores.onOpen = all(errDown) }, unknown, 0)
	tooFew := func(context.Context, []*trade.Request) []error { return []error{} }
	f("open gives too few results", nil, func(a *api) { a.stores.onOpen = tooFew }, unknown, 0)
	f("open is slow", short, func(a *api) { a.stores.onOpen = slowOpen }, unknown, 0)
	f("produce fails", nil, func(a *api) { failProduce(a, kerr.MessageTooLarge) }, unknown, 0)
	f("produce fails once, is repeated", nil, func(a *api) { failProduceOnce(a, kerr.NotLeaderForPartition) }, taken, 1)
	f("produce is slow", short, func(a *api) { holdProduce(a) }, unknown, 1)
}

func failProduce(a *api, code *kerr.Error) {
	a.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		a.cluster.KeepControl()
		return produceAnswer(req, code), nil, true
	})
}

func failProduceOnce(a *api, code *kerr.Error) {
	a.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		return produceAnswer(req, code), nil, true
	})
}

// holdProduce keeps the first produce request until the client was answered; it is written all the same.
func holdProduce(a *api) {
	a.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		a.cluster.DropControl()
		a.cluster.SleepControl(func() { <-a.answered })
		return nil, nil, false
	})
}

func produceAnswer(kreq kmsg.Request, code *kerr.Error) kmsg.Response {
	req := kreq.(*kmsg.ProduceRequest)
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, topic := range req.Topics {
		out := kmsg.NewProduceResponseTopic()
		out.Topic, out.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			part := kmsg.NewProduceResponseTopicPartition()
			part.Partition, part.ErrorCode = p.Partition, code.Code
			out.Partitions = append(out.Partitions, part)
		}
		resp.Topics = append(resp.Topics, out)
	}
	return resp
}

func TestEachRequestOfABatchHasItsOwnAnswer(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.Flushes = 1 })
	barrier := newBarrier()
	a.stores.set(func() {
		a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil }
		a.stores.onOpen = func(_ context.Context, batch []*trade.Request) []error {
			errs := make([]error, len(batch))
			for i, r := range batch {
				errs[i] = map[string]error{"T1": nil, "T2": trade.ErrNotOpened, "T3": errDown}[r.Trade.TradeID]
			}
			return errs
		}
	})
	var posts sync.WaitGroup
	answers := map[string]func(testing.TB, reply){
		"T0": func(t testing.TB, r reply) { r.accepted(t) }, // holds the only flush until the others have gathered
		"T1": func(t testing.TB, r reply) { r.accepted(t) },
		"T2": func(t testing.TB, r reply) { r.noEffect(t, RequestStoreUnavailable) },
		"T3": func(t testing.TB, r reply) { r.unknown(t) },
	}
	posts.Go(func() { answers["T0"](t, a.post(tradeJSON("T0", 1))) })
	barrier.reached(t)
	for _, id := range []string{"T1", "T2", "T3"} {
		posts.Go(func() { answers[id](t, a.post(tradeJSON(id, 1))) })
	}
	eventually(t, func() bool { return a.srv.queue.snapshot().waiting == 3 })
	barrier.open()
	posts.Wait()
	assert.Equal(t, 3, a.stores.largest, "what gathered went as one batch")
	a.records(2)
}

// While records are under way, what arrives gathers for the next flush: the slower the brokers, the larger the batches.
// But nobody waits for ever behind a broker that does not answer.
func TestAFlushWaitsForItsAcknowledgements(t *testing.T) {
	const posts = 8
	f := func(wait time.Duration, largest int) {
		t.Helper()
		a := start(t, func(cfg *Config, _ *Deps) { cfg.Flushes = 1 })
		a.srv.flusher.ackWait = wait
		barrier := newBarrier()
		a.cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
			a.cluster.KeepControl()
			barrier.pass()
			return nil, nil, false
		})
		var under sync.WaitGroup
		under.Go(func() { a.post(tradeJSON("T0", 1)).accepted(t) })
		barrier.reached(t)
		for i := range posts {
			under.Go(func() { a.post(tradeJSON(fmt.Sprintf("T%d", i+1), 1)).accepted(t) })
			if wait == 0 { // the flush does not wait, so each of them is opened before the broker has answered
				eventually(t, func() bool { _, opens := a.stores.calls(); return opens == i+2 })
			}
		}
		eventually(t, func() bool { return a.srv.queue.snapshot().items == posts+1 })
		barrier.open()
		under.Wait()
		assert.Equal(t, largest, a.stores.largest)
		a.records(posts + 1)
	}
	f(time.Hour, posts)
	f(0, 1)
}

func TestDeadlineInTheQueueHasNoEffect(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.Flushes, cfg.AcceptDeadline, cfg.OpenTimeout = 1, 100*time.Millisecond, 100*time.Millisecond
	})
	barrier := newBarrier()
	a.stores.set(func() { a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil } })
	a.post(tradeJSON("T1", 1)).noEffect(t, DeadlineExceeded) // its look-up hangs
	barrier.open()
	eventually(t, func() bool { return a.srv.queue.snapshot().items == 0 })
	_, opens := a.stores.calls()
	assert.Zero(t, opens, "a request whose client was sent away is not opened")
	a.records(0)
}

// A client that was told "unknown" may send something newer; the old record must not come after it.
func TestNothingIsProducedAfterTheClientWasAnswered(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.AcceptDeadline, cfg.OpenTimeout = time.Second, time.Second
	})
	barrier := newBarrier()
	a.stores.set(func() {
		a.stores.onOpen = func(context.Context, []*trade.Request) []error { barrier.pass(); return nil }
	})
	old := a.post(tradeJSON("T1", 1)).unknown(t)
	a.stores.set(func() { a.stores.onOpen = nil })
	replies := make(chan reply)
	go func() { replies <- a.post(tradeJSON("T1", 1)) }()
	eventually(t, func() bool { return a.srv.queue.snapshot().waiting == 1 })
	barrier.open()
	newer := (<-replies).accepted(t)
	eventually(t, func() bool { return a.srv.queue.snapshot().items == 0 })
	rec := a.records(1)
	assert.Equal(t, newer, rec[0].ID)
	assert.NotEqual(t, old, rec[0].ID)
	counted(t, 1, a.srv.m.unknown[stageDeadline])
}

// A server that was frozen between the acknowledgement and the answer must not say yes.
func TestAcknowledgementAfterTheDeadlineIsUnknown(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	c := a.srv.newCall(&fasthttp.RequestCtx{})
	c.start = time.Now().Add(-a.srv.cfg.AcceptDeadline)
	a.srv.conclude(c, &pendingPost{req: trade.Request{ID: trade.NewRequestID(testNow)}}, answer{})
	assert.Equal(t, 503, c.ctx.Response.StatusCode())
	assert.Contains(t, string(c.ctx.Response.Body()), DeliveryUnknown)
}

func TestBrokerDownIsAnHonest503(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.AcceptDeadline, cfg.OpenTimeout = 200*time.Millisecond, 200*time.Millisecond
	})
	a.cluster.Close()
	id := a.post(tradeJSON("T1", 1)).unknown(t)
	assert.Equal(t, 200, a.get(requestsPath+id.String()).status, "the id can be polled")
}

func TestPanicInAFlushIsA500AndTheNextTradeIsTaken(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() { a.stores.onOpen = func(context.Context, []*trade.Request) []error { panic("bug") } })
	a.post(tradeJSON("T1", 1)).problem(t, 500, Internal)
	a.stores.set(func() { a.stores.onOpen = nil })
	a.post(tradeJSON("T2", 1)).accepted(t)
	counted(t, 1, a.srv.m.panics)
	eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} })
}

// Bytes of one request must never show up in the record of another: 10,000 records equal what was sent.
func TestRecordsEqualWhatWasSent(t *testing.T) {
	const clients, each = 32, 10_000 / 32
	a := start(t, nil)
	var mu sync.Mutex
	sent := make(map[trade.RequestID]trade.Trade, clients*each)
	var posts sync.WaitGroup
	for client := range clients {
		posts.Go(func() {
			for i := range each {
				want := trade.Trade{
					TradeID: fmt.Sprintf("T-%d-%d", client, i%7), Version: int32(i + 1),
					CounterpartyID: strings.Repeat(string(rune('a'+client%26)), 1+i%64), BookID: fmt.Sprintf("B.%d.%d", i, client),
					MaturityDate: trade.DateOf(testNow) + trade.Date(i), CreatedDate: trade.DateOf(testNow) - trade.Date(client),
				}
				r := a.post(string(trade.AppendJSON(nil, &want)), fmt.Sprintf("X-Correlation-ID: c-%d-%d", client, i))
				id := r.accepted(t)
				mu.Lock()
				sent[id] = want
				mu.Unlock()
			}
		})
	}
	posts.Wait()
	last := map[string]int32{}
	for _, rec := range a.records(clients * each) {
		require.Equal(t, sent[rec.ID], rec.Trade)
		require.Equal(t, a.stores.opened[rec.ID], rec.Request)
		require.Lessf(t, last[rec.Trade.TradeID], rec.Trade.Version, "a client's order is kept")
		last[rec.Trade.TradeID] = rec.Trade.Version
	}
	assert.Greater(t, a.stores.largest, 1, "requests share batches")
}

func TestNewListsMistakes(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Partitions: -1, OpenTimeout: time.Hour, DrainDelay: -1, QueueBytes: 1}, Deps{})
	for _, want := range []string{"topic", "partitions", "open-timeout", "drain-delay", "queue-bytes"} {
		assert.ErrorContains(t, err, want)
	}
	good := DefaultConfig()
	good.Topic, good.Partitions, good.AcceptDeadline = testTopic, 1, time.Second
	_, err = New(good, Deps{})
	assert.ErrorContains(t, err, "required")
	reg := prometheus.NewRegistry()
	client, err := kgo.NewClient()
	require.NoError(t, err)
	defer client.Close()
	stores := newFake(t)
	deps := Deps{Verified: verified, Requests: stores, Keys: stores, LookUp: stores, Trades: stores,
		Past: stores, Journal: stores, Kafka: client,
		Registry: reg, Log: zerolog.Nop()}
	_, err = New(good, deps)
	require.NoError(t, err)
	_, err = New(good, deps)
	assert.ErrorContains(t, err, "metrics")
}

// barrier holds whoever passes until it is opened.
type barrier struct{ at, opened chan struct{} }

func newBarrier() *barrier { return &barrier{make(chan struct{}, 1024), make(chan struct{})} }

func (b *barrier) pass() { b.at <- struct{}{}; <-b.opened }

func (b *barrier) open() { close(b.opened) }

// reached waits until somebody stands at the barrier.
func (b *barrier) reached(t testing.TB) {
	t.Helper()
	select {
	case <-b.at:
	case <-time.After(giveUpAfter):
		t.Fatal("nobody came to the barrier")
	}
}
