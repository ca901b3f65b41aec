package loadtest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

const operations = 600 // of a test's attack

// attacked is a store after an attack.
type attacked struct {
	*tinyStore
	api     *API
	plan    *Plan
	results *Results
}

func newAttacked(t *testing.T) *attacked {
	t.Helper()
	a := &attacked{tinyStore: newStore(t), plan: NewPlan("unit", 7, DefaultMix, 40, 1000), results: NewResults(time.Now())}
	a.api = NewAPI(a.url, 8, 5*time.Second)
	t.Cleanup(a.api.Close)
	a.send(a.plan, a.results, 0, operations)
	return a
}

// reconcile compares by HTTP alone.
func (a *attacked) reconcile(seen ...Finality) Reconciliation {
	a.t.Helper()
	rec, err := Reconcile(a.t.Context(), a.api, nil, a.plan, a.results,
		ReconcileConfig{Wait: 100 * time.Millisecond, Concurrency: 4, Seen: seen})
	require.NoError(a.t, err)
	require.Equal(a.t, "HTTP", rec.By)
	return rec
}

// one returns the first request of a kind that was accepted, and the number of its operation.
func (a *attacked) one(kind Kind) (*filed, *Result) {
	a.t.Helper()
	for result := range a.results.All() {
		if result.Kind == kind && result.Status == http.StatusAccepted {
			return a.requests[result.Request], result
		}
	}
	a.t.Fatalf("no %s was accepted", kind)
	return nil, nil
}

func clean(t *testing.T, rec Reconciliation) {
	t.Helper()
	require.Zero(t, rec.Lost, rec)
	require.Zero(t, rec.Doubled, rec)
	require.Zero(t, rec.Stuck, rec)
	require.Zero(t, rec.Wrong, rec)
	require.Equal(t, rec.Accepted, rec.Success+rec.Failed)
}

func TestReconcileIsGreen(t *testing.T) {
	a := newAttacked(t)
	rec := a.reconcile()
	clean(t, rec)
	require.EqualValues(t, a.results.Count().Accepted, rec.Accepted)
	require.EqualValues(t, len(a.rows()), rec.Rows)
	require.Zero(t, rec.MayExist)
}

func TestReconcileFindsWhatIsBroken(t *testing.T) {
	f := func(name string, spoil func(a *attacked), pick func(Reconciliation) Offenders, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			a := newAttacked(t)
			a.with(func() { spoil(a) })
			rec := a.reconcile()
			offenders := pick(rec)
			require.EqualValues(t, 1, offenders.Count, rec)
			require.Len(t, offenders.First, 1)
			require.Contains(t, offenders.First[0], want)
			require.EqualValues(t, 1, rec.Lost.Count+rec.Doubled.Count+rec.Stuck.Count+rec.Wrong.Count, rec)
			require.EqualValues(t, rec.Accepted-1, rec.Success+rec.Failed)
		})
	}
	lost := func(r Reconciliation) Offenders { return r.Lost }
	stuck := func(r Reconciliation) Offenders { return r.Stuck }
	wrong := func(r Reconciliation) Offenders { return r.Wrong }
	f("a record was never written", func(a *attacked) {
		v, _ := a.one(Higher)
		v.shown = shown{trade.Failed, trade.NotDelivered}
	}, lost, "answered 202, ended NOT_DELIVERED")
	f("a request is not known", func(a *attacked) {
		v, _ := a.one(Higher)
		delete(a.requests, v.id)
	}, lost, "answered 202, GET answers 404")
	f("a row is gone", func(a *attacked) {
		v, _ := a.one(Higher)
		shownAs := *v
		a.requests[v.id] = &shownAs
		v.shown = shown{trade.Failed, trade.StaleVersion}
	}, lost, "this version is not stored")
	f("a request stays PENDING", func(a *attacked) {
		v, _ := a.one(Higher)
		v.shown = shown{status: trade.Pending}
	}, stuck, "still PENDING")
	f("a status was flipped", func(a *attacked) {
		v, _ := a.one(Higher)
		shownAs := *v
		shownAs.shown = shown{trade.Failed, trade.StaleVersion}
		a.requests[v.id] = &shownAs
	}, wrong, "no higher version came first")
	f("another trade is shown", func(a *attacked) {
		v, _ := a.one(Higher)
		shownAs := *v
		shownAs.trade.Version += 5
		a.requests[v.id] = &shownAs
	}, wrong, "GET shows trade")
	f("an answer is none", func(a *attacked) {
		v, _ := a.one(Higher)
		a.gets = func(out http.ResponseWriter, r *http.Request) bool {
			mine := strings.HasSuffix(r.URL.Path, v.id.String())
			if mine {
				fmt.Fprint(out, `<html>welcome</html>`)
			}
			return mine
		}
	}, wrong, "not an answer of Trade Store")
}

// What is wrong with the rows is counted beside the requests, all of which ended as they may.
func TestReconcileFindsWrongRows(t *testing.T) {
	f := func(name string, spoil func(a *attacked), doubled, wrong string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			a := newAttacked(t)
			a.with(func() { spoil(a) })
			rec := a.reconcile()
			require.Equal(t, rec.Accepted, rec.Success+rec.Failed, rec)
			require.Zero(t, rec.Lost.Count+rec.Stuck.Count)
			first := append(append([]string{""}, rec.Doubled.First...), "")[1]
			require.Contains(t, first, doubled)
			require.EqualValues(t, doubled != "", rec.Doubled.Count == 1, rec)
			first = append(append([]string{""}, rec.Wrong.First...), "")[1]
			require.Contains(t, first, wrong)
			require.EqualValues(t, wrong != "", rec.Wrong.Count == 1, rec)
		})
	}
	f("fields of nobody", func(a *attacked) {
		v, _ := a.one(Higher)
		v.trade.BookID = "ELSE"
	}, "", "with fields that nobody sent")
	f("a replace has no effect", func(a *attacked) {
		v, result := a.one(Replace)
		for _, older := range a.log {
			if older.trade.Key() == v.trade.Key() && older != v {
				a.log = append(a.log, older) // as if it had come last
				break
			}
		}
		require.NotEqual(a.t, result.Seq, a.plan.Op(result.Seq).Of)
	}, "", "replaced it")
	f("a version of nobody", func(a *attacked) {
		v, _ := a.one(New)
		more := v.trade
		more.Version += 100
		a.file(more)
	}, "nobody sent that version", "")
	f("a refused trade", func(a *attacked) {
		for result := range a.results.All() {
			if result.Kind == Past {
				a.file(a.plan.Op(result.Seq).Trade)
				return
			}
		}
	}, "", "which was refused with 400")
}

func TestReconcileWaitsForTheBacklog(t *testing.T) {
	a := newAttacked(t)
	a.waits = true
	a.send(a.plan, a.results, operations, operations+100)
	a.reached(func() {
		a.waits = false
		a.decide()
	}, 50)
	var calls, last uint64
	rec, err := Reconcile(t.Context(), a.api, nil, a.plan, a.results, ReconcileConfig{Progress: func(done, total uint64) {
		require.LessOrEqual(t, done, total)
		calls, last = calls+1, total-done
	}})
	require.NoError(t, err)
	clean(t, rec)
	require.NotZero(t, calls)
	require.Zero(t, last, "reads that are left")
}

func TestReconcileRemembersWhatWasSeen(t *testing.T) {
	a := newAttacked(t)
	v, result := a.one(Higher)
	success := State{Status: trade.Success, TradeID: v.trade.TradeID, Version: v.trade.Version}
	clean(t, a.reconcile(Finality{Seq: result.Seq, State: success}, Finality{Seq: result.Seq + 1}))

	stale := success
	stale.Status, stale.Reason = trade.Failed, trade.StaleVersion
	rec := a.reconcile(Finality{Seq: result.Seq, State: stale})
	require.EqualValues(t, 1, rec.Wrong.Count, rec)
	require.Contains(t, rec.Wrong.First[0], v.id.String())
	require.Contains(t, rec.Wrong.First[0], "shown as FAILED STALE_VERSION, and later as SUCCESS")
}

// An operation without an answer may exist or not; both are right.
func TestReconcileWithoutAnAnswer(t *testing.T) {
	a := newAttacked(t)
	stored, result := a.one(New)
	unanswered := &Result{}
	for r := range a.results.All() {
		if r.Seq == result.Seq {
			unanswered = r
		}
	}
	unanswered.Status, unanswered.Request = 0, trade.RequestID{}
	rec := a.reconcile()
	clean(t, rec)
	require.EqualValues(t, 1, rec.MayExist)
	a.with(func() { stored.shown = shown{trade.Failed, trade.NotDelivered} })
	rec = a.reconcile()
	clean(t, rec)
	require.EqualValues(t, 1, rec.MayExist)
}

// A server that is full or gone for a moment is asked again; one that stays away ends the comparison.
func TestReconcileAsksAgain(t *testing.T) {
	a := newAttacked(t)
	turn := 0
	a.gets = func(out http.ResponseWriter, _ *http.Request) bool {
		if turn++; turn%100 != 0 {
			return false
		}
		if turn%200 == 0 {
			panic(http.ErrAbortHandler) // closes the connection
		}
		reply(out, http.StatusServiceUnavailable, map[string]any{"code": "STORE_UNAVAILABLE"})
		return true
	}
	clean(t, a.reconcile())
	require.Greater(t, turn, 100)

	a.with(func() {
		a.gets = func(out http.ResponseWriter, _ *http.Request) bool {
			out.Header().Set("Retry-After", "1")
			reply(out, http.StatusServiceUnavailable, map[string]any{"code": "STORE_UNAVAILABLE"})
			return true
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	a.reached(cancel, 3)
	_, err := Reconcile(ctx, a.api, nil, a.plan, a.results, ReconcileConfig{})
	require.ErrorContains(t, err, "cannot reconcile: ")
}

// reached calls f when so many more reads were asked for.
func (a *attacked) reached(f func(), more int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, gets := a.asked+more, a.gets
	a.gets = func(out http.ResponseWriter, r *http.Request) bool {
		if a.asked == until {
			f()
		}
		return gets != nil && gets(out, r)
	}
}
