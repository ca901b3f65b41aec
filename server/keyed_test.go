package server

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"tradestore/dynamo"
	"tradestore/postgres"
	"tradestore/test/stack"
	"tradestore/trade"
)

// keyedStore is a request store as the server and a worker see it.
type keyedStore interface {
	RequestStore
	KeyedStore
}

// shop is a server with a real request store whose requests a test may end, a clock and a broker that it may break.
type shop struct {
	*api
	log  keyedStore
	end  func(t *testing.T, s trade.RequestState) // gives a request its end
	now  atomic.Pointer[time.Time]
	down atomic.Bool // the broker refuses records
}

// onEveryLog runs a test with each request store.
func onEveryLog(t *testing.T, test func(t *testing.T, s *shop)) {
	open := map[string]func(s *shop, t *testing.T){"postgres": (*shop).openPostgres, "dynamodb": (*shop).openDynamoDB}
	for name, open := range open {
		t.Run(name, func(t *testing.T) {
			s := &shop{}
			s.at(testNow)
			open(s, t)
			s.api = start(t, func(cfg *Config, deps *Deps) {
				cfg.IdempotencyAttempts = 3
				deps.Requests, deps.Keys, deps.Now = s.log, s.log, func() time.Time { return *s.now.Load() }
			})
			s.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				s.cluster.KeepControl()
				if s.down.Load() {
					return produceAnswer(req, kerr.MessageTooLarge), nil, true
				}
				return nil, nil, false
			})
			test(t, s)
		})
	}
}

func (s *shop) openPostgres(t *testing.T) {
	url := stack.Database(t)
	require.NoError(t, postgres.Migrate(t.Context(), url))
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, ApplicationName: "server"}, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s.log = postgres.NewRequestStore(pool)
	s.end = func(t *testing.T, e trade.RequestState) {
		_, err := pool.Exec(t.Context(), `INSERT INTO journal
			(accepted_at, decided_at, accepted_on, generation, partition, request_id, outcome, reason, detail)
			VALUES ($1, $1, $2, 1, 0, $3, $4, nullif($5, ''), nullif($6, ''))`,
			e.AcceptedAt, e.AcceptedOn().Time(), [16]byte(e.ID), string(e.Status), string(e.Reason), e.Detail)
		require.NoError(t, err)
	}
}

func (s *shop) openDynamoDB(t *testing.T) {
	cfg := dynamo.Config{Table: fmt.Sprintf("keys-%d", time.Now().UnixNano()), Endpoint: stack.DynamoDB(t),
		Now: func() time.Time { return *s.now.Load() }}
	log, err := dynamo.Open(t.Context(), cfg, prometheus.NewRegistry(), zerolog.Nop())
	require.NoError(t, err)
	t.Cleanup(log.Close)
	require.NoError(t, log.CreateTable(t.Context()))
	s.log = log
	s.end = func(t *testing.T, e trade.RequestState) {
		e.DecidedAt = e.AcceptedAt
		require.NoError(t, log.Project(t.Context(), []trade.Decision{{RequestState: e}}))
	}
}

func (s *shop) at(now time.Time) { s.now.Store(&now) }

// ends gives a request its end, as worker or orphan reaper would.
func (s *shop) ends(t *testing.T, id trade.RequestID, reason trade.Code) {
	t.Helper()
	state, err := s.log.Get(t.Context(), id)
	require.NoError(t, err)
	state.Status = trade.Success
	if reason != "" {
		state.Status, state.Reason, state.Detail = trade.Failed, reason, "as the test wants it"
	}
	s.end(t, state)
}

// send posts under a key, also to a partition that has just refused a record.
func (s *shop) send(key, body string) reply {
	s.probeNow()
	return s.post(body, "Idempotency-Key: "+key)
}

// took demands a 202 of this call.
func (r reply) took(t *testing.T) trade.RequestID {
	t.Helper()
	id := r.accepted(t)
	assert.Empty(t, r.header.Get("Idempotency-Replayed"))
	return id
}

// replayed demands the 202 of an earlier call.
func (r reply) replayed(t *testing.T, first reply) {
	t.Helper()
	assert.Equal(t, first.accepted(t), r.accepted(t))
	assert.Equal(t, "true", r.header.Get("Idempotency-Replayed"))
	assert.Equal(t, first.body, r.body)
}

// inProgress demands a 409 that names the request under way.
func (r reply) inProgress(t *testing.T, id trade.RequestID) {
	t.Helper()
	m := r.problem(t, http.StatusConflict, RequestInProgress)
	assert.Equal(t, id.String(), m["request_id"])
	assert.NotEmpty(t, r.header.Get("Retry-After"))
}

func (r reply) reused(t *testing.T) {
	t.Helper()
	assert.NotContains(t, r.problem(t, http.StatusUnprocessableEntity, IdempotencyKeyReused), "request_id")
}

func TestARepeatUnderAKeyIsTheSameRequest(t *testing.T) {
	onEveryLog(t, func(t *testing.T, s *shop) {
		body := tradeJSON("T1", 1)
		s.send("k", `{"trade_id":"T1"}`).problem(t, 400, trade.InvalidTrade) // leaves no trace
		first := s.send("k", body)
		id := first.took(t)
		_, dated := id.Day()
		assert.False(t, dated, "a derived id")
		s.send("k", body).inProgress(t, id)
		s.send(`"k"`, body).inProgress(t, id)
		s.send("k", tradeJSON("T1", 2)).reused(t)

		s.ends(t, id, "")
		s.send("k", body).replayed(t, first)
		s.send(`"k"`, " "+body).replayed(t, first)
		s.send("k", tradeJSON("T1", 2)).reused(t)
		assert.NotEqual(t, id, s.send("K", body).took(t), "another key")
		assert.NotEqual(t, s.post(body).took(t), s.post(body).took(t), "without a key each is a request of its own")
		recs := s.records(4)
		seen := map[trade.RequestID]int{}
		for _, rec := range recs {
			seen[rec.ID]++
		}
		assert.Equal(t, 1, seen[id])
	})
}

// What was taken stays taken, whatever has happened to the calendar and to the trade since.
func TestARepeatIsNotJudgedAgain(t *testing.T) {
	onEveryLog(t, func(t *testing.T, s *shop) {
		body := tradeJSON("T1", 4) // matures today
		done, failed := s.send("done", body), s.send("failed", body)
		waiting := s.send("waiting", body).took(t)
		s.ends(t, done.took(t), "")
		s.ends(t, failed.took(t), trade.StaleVersion)
		check := func(code trade.Code) {
			t.Helper()
			s.send("done", body).replayed(t, done)
			s.send("failed", body).replayed(t, failed)
			s.send("waiting", body).inProgress(t, waiting)
			s.send("waiting", tradeJSON("T1", 3)).reused(t)
			s.send("new", body).problem(t, 400, code)
		}
		s.stores.set(func() { s.stores.stored = []trade.Trade{{TradeID: "T1", Version: 5}} })
		check(trade.StaleVersion)
		s.at(testNow.AddDate(0, 0, 1))
		check(trade.MaturityInPast)
		s.at(testNow)
		s.stores.set(func() { s.stores.stored = nil })
		s.send("new", body).took(t)
		s.records(4)
	})
}

// A failed delivery does not burn the key: with the broker up again, the same key stores the trade, once.
func TestANotDeliveredRequestFreesItsKey(t *testing.T) {
	onEveryLog(t, func(t *testing.T, s *shop) {
		body := tradeJSON("T1", 1)
		s.down.Store(true)
		lost := s.send("k", body).unknown(t)
		s.send("k", body).inProgress(t, lost)
		s.ends(t, lost, trade.NotDelivered)
		s.send("k", tradeJSON("T1", 2)).reused(t)
		s.down.Store(false)
		second := s.send("k", body)
		id := second.took(t)
		assert.NotEqual(t, lost, id)
		s.send("k", body).inProgress(t, id)
		s.ends(t, id, "")
		s.send("k", body).replayed(t, second)
		assert.Equal(t, id, s.records(1)[0].ID)
		counted(t, 1, s.srv.m.keyed[keyReopened])
	})
}

func TestAKeyIsTriedSoManyTimes(t *testing.T) {
	onEveryLog(t, func(t *testing.T, s *shop) {
		body := tradeJSON("T1", 1)
		s.down.Store(true)
		for range 3 {
			s.ends(t, s.send("k", body).unknown(t), trade.NotDelivered)
		}
		m := s.send("k", body).problem(t, http.StatusUnprocessableEntity, IdempotencyKeyExhausted)
		assert.Contains(t, m["detail"], "all 3 attempts")
		s.down.Store(false)
		s.send("another", body).took(t)
		s.records(1)
	})
}

// 100 equal posts at once under one key are one request: one record, and nobody is told of another.
func TestEqualPostsAtOnceAreOneRequest(t *testing.T) {
	onEveryLog(t, func(t *testing.T, s *shop) {
		const n = 100
		body := tradeJSON("T1", 1)
		replies := make([]reply, n)
		var posts sync.WaitGroup
		for i := range n {
			posts.Go(func() { replies[i] = s.send("k", body) })
		}
		posts.Wait()
		id := trade.DeriveRequestID(anonymous, "k", 0)
		var first []reply
		for _, r := range replies {
			if r.status == http.StatusAccepted {
				assert.Equal(t, id, r.took(t))
				first = append(first, r)
			} else {
				r.inProgress(t, id)
			}
		}
		require.Len(t, first, 1)
		assert.Equal(t, id, s.records(1)[0].ID)
		s.ends(t, id, "")
		for range 5 {
			s.send("k", body).replayed(t, first[0])
		}
		s.records(1)
		counted(t, 1, s.srv.m.keyed[keyOpened])
		counted(t, n-1, s.srv.m.keyed[keyInProgress])
		counted(t, 5, s.srv.m.keyed[keyReplayed])
	})
}

// Each step under a key fails, or fails although it took effect.
func TestFaultsOfKeys(t *testing.T) {
	f := func(name string, fault func(*fake), check func(*testing.T, reply), records int) {
		t.Run(name, func(t *testing.T) {
			a := start(t, nil)
			a.stores.set(func() { fault(a.stores) })
			check(t, a.post(tradeJSON("T1", 1), "Idempotency-Key: k"))
			a.post(tradeJSON("T2", 1)).accepted(t) // without a key nothing is wrong
			a.records(records + 1)
		})
	}
	noEffect := func(t *testing.T, r reply) { r.noEffect(t, RequestStoreUnavailable) }
	f("the key can't be read", func(w *fake) { w.onGetKeyed = func() error { return errDown } }, noEffect, 0)
	f("not opened", func(w *fake) {
		w.onOpenKeyed = func() error { return fmt.Errorf("%w: %w", trade.ErrNotOpened, errDown) }
	}, noEffect, 0)
	id := trade.DeriveRequestID(anonymous, "k", 0)
	unknown := func(t *testing.T, r reply) { assert.Equal(t, id, r.unknown(t)) }
	f("may be opened", func(w *fake) { w.onOpenKeyed = func() error { return errDown } }, unknown, 0)
	taken := func(w *fake) { w.onOpenKeyed = func() error { return trade.ErrKeyTaken } }
	f("taken at the same moment", taken, func(t *testing.T, r reply) { r.inProgress(t, id) }, 0)
	f("nothing", func(*fake) {}, func(t *testing.T, r reply) { r.took(t) }, 1)
}

// A request that is shed leaves no trace under its key.
func TestAShedRequestLeavesNoTrace(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) {
		cfg.Flushes, cfg.AcceptDeadline, cfg.OpenTimeout = 1, 100*time.Millisecond, 100*time.Millisecond
	})
	barrier := newBarrier()
	a.stores.set(func() { a.stores.onLookUp = func(context.Context) error { barrier.pass(); return nil } })
	a.post(tradeJSON("T1", 1), "Idempotency-Key: k").noEffect(t, DeadlineExceeded)
	barrier.open()
	eventually(t, func() bool { return a.srv.queue.snapshot().items == 0 })
	a.stores.set(func() { assert.Empty(t, a.stores.keys) })
	a.post(tradeJSON("T1", 1), "Idempotency-Key: k").took(t)
	a.records(1)
}

func (w *fake) OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, limited := ctx.Deadline(); !limited || len(batch) == 0 {
		w.t.Errorf("OpenKeyed without a time limit, or of nothing")
	}
	errs := make([]error, len(batch))
	for i, r := range batch {
		if _, dated := r.ID.Day(); dated || r.Nonce == (trade.Nonce{}) || r.Hash != trade.HashPayload(&r.Trade) ||
			r.BusinessDate != r.AcceptedOn() {
			w.t.Errorf("OpenKeyed of %s", r.ID)
		}
		_, taken := w.keys[r.ID]
		switch {
		case w.onOpenKeyed != nil:
			errs[i] = w.onOpenKeyed()
		case taken:
			errs[i] = trade.ErrKeyTaken
		default:
			w.keys[r.ID] = *r
			w.opened[r.ID] = *r.Request
		}
	}
	return errs
}

func (w *fake) GetKeyed(_ context.Context, ids []trade.RequestID) (map[trade.RequestID]trade.KeyedState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.onGetKeyed != nil {
		return nil, w.onGetKeyed()
	}
	states := map[trade.RequestID]trade.KeyedState{}
	for _, id := range ids {
		if r, ok := w.keys[id]; ok {
			states[id] = trade.KeyedState{Status: trade.Pending, Hash: r.Hash}
		}
	}
	return states, nil
}
