package loadtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tradestore/trade"
)

// ReconcileConfig says how to compare.
type ReconcileConfig struct {
	Wait        time.Duration            // how long to wait for outcomes, from the call; default 60 s
	Concurrency int                      // reads at once; default 32
	Seen        []Finality               // seen by a Follower: it must not have changed
	Progress    func(done, total uint64) // called from time to time, not concurrently; may be nil
}

const (
	readTimeout  = 10 * time.Second // of a read, or the end of the wait if that is later
	drainSample  = 256              // requests whose outcomes show the end of the backlog
	progressStep = 256              // reads between two calls of Progress
	maxProblems  = 1000             // kept with their text
)

// Reconcile waits for the outcomes of all accepted requests, and compares what GET shows and the tables hold with the
// answers. Conclusions about order use only the clock of the generator. Without a database it uses GET alone; then a
// trade that was stored twice with the same fields looks as if it was stored once. Errors: the target or the database
// does not answer; the returned result is not complete.
func Reconcile(ctx context.Context, api *API, db *Database, p *Plan, results *Results,
	cfg ReconcileConfig) (Reconciliation, error) {
	began := time.Now()
	r := &reconciler{api: api, db: db, plan: p, results: results, cfg: cfg, problems: map[uint64]string{},
		states: []shown{{}}}
	r.cfg.Wait = cmp.Or(cfg.Wait, time.Minute)
	r.cfg.Concurrency = cmp.Or(cfg.Concurrency, 32)
	r.deadline = began.Add(r.cfg.Wait)
	r.find()
	err := r.drain(ctx, began)
	if err == nil {
		err = r.compare(ctx)
	}
	r.tally.fill(&r.rec)
	r.rec.Took = time.Since(began).Seconds()
	if err != nil {
		return r.rec, fmt.Errorf("cannot reconcile: %w", err)
	}
	return r.rec, nil
}

// postRef is a POST to compare, and the state shown last. There may be millions of them.
type postRef struct {
	group uint64 // the operation that created the trade id
	seq   uint64
	shown uint16 // index into reconciler.states
}

// reconciler is one comparison. The readers do not change what find writes; each writes the shown of its own posts.
type reconciler struct {
	api      *API
	db       *Database // nil: HTTP alone
	plan     *Plan
	results  *Results
	cfg      ReconcileConfig
	deadline time.Time // for outcomes

	index   []postRef // sorted by group, then by number
	groups  []uint32  // where in index each group begins
	queried []uint32  // where in index the requests with a relevant outcome are

	rec      Reconciliation
	tally    tally
	last     uint64 // the highest number
	total    uint64
	counting bool // done grows: the sample is done
	done     atomic.Uint64

	mu       sync.Mutex        // protects what follows, and calls of Progress
	states   []shown           // distinct states; the first is the zero value
	problems map[uint64]string // by number of the operation: what GET showed in place of a state
}

// find lists the POSTs to compare by trade id: those that may have, or must not have, an effect.
func (r *reconciler) find() {
	for result := range r.results.All() {
		verdict := verdictOf(result)
		r.last = result.Seq
		if result.Kind.Reads() || result.Kind == Bad && verdict == Refused { // a body that is no trade has nothing to compare
			continue
		}
		switch verdict {
		case Accepted:
			r.rec.Accepted++
		case Unknown:
			r.rec.MayExist++
		case Refused: // and must not have had an effect
		}
		r.index = append(r.index, postRef{group: r.plan.refer(result.Seq).of, seq: result.Seq})
	}
	slices.SortFunc(r.index, postRef.compare)
	for i := range r.index {
		if i == 0 || r.index[i].group != r.index[i-1].group {
			r.groups = append(r.groups, uint32(i))
		}
		if result, _ := r.results.Get(r.index[i].seq); !result.Request.IsZero() && verdictOf(&result) != Refused {
			r.queried = append(r.queried, uint32(i))
		}
	}
	r.total = uint64(len(r.queried) + len(r.groups))
	for _, f := range r.cfg.Seen {
		i, ok := slices.BinarySearchFunc(r.index, postRef{group: r.plan.refer(f.Seq).of, seq: f.Seq}, postRef.compare)
		if ok && f.State.Status.Terminal() {
			r.setShown(&r.index[i], f.State)
		}
	}
}

func (k postRef) compare(o postRef) int {
	return cmp.Or(cmp.Compare(k.group, o.group), cmp.Compare(k.seq, o.seq))
}

// verdictOf is the verdict of an answer. A matured trade and an invalid body have no effect, whatever the answer is.
func verdictOf(result *Result) Verdict {
	v := result.Verdict()
	if v == Unknown && (result.Kind == Past || result.Kind == Bad) {
		return Refused
	}
	return v
}

// drain reads every request, repeatedly while accepted ones are PENDING and the wait lasts. It starts with the requests
// sent last: reading a whole backlog would make it last longer.
func (r *reconciler) drain(ctx context.Context, began time.Time) error {
	latest := slices.Clone(r.queried)
	slices.SortFunc(latest, func(a, b uint32) int { return cmp.Compare(r.index[b].seq, r.index[a].seq) })
	if _, err := r.await(ctx, latest[:min(len(latest), drainSample)]); err != nil {
		return err
	}
	r.rec.Drain = time.Since(began).Seconds()
	r.counting = true
	rounds, err := r.await(ctx, r.queried)
	if rounds > 1 {
		r.rec.Drain = time.Since(began).Seconds()
	}
	return err
}

// await reads requests until no accepted one is PENDING or the wait is over. It returns the number of rounds.
func (r *reconciler) await(ctx context.Context, todo []uint32) (rounds int, err error) {
	for wait := firstPause; ; wait = min(2*wait, lastPause) {
		rounds++
		over := time.Now().After(r.deadline)
		if todo, err = r.describe(ctx, todo); err != nil || len(todo) == 0 || over {
			r.advance(len(todo))
			return rounds, err
		}
		if !Sleep(ctx, min(wait, max(time.Until(r.deadline), 0))) {
			return rounds, ctx.Err()
		}
	}
}

// describe reads each request once and returns those that were accepted and are PENDING.
func (r *reconciler) describe(ctx context.Context, todo []uint32) (pending []uint32, err error) {
	err = r.each(ctx, len(todo), func(ctx context.Context, n int) error {
		k := &r.index[todo[n]]
		result, _ := r.results.Get(k.seq)
		s, _, err := r.api.Request(ctx, result.Request)
		op := r.plan.Op(k.seq)
		switch {
		case errors.Is(err, ErrAnswer):
			r.problem(k.seq, err.Error())
		case err != nil:
			return err
		case s.Status != "" && op.Kind != Bad && (s.TradeID != op.Trade.TradeID || s.Version != op.Trade.Version):
			r.problem(k.seq, fmt.Sprintf("GET shows trade %.64q version %d", s.TradeID, s.Version))
		case s.Status == trade.Pending && result.Verdict() == Accepted && r.setShown(k, s):
			r.mu.Lock()
			defer r.mu.Unlock()
			pending = append(pending, todo[n])
			return nil
		default:
			r.setShown(k, s)
		}
		r.advance(1)
		return nil
	})
	return pending, err
}

// setShown records what GET shows of a request. It returns false for a change of a terminal state, which never changes
// (I6).
func (r *reconciler) setShown(k *postRef, s State) bool {
	now := shown{s.Status, s.Reason}
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.states[k.shown]
	if before == now {
		return true
	}
	if before.status.Terminal() {
		r.addProblem(k.seq, fmt.Sprintf("shown as %s, and later as %s", before, now))
		return false
	}
	i := slices.Index(r.states, now)
	if i < 0 && len(r.states) == maxProblems { // there are four reasons
		r.addProblem(k.seq, fmt.Sprintf("shown as %.100q", now))
		return false
	}
	if i < 0 {
		i = len(r.states)
		r.states = append(r.states, now)
	}
	k.shown = uint16(i)
	return true
}

// problem records what GET showed in place of a state.
func (r *reconciler) problem(seq uint64, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addProblem(seq, why)
}

// addProblem keeps the first text of an operation. The caller holds r.mu.
func (r *reconciler) addProblem(seq uint64, why string) {
	if r.problems[seq] != "" {
		return
	}
	if len(r.problems) >= maxProblems {
		why = "another of many invalid answers"
	}
	r.problems[seq] = why
}

// each calls f for 0 to n-1, concurrently and each with a time limit. It ends with the first error.
func (r *reconciler) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(n, r.cfg.Concurrency) {
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				limit := time.Now().Add(readTimeout)
				if limit.Before(r.deadline) {
					limit = r.deadline
				}
				limited, cancel := context.WithDeadline(ctx, limit)
				err := f(limited, i)
				cancel()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// advance counts reads that need not be repeated.
func (r *reconciler) advance(n int) {
	if !r.counting || n == 0 {
		return
	}
	done := r.done.Add(uint64(n))
	if r.cfg.Progress != nil && (done/progressStep != (done-uint64(n))/progressStep || done == r.total) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.cfg.Progress(done, r.total)
	}
}
