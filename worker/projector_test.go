package worker

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A request store that is down never stops applying; when it is back, every outcome gets there (rule A7).
func TestAFailingRequestStoreDoesNotStopApplying(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Project" {
			return fmt.Errorf("throttled")
		}
		return nil
	})
	w := r.start(nil)
	r.post("T", 100)
	r.applied(100)
	require.NoError(t, w.Ready())
	r.eventually("repeated", func() bool { return testutil.ToFloat64(w.metrics.projectionErrors) > 2 })
	assert.Positive(t, w.value("tradestore_projection_lag_seconds"))
	r.store.failing(nil)
	r.reconcile()
	r.eventually("lag gone", func() bool { return w.value("tradestore_projection_lag_seconds") == 0 })
	w.drain()
	assert.InDelta(t, 100, w.value("tradestore_projection_outcomes_total", "SUCCESS"), 0)
}

// A crash between the request store and the cursor projects the same outcomes again, which changes nothing.
func TestProjectionIsRepeatedFromTheCursor(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	r.store.failing(func(call string, n int, after bool, _ *trade.Batch) error {
		if call == "Projected" && !after && n <= 3 {
			return fmt.Errorf("killed")
		}
		return nil
	})
	var shown atomic.Int32
	w := r.start(func(_ *Config, d *Deps) { d.Shown = func() { shown.Add(1) } })
	r.post("T", 20)
	r.applied(20)
	r.reconcile()
	w.drain()
	assert.Positive(t, shown.Load(), "the calls that wait are woken")
	assert.Greater(t, r.store.count("Project"), 3)
	assert.Equal(t, 20, r.store.cursor[0])
}

// Where clients read outcomes from the journal, nothing is copied, and the cursor reaches the end, also in a drain.
func TestOutcomesAtCommitOnlyMoveTheCursor(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	r.store.failing(func(call string, n int, _ bool, _ *trade.Batch) error {
		if call == "Pass" && n <= 2 {
			return fmt.Errorf("down")
		}
		return nil
	})
	passed := func() (n int) {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		for _, at := range r.store.cursor {
			n += at
		}
		return n
	}
	var shown atomic.Int32
	w := r.start(func(c *Config, d *Deps) {
		c.ProjectInterval, d.OutcomesAtCommit, d.Shown = often, true, func() { shown.Add(1) }
	})
	r.post("T", 20)
	r.eventually("passed", func() bool { return passed() == 20 })
	assert.InDelta(t, 20, w.value("tradestore_projection_outcomes_total", "SUCCESS"), 0)
	assert.Positive(t, shown.Load(), "the calls that wait are woken")
	w.drain()
	w = r.start(func(c *Config, d *Deps) { c.ProjectInterval, d.OutcomesAtCommit = time.Hour, true })
	r.post("T", 5)
	r.applied(25)
	w.drain()
	require.Equal(t, 25, passed())
	for _, call := range []string{"Unprojected", "Project", "Projected"} {
		assert.Zero(t, r.store.count(call), call)
	}
}

// slowRequests is a request store that projects a few outcomes within the time limit, and leaves the others.
type slowRequests struct {
	*fake
	most int
}

func (s *slowRequests) Project(ctx context.Context, outcomes []trade.Decision) error {
	n := min(s.most, len(outcomes))
	if err := s.fake.Project(ctx, outcomes[:n]); err != nil || n == len(outcomes) {
		return err
	}
	return &trade.NotProjected{Left: outcomes[n:], Err: context.DeadlineExceeded}
}

// The cursors move over what a request store takes in time, however little it is, and that has something of every
// partition.
func TestASlowRequestStoreServesEveryPartition(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Unprojected" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	w := r.start(func(c *Config, d *Deps) { c.ProjectLimit, d.Requests = 64, &slowRequests{r.store, 3} })
	r.post("T", 100)
	r.applied(100)
	r.store.failing(func(call string, n int, after bool, _ *trade.Batch) error {
		if call == "Projected" && n == 2 && !after {
			for p := range int32(3) {
				assert.Equal(t, 1, r.store.cursor[p], "after one step, for partition %d", p)
			}
		}
		return nil
	})
	r.reconcile()
	r.eventually("lag gone", func() bool { return w.value("tradestore_projection_lag_seconds") == 0 })
	w.drain()
}

// busyRequests is a request store so slow that it answers no call with more than one outcome in time.
type busyRequests struct{ *fake }

func (s *busyRequests) Project(ctx context.Context, outcomes []trade.Decision) error {
	if len(outcomes) > 1 {
		return &trade.NotProjected{Left: outcomes, Err: fmt.Errorf("no answer in time")}
	}
	return s.fake.Project(ctx, outcomes)
}

func TestABusyRequestStoreGetsSmallerSteps(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	w := r.start(func(_ *Config, d *Deps) { d.Requests = &busyRequests{r.store} })
	r.post("T", 100)
	r.applied(100)
	r.eventually("all are projected", func() bool { return r.store.projected() == 100 })
	w.drain()
}

// pickyRequests is a request store that refuses the first outcome of the log of partition 0 for good, and gives no
// answer for that of partition 1, until it is healed.
type pickyRequests struct {
	*fake
	healed atomic.Bool
}

func (s *pickyRequests) Project(ctx context.Context, outcomes []trade.Decision) error {
	not := &trade.NotProjected{Err: fmt.Errorf("as the test wants it")}
	var taken []trade.Decision
	for _, o := range outcomes {
		switch {
		case s.healed.Load() || o.Offset != 0 || o.Partition > 1:
			taken = append(taken, o)
		case o.Partition == 0:
			not.Refused = append(not.Refused, o)
		default:
			not.Left = append(not.Left, o)
		}
	}
	if err := s.fake.Project(ctx, taken); err != nil {
		return err
	}
	s.mu.Lock()
	for _, o := range not.Refused {
		s.refused[o.ID] = true
	}
	s.mu.Unlock()
	if len(taken) == 0 {
		not.Left, not.Refused = append(not.Left, not.Refused...), nil
	}
	if len(not.Left)+len(not.Refused) == 0 {
		return nil
	}
	return not
}

// An outcome that the request store refuses for good holds up no other one. One that it does not answer holds up its
// own partition, and no other.
func TestARefusedOutcomeHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 3)
	requests := &pickyRequests{fake: r.store}
	w := r.start(func(_ *Config, d *Deps) { d.Requests = requests })
	r.post("T", 300)
	r.applied(300)
	cursors := func() (at [3]int, all [3]int) {
		r.store.mu.Lock()
		defer r.store.mu.Unlock()
		for p := range int32(3) {
			at[p], all[p] = r.store.cursor[p], len(r.store.journal[p])
		}
		return at, all
	}
	r.eventually("the others are projected", func() bool {
		at, all := cursors()
		return at[0] == all[0] && at[2] == all[2]
	})
	at, _ := cursors()
	require.Zero(t, at[1], "its first outcome may yet be taken")
	require.InDelta(t, 1, w.value("tradestore_projection_refused_total"), 0)
	require.Positive(t, w.value("tradestore_projection_lag_seconds"))
	require.Contains(t, w.log.String(), "the request store refuses an outcome")
	require.NoError(t, w.Ready())

	s := w.reaper()
	refused := r.store.journal[0][0]
	r.store.mu.Lock()
	r.store.entries = append(r.store.entries, trade.PendingRequest{ID: refused.ID, TradeID: refused.TradeID,
		AcceptedAt: refused.AcceptedAt.Add(-time.Hour)})
	r.store.mu.Unlock()
	orphan := r.opened("orphan")
	require.ErrorContains(t, s.step(t.Context()), "as the test wants it")
	require.InDelta(t, 1, w.value("tradestore_orphan_unshown_requests"), 0)
	s.now += long
	require.Error(t, s.step(t.Context()))
	r.store.mu.Lock()
	require.Contains(t, r.store.closed, orphan.ID, "the refused outcome does not hold up the orphans")
	r.store.mu.Unlock()

	requests.healed.Store(true)
	s.after(0)
	require.InDelta(t, 0, w.value("tradestore_orphan_unshown_requests"), 0)
	s.metricsAre(1, 1, 0, 0)
	r.eventually("all projected", func() bool { at, all := cursors(); return at == all && r.store.projected() >= 300 })
	w.drain()
}

// What a worker left unprojected, its successor projects, also without a new commit.
func TestTheNextOwnerProjectsTheRest(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Project" {
			return fmt.Errorf("throttled")
		}
		return nil
	})
	first := r.start(nil)
	r.post("T", 20)
	r.applied(20)
	first.drain()
	require.Zero(t, r.store.projected())
	r.store.failing(nil)
	second := r.start(nil)
	r.reconcile()
	second.drain()
}

// A drain projects what the last batches decided.
func TestADrainProjectsTheLastOutcomes(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 2)
	w := r.start(func(c *Config, _ *Deps) { c.ProjectInterval = time.Hour })
	r.post("T", 50)
	r.applied(50)
	w.drain()
	require.Equal(t, 50, r.store.projected())
}

func TestSummariesAreRepeatedAndCounted(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	w := r.start(func(c *Config, _ *Deps) { c.SummaryInterval = time.Millisecond })
	r.eventually("summarized", func() bool { return w.value("tradestore_summary_ranges_total") >= 4 })
	require.Zero(t, w.value("tradestore_summary_errors_total"))
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Summarize" {
			return fmt.Errorf("refused")
		}
		return nil
	})
	r.eventually("counted", func() bool { return w.value("tradestore_summary_errors_total") > 0 })
	require.NoError(t, w.Ready())
}

// A sweep takes the earlier of the two clocks for the time, and deletes nothing when they are far apart (rule T11).
func TestASweepTrustsNoClockAlone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	f := func(ahead time.Duration, want time.Time) {
		t.Helper()
		store := newFake(t, trade.TopicID{1}, 1)
		store.now, store.ahead = func() time.Time { return now }, ahead
		w := &Worker{cfg: DefaultConfig(), metrics: newMetrics(&Worker{})}
		w.deps.Maintainer, w.deps.Now = store, func() time.Time { return now }
		err := w.sweepOnce(t.Context())
		require.Equal(t, want, store.sweptAt)
		require.Equal(t, want.IsZero(), err != nil)
		if err != nil {
			require.ErrorContains(t, err, "nothing is deleted: the clock of this process says 2026-03-04T12:00:00Z, the one of")
		}
	}
	f(0, now)
	f(20*time.Second, now)
	f(-20*time.Second, now.Add(-20*time.Second))
	f(31*time.Second, time.Time{})
	f(-31*time.Second, time.Time{})
	f(-30*day, time.Time{})
	f(30*day, time.Time{})
}

func TestSweepsAreRepeatedAndCounted(t *testing.T) {
	t.Parallel()
	r := newFixture(t, 1)
	w := r.start(func(c *Config, _ *Deps) { c.SweepInterval = time.Millisecond })
	r.eventually("swept", func() bool { return w.value("tradestore_swept_total", "dead_letters") >= 8 })
	assert.GreaterOrEqual(t, w.value("tradestore_swept_total", "journal_days"), 2.0)
	assert.GreaterOrEqual(t, r.store.count("MakeDays"), 3)
	assert.Positive(t, w.value("tradestore_sweep_last_success_timestamp_seconds"))
	r.store.failing(func(call string, _ int, _ bool, _ *trade.Batch) error {
		if call == "Sweep" {
			return fmt.Errorf("locked")
		}
		return nil
	})
	r.eventually("counted", func() bool { return w.value("tradestore_sweep_errors_total") > 0 })
	require.NoError(t, w.Ready())
	w.drain()
}
