package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/valyala/fasthttp"

	"tradestore/kafka"
	"tradestore/trade"
)

const ndjsonType = "Content-Type: application/x-ndjson"

// bulk posts trades as an array.
func (a *api) bulk(trades []string, headers ...string) reply {
	return a.send("POST", bulkPath, "["+strings.Join(trades, ",")+"]", append(headers, jsonType)...)
}

// entry is one of the items of a 207.
type entry struct {
	t      testing.TB
	fields map[string]any
}

// items demands a 207 with n entries, in the order of the request.
func (r reply) items(t testing.TB, n int) []entry {
	t.Helper()
	m := r.fields(t)
	require.Equalf(t, 207, r.status, "%s", r.body)
	require.Equal(t, mediaJSON, r.header.Get("Content-Type"))
	require.Len(t, m["items"], n)
	entries := make([]entry, n)
	for i, item := range m["items"].([]any) {
		entries[i] = entry{t, item.(map[string]any)}
		require.InDelta(t, i, entries[i].fields["index"], 0)
	}
	return entries
}

func (e entry) accepted() trade.RequestID {
	e.t.Helper()
	require.InDelta(e.t, 202, e.fields["status"], 0, "%v", e.fields)
	require.NotContains(e.t, e.fields, "problem")
	id, err := trade.ParseRequestID(e.fields["request_id"].(string))
	require.NoError(e.t, err)
	require.Equal(e.t, requestsPath+id.String(), e.fields["location"])
	return id
}

// problem demands a problem like that of a single post.
func (e entry) problem(status int, code trade.Code) map[string]any {
	e.t.Helper()
	require.InDelta(e.t, status, e.fields["status"], 0, "%v", e.fields)
	require.NotContains(e.t, e.fields, "request_id", "it belongs to the problem")
	p := e.fields["problem"].(map[string]any)
	require.Equal(e.t, string(code), p["code"], "%v", p)
	require.InDelta(e.t, status, p["status"], 0)
	require.Equal(e.t, problemPrefix+string(code), p["type"])
	require.NotEmpty(e.t, p["detail"])
	require.Equal(e.t, status == 503 || status == 409, e.fields["retry_after"] != nil)
	return p
}

func (e entry) noEffect(code trade.Code) {
	e.t.Helper()
	require.NotContains(e.t, e.problem(503, code), "request_id")
}

func (e entry) unknown() trade.RequestID {
	e.t.Helper()
	id, err := trade.ParseRequestID(e.problem(503, DeliveryUnknown)["request_id"].(string))
	require.NoError(e.t, err)
	return id
}

func TestBulkAnswersEachTradeByItself(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	a.stores.set(func() { a.stores.stored = []trade.Trade{{TradeID: "OLD", Version: 5}} })
	matured := strings.Replace(tradeJSON("T5", 1), "2026-11-22", "2026-11-21", 1)
	trades := []string{tradeJSON("T0", 1), `{}`, tradeJSON("T2", 1), tradeJSON("OLD", 4), `{"a":{}}`, matured, `7`,
		"\"\xff\"", tradeJSON("T0", 2)}
	f := func(r reply) {
		t.Helper()
		items := r.items(t, len(trades))
		first := items[0].accepted()
		assert.Len(t, items[1].problem(400, trade.InvalidTrade)["errors"], 6)
		items[2].accepted()
		assert.Contains(t, items[3].problem(400, trade.StaleVersion)["detail"], "version 5")
		items[4].problem(400, trade.MalformedJSON)
		items[5].problem(400, trade.MaturityInPast)
		items[6].problem(400, trade.MalformedJSON)
		items[7].problem(400, trade.MalformedJSON)
		assert.NotEqual(t, first, items[8].accepted())
		assert.Equal(t, "c-1", r.header.Get("X-Correlation-ID"))
		assert.Equal(t, "no-store", r.header.Get("Cache-Control"))
		assert.NotEmpty(t, r.header.Get("Retry-After"))
		assert.Equal(t, 200, a.get(requestsPath+first.String()).status)
	}
	f(a.bulk(trades, "X-Correlation-ID: c-1"))
	lines := strings.Join(trades, "\r\n\n  \n") + "\n"
	f(a.send("POST", bulkPath, lines, ndjsonType+"; charset=utf-8", "X-Correlation-ID: c-1"))
	for _, rec := range a.records(6) {
		assert.Equal(t, a.stores.opened[rec.ID], rec.Request)
		assert.Equal(t, "c-1", rec.CorrelationID)
	}
	counted(t, 6, a.srv.m.bulkItems[bulkAccepted])
	counted(t, 12, a.srv.m.bulkItems[bulkRefused])
	counted(t, 2, a.srv.m.requests.WithLabelValues(bulkPath, "POST", "207"))
	eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} && a.srv.bodies.reserved() == 0 })
}

func TestBulkIsRefusedAsAWholeWithoutAStoreCall(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.BulkItems, cfg.BulkBytes = 3, 4096 })
	good := tradeJSON("T1", 1)
	f := func(body, headers string, status int, code trade.Code) {
		t.Helper()
		a.send("POST", bulkPath, body, strings.Split(headers, "\n")...).problem(t, status, code)
	}
	f("["+good+"]", "Accept: */*", 415, UnsupportedMediaType)
	f("["+good+"]", "Content-Type: text/csv", 415, UnsupportedMediaType)
	f(good, ndjsonType+"; charset=latin1", 415, UnsupportedMediaType)
	f(good, ndjsonType+"\n"+ndjsonType, 415, UnsupportedMediaType)
	f(good, ndjsonType+"\nContent-Encoding: gzip", 415, UnsupportedMediaType)
	f("["+good+"]", jsonType+"\nIdempotency-Key: two words", 400, InvalidIdempotencyKey)
	f("["+good+"]", jsonType+"\nIdempotency-Key: "+strings.Repeat("k", 254), 400, InvalidIdempotencyKey)
	f(``, jsonType, 400, MalformedBatch)
	f(good, jsonType, 400, MalformedBatch)
	f(`"[]"`, jsonType, 400, MalformedBatch)
	f("["+good, jsonType, 400, MalformedBatch)
	f("["+good+",]", jsonType, 400, MalformedBatch)
	f("["+good+good+"]", jsonType, 400, MalformedBatch)
	f("["+good+"][]", jsonType, 400, MalformedBatch)
	f("["+good+",{\"a\":1]", jsonType, 400, MalformedBatch)
	f("\ufeff["+good+"]", jsonType, 400, MalformedBatch)
	f(strings.Repeat("[", 4000), jsonType, 400, MalformedBatch)
	f(` [ ] `, jsonType, 400, EmptyBatch)
	f(``, ndjsonType, 400, EmptyBatch)
	f("\n \r\n", ndjsonType, 400, EmptyBatch)
	f("["+strings.Repeat("1,", 3)+"1]", jsonType, 413, TooManyItems)
	r := a.send("POST", bulkPath, "[1,2,3,4]", jsonType)
	assert.Equal(t, "at most 3 trades in one request", r.problem(t, 413, TooManyItems)["detail"])
	f(strings.Repeat("1\n", 4), ndjsonType, 413, TooManyItems)
	f("["+good+"]"+strings.Repeat(" ", 4096), jsonType, 413, BodyTooLarge)
	a.send("POST", bulkPath+"?dry=1", "["+good+"]", jsonType).problem(t, 400, InvalidQuery)
	a.send("GET", bulkPath, "").problem(t, 405, MethodNotAllowed)
	lookUps, opens := a.stores.calls()
	assert.Zero(t, lookUps)
	assert.Zero(t, opens)

	a.bulk([]string{good, good, good}, "Idempotency-Key: "+strings.Repeat("k", 253)).items(t, 3)
	a.send("POST", bulkPath, "["+good+"]"+strings.Repeat(" ", 4096-len(good)-2), jsonType).items(t, 1)[0].accepted()
}

// Its route alone takes more than a single trade may have, with and without a length; a single trade may be no larger
// in it.
func TestBulkBodies(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxBodyBytes, cfg.BulkBytes = 1<<10, 64<<10 })
	good := tradeJSON("T1", 1)
	array := func(size int) string { return "[" + good + strings.Repeat(" ", size-len(good)-2) + "]" }
	f := func(size, status int) {
		t.Helper()
		body := array(size)
		chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", size, body)
		post := "POST " + bulkPath + " HTTP/1.1\n" + jsonType
		for _, message := range []string{
			message(fmt.Sprintf("%s\nContent-Length: %d", post, size), body),
			message(post+"\nTransfer-Encoding: chunked", chunk),
			message(fmt.Sprintf("%s\nExpect: 100-continue\nContent-Length: %d", post, size), body),
		} {
			r, closed := a.raw(message)
			if status == 207 {
				r.items(t, 1)[0].accepted()
			} else {
				assert.Equal(t, "the body is larger than 65536 bytes", r.problem(t, status, BodyTooLarge)["detail"])
			}
			assert.Equal(t, status != 207, closed)
		}
		eventually(t, func() bool { return a.srv.bodies.reserved() == 0 })
	}
	f(64<<10-1, 207)
	f(64<<10, 207)
	f(64<<10+1, 413)
	f(1<<20, 413)
	a.post(good + strings.Repeat(" ", 1<<10-len(good))).accepted(t)
	assert.Contains(t, a.post(good+strings.Repeat(" ", 1<<10)).problem(t, 413, BodyTooLarge)["detail"], "max-body-bytes")

	large := strings.Replace(good, ",", ","+strings.Repeat(" ", 1<<10), 1)
	items := a.bulk([]string{large, good}).items(t, 2)
	items[0].problem(413, BodyTooLarge)
	items[1].accepted()
}

// Clients that send slowly hold no more than the setting, and what they held is free again however they leave.
func TestBulkBodiesUnderWayAreBounded(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) { cfg.BulkBytes, cfg.QueueBytes = 32<<10, 80<<10 })
	post := "POST " + bulkPath + " HTTP/1.1\n" + jsonType
	slow := func(head, part string) net.Conn {
		t.Helper()
		began := time.Now()
		conn, err := net.Dial("tcp", a.addr)
		require.NoError(t, err)
		_, err = conn.Write([]byte(message(head, part)))
		require.NoError(t, err)
		require.Eventually(t, func() bool { // in the memory of an older one, perhaps: then no more is held than before
			a.srv.bodies.mu.Lock()
			defer a.srv.bodies.mu.Unlock()
			for _, body := range a.srv.bodies.underWay {
				if body.since.After(began) {
					return true
				}
			}
			return false
		}, giveUpAfter, time.Millisecond)
		return conn
	}
	known, chunked := slow(post+"\nContent-Length: 32768", "["), slow(post+"\nTransfer-Encoding: chunked", "1\r\n[\r\n")
	require.Equal(t, 64<<10, a.srv.bodies.reserved())

	body := "[" + tradeJSON("T1", 1) + strings.Repeat(" ", 20<<10) + "]"
	for range 20 {
		r, closed := a.raw(message(fmt.Sprintf("%s\nContent-Length: %d", post, len(body)), body))
		r.noEffect(t, QueueFull)
		assert.True(t, closed)
		r, _ = a.raw(message(post+"\nTransfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)))
		r.noEffect(t, QueueFull)
	}
	a.bulk([]string{tradeJSON("T1", 1)}).items(t, 1)[0].accepted() // there is room for a short one
	a.post(tradeJSON("T1", 1)).accepted(t)

	require.NoError(t, known.Close())
	eventually(t, func() bool { return a.srv.bodies.reserved() == 32<<10 })
	a.send("POST", bulkPath, body, jsonType).items(t, 1)[0].accepted()
	require.NoError(t, chunked.Close()) // between two chunks: the parser says nothing
	a.srv.bodies.mu.Lock()
	for head, body := range a.srv.bodies.underWay {
		body.since = body.since.Add(-a.srv.bodies.stale - time.Second)
		a.srv.bodies.underWay[head] = body
	}
	a.srv.bodies.swept = time.Time{}
	a.srv.bodies.mu.Unlock()
	known = slow(post+"\nContent-Length: 32768", "[")
	a.send("POST", bulkPath, body, jsonType).items(t, 1)[0].accepted()
	require.NoError(t, known.Close())
	eventually(t, func() bool { return a.srv.bodies.reserved() == 0 })
}

func TestBulkUnderAKey(t *testing.T) { onEveryLog(t, testBulkUnderAKey) }

func testBulkUnderAKey(t *testing.T, s *shop) {
	t.Helper()
	trades := []string{tradeJSON("T1", 1), `{}`, tradeJSON("T1", 2), tradeJSON("T3", 1)}
	key := "Idempotency-Key: k"
	before := s.bulk(trades, key).items(t, 4)
	before[1].problem(400, trade.InvalidTrade)
	ids := map[int]trade.RequestID{}
	for _, i := range []int{0, 2, 3} {
		ids[i] = before[i].accepted()
		assert.Equal(t, trade.DeriveRequestID(anonymous, trade.IdempotencyKey(fmt.Sprint("k/", i)), 0), ids[i])
		assert.NotContains(t, before[i].fields, "replayed")
	}
	for i, e := range s.bulk(trades, key).items(t, 4) { // PENDING
		if i != 1 {
			assert.Equal(t, ids[i].String(), e.problem(409, RequestInProgress)["request_id"])
		}
	}
	s.ends(t, ids[0], "")
	s.ends(t, ids[2], trade.NotDelivered)
	s.ends(t, ids[3], trade.StaleVersion)
	trades[1], trades[3] = tradeJSON("T2", 1), tradeJSON("T3", 2)
	after := s.bulk(trades, key).items(t, 4)
	assert.Equal(t, ids[0], after[0].accepted())
	assert.Equal(t, true, after[0].fields["replayed"])
	after[1].accepted() // what was refused has left no trace
	assert.Equal(t, trade.DeriveRequestID(anonymous, "k/2", 1), after[2].accepted())
	after[3].problem(422, IdempotencyKeyReused)
	assert.Equal(t, ids[0], s.post(trades[0], "Idempotency-Key: k/0").accepted(t), "an item can be repeated alone")
	s.records(5)
	counted(t, 6, s.srv.m.bulkItems[bulkAccepted])
	counted(t, 6, s.srv.m.bulkItems[bulkRefused])
	counted(t, 0, s.srv.m.bulkItems[bulkUnknown])

	// A trade whose key takes more than one look is not overtaken by a later version under a key that takes one.
	failed := s.bulk([]string{tradeJSON("T4", 1), `{}`}, "Idempotency-Key: o").items(t, 2)[0].accepted()
	s.ends(t, failed, trade.NotDelivered)
	again := s.bulk([]string{tradeJSON("T4", 1), tradeJSON("T4", 2)}, "Idempotency-Key: o").items(t, 2)
	first, second := again[0].accepted(), again[1].accepted()
	var order []trade.RequestID
	for _, rec := range s.records(8) {
		if rec.Trade.TradeID == "T4" {
			order = append(order, rec.ID)
		}
	}
	assert.Equal(t, []trade.RequestID{failed, first, second}, order)
}

// Each step of the accept path fails, fails although it took effect, or is slow, for one of the trades or for all.
func TestFaultsOfABulkRequest(t *testing.T) {
	notOpened := fmt.Errorf("%w: %w", trade.ErrNotOpened, errDown)
	wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	slowOpen := func(ctx context.Context, batch []*trade.Request) []error { return all(wait(ctx))(ctx, batch) }
	of := func(id string, err error) func(context.Context, []*trade.Request) []error {
		return func(_ context.Context, batch []*trade.Request) []error {
			errs := make([]error, len(batch))
			for i, r := range batch {
				if r.Trade.TradeID == id {
					errs[i] = err
				}
			}
			return errs
		}
	}
	short := func(cfg *Config, _ *Deps) {
		cfg.AcceptDeadline, cfg.OpenTimeout = 150*time.Millisecond, 100*time.Millisecond
		cfg.LookupTimeout = 50 * time.Millisecond
	}
	taken := func(e entry) { e.accepted() }
	noEffect := func(e entry) { e.noEffect(RequestStoreUnavailable) }
	unknown := func(e entry) { e.unknown() }

	f := func(name string, change func(*Config, *Deps), fault func(*api), first, others func(entry), records int) {
		t.Run(name, func(t *testing.T) {
			a := start(t, change)
			a.stores.set(func() { fault(a) })
			trades := []string{tradeJSON("T1", 1), tradeJSON("T2", 1), tradeJSON("T1", 2), tradeJSON("T3", 1)}
			for i, e := range a.bulk(trades).items(t, 4) {
				if i%2 == 0 {
					first(e)
				} else {
					others(e)
				}
			}
			close(a.answered)
			a.stores.set(func() { a.stores.onOpen, a.stores.onLookUp = nil, nil })
			a.records(records)
			eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} })
		})
	}
	downLookUp := func(context.Context) error { return errDown }
	f("look-up fails", nil, func(a *api) { a.stores.onLookUp = downLookUp }, taken, taken, 4)
	f("open fails", nil, func(a *api) { a.stores.onOpen = all(notOpened) }, noEffect, noEffect, 0)
	f("open of one trade fails", nil, func(a *api) { a.stores.onOpen = of("T1", notOpened) }, noEffect, taken, 2)
	f("open of one trade may fail", nil, func(a *api) { a.stores.onOpen = of("T1", errDown) }, unknown, taken, 2)
	f("open is slow", short, func(a *api) { a.stores.onOpen = slowOpen }, unknown, unknown, 0)
	f("produce fails", nil, func(a *api) { failProduce(a, kerr.MessageTooLarge) }, unknown, unknown, 0)
	f("produce fails once", nil, func(a *api) { failProduceOnce(a, kerr.NotLeaderForPartition) }, taken, taken, 4)
	f("produce is slow", short, func(a *api) { holdProduce(a) }, unknown, unknown, 4)
	bug := func(context.Context, []*trade.Request) []error { panic("bug") }
	f("the flush panics", nil, func(a *api) { a.stores.onOpen = bug },
		func(e entry) { e.problem(500, Internal) }, func(e entry) { e.problem(500, Internal) }, 0)
}

// What was acknowledged by the deadline is a 202, whatever becomes of the others.
func TestBulkIsAnsweredAtTheDeadline(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.Flushes, cfg.MaxBatch, cfg.AcceptDeadline, cfg.OpenTimeout = 2, 1, 500*time.Millisecond, 500*time.Millisecond
	})
	barrier := newBarrier()
	a.stores.set(func() {
		a.stores.onOpen = func(_ context.Context, batch []*trade.Request) []error {
			if id := batch[0].Trade.TradeID; id == "HELD" {
				barrier.pass()
			}
			return nil
		}
	})
	share := func(id string) int { return int(kafka.Partition(id, testPartitions)) % 2 }
	other := func(n int) string { // a trade of the flush that is not held
		for share(fmt.Sprint("T", n)) == share("HELD") {
			n += 10
		}
		return tradeJSON(fmt.Sprint("T", n), 1)
	}
	items := a.bulk([]string{other(1), tradeJSON("HELD", 1), other(2), tradeJSON("HELD", 2), other(3)}).items(t, 5)
	items[0].accepted()
	items[1].unknown()
	items[2].accepted()
	items[3].noEffect(DeadlineExceeded)
	items[4].accepted()
	barrier.open()
	eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} })
	a.records(3)
	counted(t, 1, a.srv.m.bulkItems[bulkUnknown])
	counted(t, 1, a.srv.m.bulkItems[bulkUnavailable])
}

func TestBulkIsShedFromTheFirstWithoutRoom(t *testing.T) {
	f := func(change func(*Config), shed string, code trade.Code, room int, prepare func(*api)) {
		t.Helper()
		a := start(t, func(cfg *Config, _ *Deps) { change(cfg) })
		prepare(a)
		var trades []string
		for i := range 5 {
			trades = append(trades, tradeJSON(fmt.Sprint("T", i), 1))
		}
		for i, e := range a.bulk(trades).items(t, 5) {
			if i < room {
				e.accepted()
			} else {
				e.noEffect(code)
			}
		}
		counted(t, float64(5-room), a.srv.m.shed[shed])
		a.records(room)
	}
	size := len(tradeJSON("T1", 1)) + postOverhead
	nothing := func(*api) {}
	f(func(cfg *Config) { cfg.QueueItems = 3 }, shedItems, QueueFull, 3, nothing)
	f(func(cfg *Config) { cfg.MaxBodyBytes, cfg.QueueBytes = sampleBody, 2*size+1 }, shedBytes, QueueFull, 2, nothing)
	closeQueue := func(a *api) { require.NoError(a.t, a.srv.flusher.close(context.Background())) }
	f(func(*Config) {}, shedClosed, ShuttingDown, 0, closeQueue)
}

// Many wrong trades in few bytes do not make an answer without bounds.
func TestBulkAnswerIsBounded(t *testing.T) {
	t.Parallel()
	a := start(t, func(cfg *Config, _ *Deps) { cfg.BulkBytes = 8 << 10 })
	r := a.bulk(strings.Split(strings.Repeat("{} ", 1000)[:2999], " "))
	items := r.items(t, 1000)
	assert.Len(t, items[0].problem(400, trade.InvalidTrade)["errors"], 6)
	assert.NotContains(t, items[999].problem(400, trade.InvalidTrade), "errors")
	assert.Less(t, len(r.body), 1000*500)
}

// The log has the trades of a request in its order, whatever the flushes, the stores and other clients do meanwhile.
func TestBulkKeepsTheOrderOfATrade(t *testing.T) {
	const clients, rounds, most = 4, 12, 40
	f := func(keyed bool) {
		t.Helper()
		a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxBatch, cfg.Flushes = 5, 4 })
		fate := func() error { // flushes take their time, and some trades are not opened
			for range rand.IntN(200) {
				runtime.Gosched()
			}
			if rand.IntN(8) == 0 {
				return trade.ErrNotOpened
			}
			return nil
		}
		a.stores.set(func() {
			a.stores.onOpen = func(_ context.Context, batch []*trade.Request) []error {
				errs := make([]error, len(batch))
				for i := range errs {
					errs[i] = fate()
				}
				return errs
			}
			a.stores.onOpenKeyed = fate
			for client := range clients { // and some are refused
				a.stores.stored = append(a.stores.stored, trade.Trade{TradeID: fmt.Sprintf("T%d-1", client), Version: 100})
			}
		})
		var posts sync.WaitGroup
		var mu sync.Mutex
		sent := 0
		for client := range clients {
			posts.Go(func() {
				version := 0
				for round := range rounds {
					trades := make([]string, 1+rand.IntN(most))
					for i := range trades {
						version++
						trades[i] = tradeJSON(fmt.Sprintf("T%d-%d", client, rand.IntN(3)), version)
					}
					var headers []string
					if keyed {
						headers = []string{fmt.Sprintf("Idempotency-Key: %d.%d", client, round)}
					}
					taken := 0
					for _, e := range a.bulk(trades, headers...).items(t, len(trades)) {
						if p, refused := e.fields["problem"].(map[string]any); refused {
							expected := []any{string(trade.StaleVersion), string(RequestStoreUnavailable)}
							assert.Contains(t, expected, p["code"], "one that is not opened delays no other")
						} else {
							taken++
						}
					}
					if a.post(tradeJSON(fmt.Sprint("S", client), version)).status == 202 {
						taken++
					}
					mu.Lock()
					sent += taken
					mu.Unlock()
				}
			})
		}
		posts.Wait()
		last := map[string]int32{}
		for _, rec := range a.records(sent) {
			require.Lessf(t, last[rec.Trade.TradeID], rec.Trade.Version, "%s", rec.Trade.TradeID)
			last[rec.Trade.TradeID] = rec.Trade.Version
		}
	}
	f(false)
	f(true)
}

// A late acknowledgement of one trade must not be a yes (C6).
func TestBulkAcknowledgementAfterTheDeadlineIsUnknown(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	c := a.srv.newCall(&fasthttp.RequestCtx{})
	c.start = time.Now().Add(-a.srv.cfg.AcceptDeadline)
	sub := &pendingPost{req: trade.Request{ID: trade.NewRequestID(testNow)}}
	item := a.srv.bulkItemOf(a.srv.inTime(c, answer{of: sub}))
	require.NotNil(t, item.problem)
	assert.Equal(t, DeliveryUnknown, item.problem.code)
	assert.Equal(t, sub.req.ID, item.problem.requestID)
}
