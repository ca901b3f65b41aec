package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade"
)

// Every class, for a part of one record and for a larger one: one line for each case.
func TestActionForEveryClass(t *testing.T) {
	t.Parallel()
	one, many := &trade.Batch{Records: make([]trade.Record, 1)}, &trade.Batch{Records: make([]trade.Record, 2)}
	huge := &trade.Batch{Records: make([]trade.Record, 10_000)}
	late := fmt.Errorf("transaction: %w", context.DeadlineExceeded)
	tested := map[trade.Class]bool{}
	f := func(class trade.Class, cause error, part *trade.Batch, want action) {
		t.Helper()
		tested[class] = true
		err := trade.Classed(class, "apply: %w", cause)
		assert.Equal(t, want, actionFor(err, part), "%s, %d records", class, len(part.Records))
	}
	failed := errors.New("failed")
	f(trade.Unavailable, failed, one, actionRetry)
	f(trade.Unavailable, failed, many, actionRetry)
	f(trade.Unavailable, failed, huge, actionRetry)
	f(trade.Unavailable, late, one, actionRetry)
	f(trade.Unavailable, late, many, actionShrink)
	f(trade.Unavailable, late, huge, actionShrink)
	f(trade.Repeatable, failed, one, actionRetry)
	f(trade.Repeatable, failed, many, actionRetry)
	f(trade.Repeatable, late, many, actionRetry)
	f(trade.BadData, failed, one, actionRefuse)
	f(trade.BadData, failed, many, actionSplit)
	f(trade.BadData, failed, huge, actionSplit)
	f(trade.BadData, late, many, actionSplit)
	f(trade.CommitUnknown, failed, one, actionInspect)
	f(trade.CommitUnknown, failed, many, actionInspect)
	f(trade.CommitUnknown, late, many, actionInspect)
	f(trade.Fenced, failed, one, actionDrop)
	f(trade.Fenced, failed, many, actionDrop)
	f(trade.Fenced, late, many, actionDrop)
	f(trade.Broken, failed, one, actionStop)
	f(trade.Broken, failed, many, actionStop)
	f(trade.Broken, late, many, actionStop)
	f(trade.Broken+1, failed, one, actionStop) // a class that nobody knows stops the worker
	require.Len(t, tested, int(trade.Broken)+2)

	for _, part := range []*trade.Batch{one, many, huge} {
		assert.Equal(t, actionDone, actionFor(nil, part))
		assert.Equal(t, actionRetry, actionFor(failed, part), "an error without a class counts as Unavailable")
	}
}

// After a COMMIT without an answer the positions tell: all at the end of the part, all at its start, or anything else.
func TestActionAfterCommit(t *testing.T) {
	t.Parallel()
	f := func(first, third int64, want action) {
		t.Helper()
		part := &trade.Batch{Spans: []trade.Span{{Partition: 0, From: 5, Next: 9}, {Partition: 2, From: 0, Next: 1}}}
		positions := []trade.Position{{NextOffset: first}, {Partition: 1, NextOffset: 77}, {Partition: 2, NextOffset: third}}
		assert.Equal(t, want, actionAfterCommit(part, positions), "%d, %d", first, third)
	}
	f(9, 1, actionDone)
	f(5, 0, actionRetry)
	f(9, 0, actionDrop)
	f(5, 1, actionDrop)
	f(10, 1, actionDrop)
	f(7, 0, actionDrop)
	f(4, 0, actionDrop)
}

// Every class that is repeated, failing before or after the call took effect, ends with every request stored once.
func TestApplyFaultsHeal(t *testing.T) {
	t.Parallel()
	f := func(class trade.Class, after bool) {
		t.Helper()
		t.Run(fmt.Sprintf("%s/persisted=%t", class, after), func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 2)
			r.store.failing(func(call string, n int, late bool, _ *trade.Batch) error {
				if call == "Apply" && late == after && n%2 == 1 && n < 20 {
					return trade.Classed(class, "injected")
				}
				return nil
			})
			r.post("T", 50)
			w := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = 10 })
			r.applied(50)
			r.reconcile()
			w.drain()
		})
	}
	f(trade.Unavailable, false)
	f(trade.Unavailable, true) // breaks the contract of Apply, and is still harmless: the fence sees it
	f(trade.Repeatable, false)
	f(trade.Repeatable, true)
	f(trade.CommitUnknown, false)
	f(trade.CommitUnknown, true)
	f(trade.Fenced, false)
}

func TestOtherCallsFailAndHeal(t *testing.T) {
	t.Parallel()
	f := func(failing string, after bool) {
		t.Helper()
		t.Run(fmt.Sprintf("%s/persisted=%t", failing, after), func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 2)
			r.store.failing(func(call string, n int, late bool, _ *trade.Batch) error {
				if call == failing && late == after && n < 4 {
					return trade.Classed(trade.Unavailable, "injected")
				}
				return nil
			})
			r.post("T", 30)
			w := r.start(func(c *Config, _ *Deps) { c.SweepInterval = time.Millisecond })
			r.applied(30)
			r.reconcile()
			r.eventually("the call succeeds", func() bool {
				return r.store.count(failing) > 4 || failing == "Positions" || failing == "Projected" || failing == "Project"
			})
			w.drain()
		})
	}
	for _, call := range []string{"Positions", "Unprojected", "Project", "Projected", "MakeDays", "Sweep"} {
		f(call, false)
		f(call, true)
	}
}

func TestABrokenAssumptionStopsLoudly(t *testing.T) {
	t.Parallel()
	f := func(name, call string, fail func() error, want string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newFixture(t, 2)
			r.store.failing(func(c string, n int, after bool, _ *trade.Batch) error {
				if c == call && !after {
					return fail()
				}
				return nil
			})
			r.post("T", 10)
			w := r.start(nil)
			require.ErrorContains(t, w.stopped(), want)
			require.Empty(t, r.store.trades)
			require.Zero(t, r.store.next())
		})
	}
	broken := func() error { return trade.Classed(trade.Broken, "42P01") }
	f("apply", "Apply", broken, "cannot apply batch of")
	f("panic", "Apply", func() error { panic("out of bounds") }, "panic: out of bounds")
	f("positions", "Positions", broken, "42P01")
	f("days", "MakeDays", broken, "42P01")
}

func TestAPanicBesideTheLanesStopsLoudlyToo(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Unprojected" {
			panic("out of bounds")
		}
		return nil
	})
	r.post("T", 1)
	require.ErrorContains(t, r.start(nil).stopped(), "panic: out of bounds")
}

// A record that the store refuses is found by halving; all others are stored.
func TestRefusedRecordsBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	bad := []string{"T-3", "T-4", "T-29"}
	r.store.failing(refuses(bad...))
	r.post("T", 30)
	w := r.start(nil)
	r.applied(30)
	r.eventually("all projected", func() bool { return r.store.projected() == 30 })
	w.drain()
	assert.Len(t, r.store.trades, 27)
	var dead []string
	for _, d := range r.store.dead {
		dead = append(dead, d.Trade.TradeID)
		assert.Equal(t, trade.Failed, r.store.status[d.ID])
		assert.Equal(t, "the store refuses the record", d.Fault)
		assert.Contains(t, w.log.String(), d.ID.String())
	}
	assert.ElementsMatch(t, bad, dead)
	assert.InDelta(t, 3, testutil.ToFloat64(w.metrics.refused), 0)
	assert.InDelta(t, 3, testutil.ToFloat64(w.metrics.deadLetters), 0)
	assert.Positive(t, testutil.ToFloat64(w.metrics.splits))
	assert.Equal(t, 3, strings.Count(w.log.String(), `"dead letter"`))
}

// refuses fails batches that hold a good record of one of the trades.
func refuses(ids ...string) func(string, int, bool, *trade.Batch) error {
	return func(call string, _ int, after bool, b *trade.Batch) error {
		if call == "Apply" && !after && slices.ContainsFunc(b.Records, func(r trade.Record) bool {
			return r.Fault == "" && (len(ids) == 0 || slices.Contains(ids, r.Trade.TradeID))
		}) {
			return trade.Classed(trade.BadData, "23514")
		}
		return nil
	}
}

func TestASeriesOfRefusedRecordsStopsTheWorker(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.store.failing(refuses())
	r.post("T", 20)
	w := r.start(func(c *Config, _ *Deps) { c.MaxRefused = 5 })
	require.ErrorContains(t, w.stopped(), "the store refuses too many records (the limit is 5 in a row), "+
		"the last one at partition 0, offset 5: 23514")
	assert.Len(t, r.store.dead, 5)
	assert.Equal(t, int64(5), r.store.next())
}

func TestGoodRecordsEndASeries(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	var bad []string
	for i := range 20 {
		if i%2 == 0 {
			bad = append(bad, fmt.Sprintf("T-%d", i))
		}
	}
	r.store.failing(refuses(bad...))
	r.post("T", 20)
	w := r.start(func(c *Config, _ *Deps) { c.MaxRefused = 2 })
	r.applied(20)
	w.drain()
	assert.Len(t, r.store.dead, 10)
}

func TestADeadLetterThatIsRefusedStopsTheWorker(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.store.failing(func(call string, _ int, after bool, _ *trade.Batch) error {
		if call == "Apply" && !after {
			return trade.Classed(trade.BadData, "22021")
		}
		return nil
	})
	r.post("T", 3)
	require.ErrorContains(t, r.start(nil).stopped(), "a dead letter can't be stored: partition 0, offset 0")
	require.Zero(t, r.store.next())
}

// While the store is away the worker is not ready, says so, and nothing is lost.
func TestAStoreThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	w := r.start(nil)
	r.post("T", 10)
	r.applied(10)
	r.store.failing(func(string, int, bool, *trade.Batch) error { return fmt.Errorf("connection refused") })
	r.post("U", 10)
	r.eventually("not ready", func() bool { return w.Ready() != nil })
	assert.ErrorContains(t, w.Ready(), "connection refused")
	r.eventually("lag shows", func() bool {
		return w.value("tradestore_apply_lag_records") > 0 && w.value("tradestore_apply_lag_seconds") > 0
	})
	r.store.failing(nil)
	r.applied(20)
	r.reconcile()
	r.eventually("ready again", func() bool { return w.Ready() == nil })
	assert.Zero(t, w.value("tradestore_apply_lag_records"))
	assert.Positive(t, testutil.ToFloat64(w.metrics.retries.WithLabelValues("unavailable")))
	w.drain()
}

// A transaction that does not fit its time limit is made smaller until it does.
func TestSlowStoreGetsSmallerTransactions(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.store.failing(func(call string, _ int, after bool, b *trade.Batch) error {
		if call == "Apply" && !after && len(b.Records) > 3 {
			return trade.Classed(trade.Unavailable, "transaction: %w", context.DeadlineExceeded)
		}
		return nil
	})
	r.post("T", 64)
	w := r.start(nil)
	r.applied(64)
	r.reconcile()
	w.drain()
}

// Halving keeps every record once, in order, and the spans adjacent over the same ground.
func TestHalvesAreAdjacent(t *testing.T) {
	t.Parallel()
	test := t
	rapid.Check(t, func(t *rapid.T) {
		whole := &trade.Batch{Generation: 1}
		for p := range int32(rapid.IntRange(1, 4).Draw(t, "partitions")) {
			from := rapid.Int64Range(0, 100).Draw(t, "from")
			span := trade.Span{Partition: p, From: from, Next: from, LeaderEpoch: p}
			for range rapid.IntRange(1, 5).Draw(t, "records") {
				offset := span.Next + rapid.Int64Range(0, 3).Draw(t, "hole")
				whole.Records = append(whole.Records, trade.Record{Request: trade.Request{Partition: p}, Offset: offset})
				span.Next = offset + 1
			}
			whole.Spans = append(whole.Spans, span)
		}
		todo, at := []*trade.Batch{whole}, map[int32]int64{}
		for _, s := range whole.Spans {
			at[s.Partition] = s.From
		}
		var records []trade.Record
		check := newFake(test, trade.TopicID{}, 4)
		for len(todo) > 0 {
			part := todo[0]
			check.check(part)
			if len(part.Records) > 1 {
				todo = append(halves(part), todo[1:]...)
				continue
			}
			for _, s := range part.Spans {
				require.Equal(t, at[s.Partition], s.From)
				at[s.Partition] = s.Next
			}
			records = append(records, part.Records...)
			todo = todo[1:]
		}
		require.Equal(t, whole.Records, records)
		for _, s := range whole.Spans {
			require.Equal(t, s.Next, at[s.Partition])
		}
	})
}
