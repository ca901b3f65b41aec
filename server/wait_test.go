package server

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

const preferWait = "Prefer: wait=25"

// stateOf is the state of a request for T1 that came to its end at once.
func stateOf(id trade.RequestID, status trade.Status) trade.RequestState {
	return trade.RequestState{ID: id, Status: status, TradeID: "T1", Version: 1, AcceptedAt: testNow, DecidedAt: testNow}
}

// end gives the request its end, as the worker would.
func (a *api) end(id trade.RequestID, status trade.Status) {
	a.stores.set(func() {
		state := stateOf(id, status)
		if status == trade.Failed {
			state.Reason, state.Detail = trade.StaleVersion, "lower"
		}
		a.stores.states[id] = state
	})
}

// waiting demands that so many calls wait.
func (a *api) waiting(n int) {
	a.t.Helper()
	eventually(a.t, func() bool { return a.srv.waits.count() == n }, "%d wait", a.srv.waits.count())
}

// waitedFor returns how many requests some call waits for.
func (a *api) waitedFor() int {
	a.srv.outcomes.mu.Lock()
	defer a.srv.outcomes.mu.Unlock()
	return len(a.srv.outcomes.waiting)
}

// later sends a request in the background.
func (a *api) later(send func() reply) <-chan reply {
	answer := make(chan reply, 1)
	go func() { answer <- send() }()
	return answer
}

func TestAPostWaitsForTheOutcome(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	for _, status := range []trade.Status{trade.Success, trade.Failed} {
		answer := a.later(func() reply { return a.post(tradeJSON("T1", 1), preferWait) })
		a.waiting(1)
		var id trade.RequestID
		a.stores.set(func() {
			for opened := range a.stores.opened {
				if a.stores.states[opened].ID.IsZero() {
					id = opened
				}
			}
		})
		a.end(id, status)
		r := <-answer
		assert.Equal(t, 200, r.status, r.body)
		assert.Equal(t, string(status), r.fields(t)["status"])
		assert.Equal(t, "wait=25", r.header.Get("Preference-Applied"))
		assert.Equal(t, requestsPath+id.String(), r.header.Get("Location"))
		assert.Empty(t, r.header.Get("Retry-After"))
		assert.Equal(t, r.body, a.get(requestsPath+id.String()).body, "the outcome as it is read")
	}
	a.waiting(0)
	counted(t, 2, a.srv.m.waits[waitEnded])
	assert.Zero(t, a.waitedFor())
}

func TestAReadWaitsForTheOutcome(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	id := a.post(tradeJSON("T1", 1)).accepted(t)
	read := func(headers ...string) reply { return a.send("GET", requestsPath+id.String(), "", headers...) }
	answer := a.later(func() reply { return read("Prefer: respond-async", "Prefer: wait=25") })
	a.waiting(1)
	a.end(id, trade.Success)
	r := <-answer
	assert.Equal(t, "SUCCESS", r.fields(t)["status"])
	assert.Equal(t, "wait=25", r.header.Get("Preference-Applied"))

	r = read(preferWait)
	assert.Equal(t, "SUCCESS", r.fields(t)["status"], "what has ended is answered at once")
	a.send("GET", requestsPath+trade.NewRequestID(testNow).String(), "", preferWait).problem(t, 404, NotFound)
	a.post(`{}`, preferWait).problem(t, 400, trade.InvalidTrade)
}

func TestAWaitEndsWithoutTheOutcome(t *testing.T) {
	a := start(t, func(cfg *Config, _ *Deps) { cfg.MaxWait, cfg.MaxWaiters = time.Second, 1 })
	r := a.post(tradeJSON("T1", 1), preferWait)
	id := r.accepted(t)
	assert.Equal(t, "wait=1", r.header.Get("Preference-Applied"), "MaxWait")
	assert.NotEmpty(t, r.header.Get("Retry-After"))
	r = a.send("GET", requestsPath+id.String(), "", preferWait)
	assert.Equal(t, "PENDING", r.fields(t)["status"])
	assert.NotEmpty(t, r.header.Get("Retry-After"))
	counted(t, 2, a.srv.m.waits[waitTimeout])

	for _, ignored := range []string{"Prefer: wait=0", "Prefer: wait", "Prefer: respond-async"} {
		r = a.post(tradeJSON("T2", 1), ignored)
		r.accepted(t)
		assert.Empty(t, r.header.Get("Preference-Applied"))
	}

	first := a.later(func() reply { return a.post(tradeJSON("T3", 1), preferWait) })
	a.waiting(1)
	r = a.post(tradeJSON("T4", 1), preferWait)
	r.accepted(t)
	assert.Empty(t, r.header.Get("Preference-Applied"), "no slot: answered at once")
	counted(t, 1, a.srv.m.waits[waitRefused])
	(<-first).accepted(t)
}

// endedCounter is a request store in which a request ends at some time. It counts how often each is read.
type endedCounter struct {
	RequestStore
	reads map[trade.RequestID]int
	ended map[trade.RequestID]bool
}

func (s *endedCounter) Ended(_ context.Context, ids []trade.RequestID) (states []trade.RequestState, err error) {
	for _, id := range ids {
		if s.reads[id]++; s.ended[id] {
			states = append(states, stateOf(id, trade.Success))
		}
	}
	return states, nil
}

// However many calls wait for a request, it is read once for all of them, and less often the longer the lag makes them
// wait. A request that has just been accepted is read as often as ever.
func TestWaitersShareReadsThatBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &endedCounter{reads: map[trade.RequestID]int{}, ended: map[trade.RequestID]bool{}}
		closed := make(chan struct{})
		n := newOutcomeNotifier(&Config{StoreTimeout: time.Second}, &Deps{Requests: store, Log: zerolog.Nop()},
			newMetrics(), closed)
		go n.run()
		old := trade.NewRequestID(testNow)
		waiters := make([]*waiter, 100)
		for i := range waiters {
			waiters[i] = n.enter(old)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		minute := store.reads[old]
		require.Less(t, minute, 150, "in a minute, of 3,000 rounds")

		young := trade.NewRequestID(testNow)
		n.enter(young)
		time.Sleep(10 * minPollPause)
		synctest.Wait()
		require.GreaterOrEqual(t, store.reads[young], 5)
		require.LessOrEqual(t, store.reads[old], minute+1, "its pace is its own")

		store.ended[old] = true
		n.news <- struct{}{}
		synctest.Wait()
		for _, w := range waiters {
			require.Equal(t, trade.Success, (<-w.ended).Status)
			n.leave(w)
		}
		close(closed)
	})
}

// An outage of the request store ends no wait: the next read may succeed.
func TestAWaitOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	answer := a.later(func() reply { return a.post(tradeJSON("T1", 1), preferWait) })
	a.waiting(1)
	a.stores.set(func() { a.stores.onRead = func() error { panic("a fault in the store") } })
	eventually(t, func() bool { return testutil.ToFloat64(a.srv.m.outcomeErrors) > 0 })
	a.stores.set(func() {
		a.stores.onRead = nil
		for id := range a.stores.opened {
			a.stores.states[id] = trade.RequestState{ID: id, Status: trade.Success, AcceptedAt: testNow, DecidedAt: testNow}
		}
	})
	a.srv.OutcomesShown()
	assert.Equal(t, 200, (<-answer).status)
}

func TestADrainAnswersWhoeverWaits(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	answers := make([]<-chan reply, 20)
	for i := range answers {
		answers[i] = a.later(func() reply { return a.post(tradeJSON(fmt.Sprint("T", i), 1), preferWait) })
	}
	a.waiting(len(answers))
	ctx, cancel := context.WithTimeout(t.Context(), giveUpAfter)
	defer cancel()
	require.NoError(t, a.srv.Drain(ctx))
	for _, answer := range answers {
		(<-answer).accepted(t)
	}
	counted(t, 20, a.srv.m.waits[waitDrained])
}

// A client that leaves frees its slot for others.
func TestAClientThatLeavesWaitsNoMore(t *testing.T) {
	t.Parallel()
	a := start(t, nil)
	conn, err := net.Dial("tcp", a.addr)
	require.NoError(t, err)
	body := tradeJSON("T1", 1)
	_, err = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\n%s\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
		tradesPath, jsonType, preferWait, len(body), body)
	require.NoError(t, err)
	a.waiting(1)
	require.NoError(t, conn.Close())
	a.waiting(0)
	counted(t, 1, a.srv.m.waits[waitPeerClosed])
	assert.Zero(t, a.waitedFor())
}

// A thousand clients wait: for each there is the goroutine of its connection and no other, one reader asks for all of
// them, and every one is answered.
func TestAThousandWait(t *testing.T) {
	const clients = 1000
	a := start(t, nil)
	ids := make([]trade.RequestID, clients)
	for i := range ids {
		ids[i] = trade.NewRequestID(testNow)
		a.stores.set(func() {
			a.stores.states[ids[i]] = trade.RequestState{ID: ids[i], Status: trade.Pending, TradeID: "T1", Version: 1,
				AcceptedAt: testNow}
		})
	}
	a.get("/livez")
	before := memory()
	goroutines := runtime.NumGoroutine()
	conns := make([]net.Conn, clients)
	for i := range conns {
		conn, err := net.Dial("tcp", a.addr)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		line := "GET " + requestsPath + ids[i].String() + " HTTP/1.1\r\n"
		_, err = io.WriteString(conn, line+"Host: x\r\nConnection: close\r\n"+preferWait+"\r\n\r\n")
		require.NoError(t, err)
		conns[i] = conn
	}
	a.waiting(clients)
	added := runtime.NumGoroutine() - goroutines
	grown := (memory() - before) >> 10 / clients
	t.Logf("%d clients wait: %d more goroutines, %d KiB for each", clients, added, grown)
	assert.LessOrEqual(t, added, clients+20)
	assert.LessOrEqual(t, grown, int64(64), "KiB for each")

	for _, id := range ids {
		a.end(id, trade.Success)
	}
	var answered sync.WaitGroup
	for i, conn := range conns {
		answered.Go(func() {
			assert.NoError(t, conn.SetReadDeadline(time.Now().Add(2*giveUpAfter)))
			text, err := io.ReadAll(conn)
			assert.NoError(t, err)
			assert.Contains(t, string(text), "200 OK")
			assert.Contains(t, string(text), `{"request_id":"`+ids[i].String()+`","status":"SUCCESS"`)
		})
	}
	answered.Wait()
	counted(t, clients, a.srv.m.waits[waitEnded])
	a.waiting(0)
}

// memory returns the bytes of what is in use: heap and stacks.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}
