package loadtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// fake answers like the service, by a model of its own, and fails the test when it is sent what the plan does not say.
type fake struct {
	t    testing.TB
	plan *Plan
	url  *url.URL

	mu       sync.Mutex
	seen     map[string]uint64           // correlation id to operation
	sent     map[uint64]bool             // operations that arrived
	requests map[string]bool             // ids that were given out
	conns    map[net.Conn]http.ConnState // that were opened
	before   func(n int, w http.ResponseWriter, r *http.Request) (handled bool)
	n        int
}

// newFake starts a server for the first n operations of a plan.
func newFake(t testing.TB, p *Plan, n uint64) *fake {
	w := &fake{t: t, plan: p, seen: map[string]uint64{}, sent: map[uint64]bool{}, requests: map[string]bool{},
		conns: map[net.Conn]http.ConnState{}}
	for seq := range n {
		w.seen[p.Correlation(seq)] = seq
	}
	srv := httptest.NewUnstartedServer(w)
	srv.Config.ConnState = func(c net.Conn, s http.ConnState) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns[c] = s
	}
	srv.Start()
	t.Cleanup(srv.Close)
	w.url = parseURL(t, srv.URL)
	return w
}

func parseURL(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	require.NoError(t, err)
	return u
}

func (w *fake) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the generator was stopped
	}
	w.mu.Lock()
	w.n++
	n, before := w.n, w.before
	seq, known := w.seen[r.Header.Get("X-Correlation-ID")]
	assert.True(w.t, known, "correlation id %q", r.Header.Get("X-Correlation-ID"))
	assert.False(w.t, w.sent[seq], "operation %d was sent twice", seq)
	w.sent[seq] = true
	w.mu.Unlock()
	op := w.plan.Op(seq)
	assert.Equal(w.t, op.Method, r.Method)
	assert.Equal(w.t, string(op.Body), string(body))
	assert.Equal(w.t, op.ContentType, r.Header.Get("Content-Type"))
	assert.Empty(w.t, r.Header.Get(sequenceHeader))
	if before != nil && before(n, out, r) {
		return
	}
	w.answer(out, r, &op)
}

func (w *fake) answer(out http.ResponseWriter, r *http.Request, op *Op) {
	status := op.Status[0]
	w.mu.Lock()
	defer w.mu.Unlock()
	if op.Kind == ReadRequest {
		assert.True(w.t, w.requests[strings.TrimPrefix(r.URL.Path, op.Path)], r.URL.Path)
	} else {
		assert.Equal(w.t, op.Path, r.URL.Path)
	}
	if status >= 400 {
		out.WriteHeader(status)
		fmt.Fprintf(out, `{"status":%d,"code":"%s"}`, status, op.Code)
		return
	}
	id := trade.NewRequestID(time.Now()).String()
	w.requests[id] = true
	out.WriteHeader(status)
	fmt.Fprintf(out, `{"request_id":"%s","status":"PENDING"}`, id)
}

func (w *fake) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns)
}

// both runs a test with each generator.
func both(t *testing.T, connections int, timeout time.Duration, test func(t *testing.T, g Generator)) {
	for _, g := range []Generator{Vegeta{uint64(connections), timeout}, Light{connections, timeout}} {
		t.Run(g.Name(), func(t *testing.T) { test(t, g) })
	}
}

func collected(r *Results) []*Result { return slices.Collect(r.All()) }

func TestGeneratorsSendThePlan(t *testing.T) {
	both(t, 64, 0, func(t *testing.T, g Generator) {
		s := schedule(t, "100..1000/1s", 200*time.Millisecond)
		p := NewPlan("r1", 5, DefaultMix, 20, 1000)
		w := newFake(t, p, s.Total())
		into := NewResults(time.Now())
		require.NoError(t, g.Attack(t.Context(), w.url, p, s, into))
		all := collected(into)
		require.Len(t, all, int(s.Total()))
		for i, r := range all {
			op := p.Op(uint64(i))
			require.EqualValues(t, i, r.Seq)
			require.Equal(t, s.At(r.Seq), r.Due)
			require.LessOrEqual(t, r.Due, r.Sent)
			require.Less(t, r.Sent, r.Done)
			require.EqualValues(t, op.Status[0], r.Status, r.Err)
			require.Equal(t, op.Kind, r.Kind)
			require.EqualValues(t, len(op.Body), r.BytesOut)
			require.Positive(t, r.BytesIn)
			require.Empty(t, r.Err)
			require.Equal(t, r.Status == 202, !r.Request.IsZero())
			if r.Status >= 400 {
				require.Equal(t, op.Code, r.Code)
			}
			again, ok := into.Get(r.Seq)
			require.True(t, ok)
			require.Equal(t, *r, again)
		}
		c := into.Count()
		require.Equal(t, []uint64{s.Total(), s.Total(), 0, 0}, []uint64{c.Sent, c.Answered, c.InFlight, c.Errors})
		require.LessOrEqual(t, w.connections(), 64, "connections are used again")
	})
}

// While the server answers nothing, the sends go on as the schedule wants, and each operation's latency counts from
// when it was due. A generator that waited would send little and find that little of it was slow (coordinated
// omission).
func TestStallIsSeenInFull(t *testing.T) {
	f := func(connections int, sendsGoOn bool) {
		both(t, connections, 30*time.Second, func(t *testing.T, g Generator) {
			const rate = 200
			s := schedule(t, "200/1500ms", 0)
			p := NewPlan("r1", 5, Mix{New: 1}, 20, 0)
			w := newFake(t, p, s.Total())
			into := NewResults(time.Now())
			stalled, resume, arrived := make(chan struct{}), make(chan struct{}), atomic.Int64{}
			w.before = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
				if n == 100 {
					close(stalled)
				}
				if n >= 100 {
					arrived.Add(1)
					<-resume
				}
				return false
			}
			from, to := make(chan time.Duration, 1), make(chan time.Duration, 1)
			go func() {
				<-stalled
				from <- into.Now()
				want := int64(1)
				if sendsGoOn {
					want = rate / 2
				}
				for arrived.Load() < want || into.Now() < time.Second { // half a second after it began
					time.Sleep(time.Millisecond)
				}
				to <- into.Now()
				close(resume)
			}()
			require.NoError(t, g.Attack(t.Context(), w.url, p, s, into))
			began, ended := <-from, <-to
			all := collected(into)
			require.Len(t, all, int(s.Total()))
			held := 0
			for _, r := range all {
				require.EqualValues(t, 202, r.Status, r.Err)
				if r.Due > began && r.Due < ended {
					held++
					require.GreaterOrEqual(t, r.Done, ended, "answered in the stall")
					require.GreaterOrEqual(t, r.Latency(), ended-r.Due)
				}
			}
			require.InDelta(t, (ended-began).Seconds()*rate, held, 1, "as many are slow as were due in the stall")
		})
	}
	f(1000, true)
	f(8, false) // all connections are busy: operations wait, and their wait is seen
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, ln.Close())
	both(t, 16, 0, func(t *testing.T, g Generator) {
		into := NewResults(time.Now())
		s := schedule(t, "500/200ms", 0)
		require.NoError(t, g.Attack(t.Context(), parseURL(t, "http://"+ln.Addr().String()),
			NewPlan("r1", 5, DefaultMix, 20, 0), s, into))
		require.Len(t, collected(into), 100)
		for _, r := range collected(into) {
			require.Zero(t, r.Status)
			require.Equal(t, Unknown, r.Verdict())
			if r.Kind == ReadRequest {
				require.Equal(t, errNoRequest.Error(), r.Err)
				continue
			}
			require.Equal(t, "connect: connection refused", r.Err)
		}
		require.EqualValues(t, 100, into.Count().Errors)
	})
}

// A server that closes connections, with or without an answer, costs the operations that it does not answer and no
// other.
func TestServerClosesConnections(t *testing.T) {
	both(t, 16, 0, func(t *testing.T, g Generator) {
		s := schedule(t, "300/1s", 0)
		p := NewPlan("r1", 5, Mix{New: 1}, 20, 0)
		w := newFake(t, p, s.Total())
		w.before = func(n int, out http.ResponseWriter, _ *http.Request) bool {
			switch n % 30 {
			case 10:
				out.Header().Set("Connection", "close")
			case 20:
				panic(http.ErrAbortHandler)
			}
			return false
		}
		into := NewResults(time.Now())
		require.NoError(t, g.Attack(t.Context(), w.url, p, s, into))
		failed := 0
		for _, r := range collected(into) {
			if r.Status == 0 {
				failed++
				require.Equal(t, "connection closed before the answer was complete", r.Err)
			}
		}
		require.Equal(t, 10, failed)
		require.EqualValues(t, 290, into.Count().Accepted)
		require.GreaterOrEqual(t, w.connections(), 20)
	})
}

func TestTimeout(t *testing.T) {
	both(t, 16, 50*time.Millisecond, func(t *testing.T, g Generator) {
		s := schedule(t, "100/100ms", 0)
		p := NewPlan("r1", 5, Mix{New: 1}, 20, 0)
		w := newFake(t, p, s.Total())
		w.before = func(n int, _ http.ResponseWriter, r *http.Request) bool {
			if n%2 == 0 {
				<-r.Context().Done()
			}
			return n%2 == 0
		}
		into := NewResults(time.Now())
		require.NoError(t, g.Attack(t.Context(), w.url, p, s, into))
		c := into.Count()
		require.EqualValues(t, 5, c.Errors)
		require.EqualValues(t, 5, c.Accepted)
		for _, r := range collected(into) {
			if r.Status == 0 {
				require.Equal(t, "no answer within 50ms", r.Err)
				require.GreaterOrEqual(t, r.Done-r.Sent, 50*time.Millisecond)
			}
		}
	})
}

// An attack that is stopped sends nothing more, and keeps the answers to all that it has sent.
func TestAttackIsStopped(t *testing.T) {
	f := func(stages string, at int) {
		both(t, 4, 30*time.Second, func(t *testing.T, g Generator) {
			ctx, cancel := context.WithCancel(t.Context())
			s := schedule(t, stages, 0)
			p := NewPlan("r1", 5, Mix{New: 1}, 20, 0)
			w := newFake(t, p, s.Total())
			w.before = func(n int, _ http.ResponseWriter, _ *http.Request) bool {
				if n == at {
					cancel()
				}
				if n >= at {
					<-ctx.Done()
				}
				return false
			}
			into := NewResults(time.Now())
			err := g.Attack(ctx, w.url, p, s, into)
			require.ErrorIs(t, err, context.Canceled)
			require.ErrorContains(t, err, fmt.Sprintf("of %d operations", s.Total()))
			all := collected(into)
			w.mu.Lock()
			defer w.mu.Unlock()
			require.Len(t, all, w.n, "what arrived has a result")
			require.GreaterOrEqual(t, len(all), at)
			require.Less(t, uint64(len(all)), s.Total()/10)
			for _, r := range all {
				require.EqualValues(t, 202, r.Status, r.Err)
			}
		})
	}
	f("1000/1m", 50)
	f("1/1h", 1) // while it waits for the next one to be due
	f("100000/1s", 2)
}

func TestAttackOfNothing(t *testing.T) {
	both(t, 4, 0, func(t *testing.T, g Generator) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		into := NewResults(time.Now())
		p := NewPlan("r1", 5, Mix{New: 1}, 20, 0)
		u := parseURL(t, "http://127.0.0.1:1")
		require.NoError(t, g.Attack(ctx, u, p, NewSchedule(0, nil), into))
		require.ErrorIs(t, g.Attack(ctx, u, p, schedule(t, "10/1s", 0), into), context.Canceled)
		require.Empty(t, collected(into))
	})
}

func TestClosedLoopSendsOneAfterTheOther(t *testing.T) {
	const connections, hold = 3, 300 * time.Millisecond
	t.Run("light", func(t *testing.T) {
		all := testClosedLoop(t, connections, func(u *url.URL, p *Plan, into *Results) {
			Light{Connections: connections}.Closed(t.Context(), u, p, hold, into)
		})
		for _, r := range all {
			require.Less(t, r.Due, hold)
		}
	})
	t.Run("vegeta", func(t *testing.T) {
		testClosedLoop(t, connections, func(u *url.URL, p *Plan, into *Results) { // which looks at the time before it sends
			Vegeta{MaxWorkers: connections}.Closed(t.Context(), u, p, hold, into)
		})
	})
}

func testClosedLoop(t *testing.T, connections int, send func(*url.URL, *Plan, *Results)) []*Result {
	t.Helper()
	p := NewPlan("r1", 5, DefaultMix, 20, 0)
	w := newFake(t, p, 100_000)
	var most, now atomic.Int64
	w.before = func(int, http.ResponseWriter, *http.Request) bool {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		now.Add(-1)
		return false
	}
	into := NewResults(time.Now())
	send(w.url, p, into)
	all := collected(into)
	require.Greater(t, len(all), connections)
	require.LessOrEqual(t, most.Load(), int64(connections))
	require.Equal(t, connections, w.connections())
	for i, r := range all {
		require.EqualValues(t, i, r.Seq)
		require.LessOrEqual(t, r.Due, r.Sent)
		require.NotZero(t, r.Status, r.Err)
	}
	return all
}

func TestReasonsAreTheSameForAllThatFailAlike(t *testing.T) {
	f := func(err error, want string) {
		t.Helper()
		require.Equal(t, want, reason(fmt.Errorf("outer: %w", err), 5*time.Second))
	}
	f(context.DeadlineExceeded, "no answer within 5s")
	f(io.EOF, "connection closed before the answer was complete")
	f(&net.DNSError{Name: "nowhere.test"}, "cannot find the address of nowhere.test")
	f(&net.OpError{Op: "write", Err: errors.New("broken")}, "write: broken")
	f(errors.New("what"), "outer: what")
}

func TestAnswers(t *testing.T) {
	const id = "019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a"
	f := func(kind Kind, status int, body, request string, code trade.Code, fault string) {
		t.Helper()
		r := Result{Kind: kind}
		r.answered(status, []byte(body))
		require.EqualValues(t, status, r.Status)
		require.EqualValues(t, len(body), r.BytesIn)
		require.Equal(t, request != "", !r.Request.IsZero())
		if request != "" {
			require.Equal(t, request, r.Request.String())
		}
		require.Equal(t, code, r.Code)
		require.Equal(t, fault, r.Err)
	}
	f(New, 202, `{"request_id":"`+id+`","status":"PENDING"}`, id, "", "")
	f(New, 202, `{ "status":"PENDING", "request_id" : "`+id+`" }`, id, "", "")
	f(New, 202, `{"request_id":"`+strings.ToUpper(id)+`"}`, "", "", "202 without a request id")
	f(New, 202, ``, "", "", "202 without a request id")
	f(New, 400, `{"code":"STALE_VERSION"}`, "", trade.StaleVersion, "")
	f(New, 503, `{"code":"QUEUE_FULL"}`, "", "QUEUE_FULL", "")
	f(New, 503, `{"code":"DELIVERY_UNKNOWN","request_id":"`+id+`"}`, id, "DELIVERY_UNKNOWN", "")
	f(New, 502, `<html>bad gateway</html>`, "", "", "")
	f(New, 400, `{"code":"`+strings.Repeat("X", 65)+`"}`, "", "", "")
	f(New, 200, `{"code":"X"}`, "", "", "")
	f(ReadRequest, 200, `{"request_id":"`+id+`"}`, "", "", "")
	f(ReadTrade, 404, `{"code":"NOT_FOUND"}`, "", notFound, "")
}

func TestVegetaResult(t *testing.T) {
	began := time.Now()
	f := func(r Result, method, url, fault string) {
		t.Helper()
		r.Seq, r.Due, r.Sent, r.Done, r.BytesIn, r.BytesOut = 7, time.Second, 2*time.Second, 3*time.Second, 10, 20
		v := r.Vegeta(began, "attack")
		require.Equal(t, []any{"attack", uint64(7), r.Status, began.Add(time.Second), 2 * time.Second, uint64(10), uint64(20),
			fault, method, url},
			[]any{v.Attack, v.Seq, v.Code, v.Timestamp, v.Latency, v.BytesIn, v.BytesOut, v.Error, v.Method, v.URL})
	}
	f(Result{Status: 202}, "POST", "/api/v1/trades", "")
	f(Result{Status: 400, Kind: Stale}, "POST", "/api/v1/trades", "400 Bad Request")
	f(Result{Err: "no answer within 5s"}, "POST", "/api/v1/trades", "no answer within 5s")
	f(Result{Status: 200, Kind: ReadTrade}, "GET", "/api/v1/trades/{trade_id}", "")
	f(Result{Status: 200, Kind: ReadRequest}, "GET", "/api/v1/requests/{request_id}", "")
}
