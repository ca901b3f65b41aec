package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// Bounds of the walk. A walk over days of requests, after a long time without a orphan reaper, is spread over calls.
const (
	longestWalk  = 5 * time.Second // that one call begins no new step after
	firstStep    = time.Minute     // of acceptance time that one statement covers
	shortestStep = time.Second
	longestStep  = day
	briskStep    = 100 * time.Millisecond // a statement that is faster lets the next one cover twice as much
	slowStep     = time.Second            // and a slower one half

	// A row may become visible this long after the time it carries. The end of the walk stays behind by the clock of the
	// database, whatever a caller's clock says.
	commitDelay = 10 * time.Second
	overlap     = 10 * time.Minute // walked again at the start of a process
	straysEvery = time.Hour        // between two looks for old requests in the default partition

	day = 24 * time.Hour
)

// walk finds undecided requests without reading any row twice: it goes through them by age, keeps the few that have no
// outcome, and looks at those again each time. How far it is lies in the database too, short of what is undecided, so a
// new process goes on from there.
type walk struct {
	mu        sync.Mutex // held for a whole call of Pending: protects all below
	begun     bool
	walked    time.Time // every undecided request accepted before is in undecided
	step      time.Duration
	strays    time.Time // when to look at the default partition again
	saved     time.Time
	undecided map[trade.RequestID]trade.PendingRequest
}

// undecidedRows selects requests without an outcome, both sides in one snapshot. OFFSET 0 keeps the planner from turning
// the probe of the journal into a join with all of it.
const undecidedRows = `
	SELECT r.request_id, r.accepted_at, r.partition, r.trade_id, r.version, r.correlation_id FROM requests AS r
	WHERE r.accepted_at >= $1 AND r.accepted_at < $2
	  AND NOT EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id OFFSET 0)
	LIMIT $3`

// undecidedStrays is the same for days that have no partition any more. The sweep puts requests there that were undecided
// when their day was dropped.
const undecidedStrays = `
	SELECT r.request_id, r.accepted_at, r.partition, r.trade_id, r.version, r.correlation_id FROM requests_default AS r
	WHERE r.accepted_on < $1
	  AND NOT EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id OFFSET 0)
	LIMIT $2`

// settledSince finds those of the requests given that are undecided no more.
const projectedSince = `
	SELECT u.id FROM unnest($1::uuid[], $2::date[]) AS u(id, accepted_on)
	WHERE EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = u.accepted_on AND s.request_id = u.id OFFSET 0)
	   OR NOT EXISTS (SELECT FROM requests AS r WHERE r.accepted_on = u.accepted_on AND r.request_id = u.id OFFSET 0)`

// Pending returns up to limit requests that were accepted before the instant given and have no outcome, the oldest first.
// None that was decided before the call is in the result. One may be missing at first: the walk is bounded per call, it
// stops while limit requests are undecided, and a row that was committed long after the time it carries is found only
// when its day is dropped. Errors: the database can't answer now.
func (l *RequestStore) Pending(ctx context.Context, before time.Time, limit int) ([]trade.PendingRequest, error) {
	w := &l.walk
	w.mu.Lock()
	defer w.mu.Unlock()
	err := l.begin(ctx)
	if err == nil {
		err = l.forgetProjected(ctx)
	}
	if err == nil {
		err = l.walkTo(ctx, before, limit)
	}
	if err == nil {
		err = l.saveMark(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list pending requests: %w", err)
	}
	pending := make([]trade.PendingRequest, 0, len(w.undecided))
	for _, p := range w.undecided {
		if p.AcceptedAt.Before(before) {
			pending = append(pending, p)
		}
	}
	slices.SortFunc(pending, func(a, b trade.PendingRequest) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return pending[:min(limit, len(pending))], nil
}

// begin finds where to start: a little before the mark, or at the first day that has requests.
func (l *RequestStore) begin(ctx context.Context) error {
	w := &l.walk
	if w.begun {
		return nil
	}
	var mark, first *time.Time
	var now time.Time
	err := l.pool.QueryRow(ctx, `SELECT (SELECT walked FROM orphan_mark), (SELECT min(accepted_on) FROM requests), now()`).
		Scan(&mark, &first, &now)
	if err != nil {
		return err
	}
	switch {
	case mark != nil:
		w.walked, w.saved = mark.Add(-overlap), *mark
	case first != nil:
		w.walked = *first
	default: // no requests: there may be some from now on
		w.walked = now.Add(-day)
	}
	w.begun, w.step, w.undecided = true, firstStep, map[trade.RequestID]trade.PendingRequest{}
	return nil
}

// forgetSettled drops what was decided since the last call.
func (l *RequestStore) forgetProjected(ctx context.Context) error {
	w := &l.walk
	if len(w.undecided) == 0 {
		return nil
	}
	ids, days := make([][16]byte, 0, len(w.undecided)), make([]time.Time, 0, len(w.undecided))
	for id, p := range w.undecided {
		ids, days = append(ids, id), append(days, trade.DateOf(p.AcceptedAt).Time())
	}
	rows, err := l.pool.Query(ctx, projectedSince, ids, days)
	if err != nil {
		return err
	}
	var id trade.RequestID
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id)}, func() error {
		delete(w.undecided, id)
		return nil
	})
	return err
}

// walkTo goes on until before, or until limit requests are undecided. What a failed step did not cover is walked again.
func (l *RequestStore) walkTo(ctx context.Context, before time.Time, limit int) error {
	w := &l.walk
	var now time.Time
	if err := l.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	if end := now.Add(-commitDelay); end.Before(before) {
		before = end
	}
	if !now.Before(w.strays) {
		all, err := l.keep(ctx, limit, undecidedStrays, trade.DateOf(w.walked).Time())
		if err != nil {
			return err
		}
		if all {
			w.strays = now.Add(straysEvery)
		}
	}
	for start := time.Now(); w.walked.Before(before) && len(w.undecided) < limit && time.Since(start) < longestWalk; {
		to := w.walked.Add(w.step)
		if before.Before(to) {
			to = before
		}
		began := time.Now()
		all, err := l.keep(ctx, limit, undecidedRows, w.walked, to)
		took := time.Since(began)
		switch {
		case took < briskStep:
			w.step = min(2*w.step, longestStep)
		case took > slowStep:
			w.step = max(w.step/2, shortestStep)
		}
		if err != nil {
			return err
		}
		if !all {
			return nil
		}
		w.walked = to
	}
	return nil
}

// keep runs a query for undecided requests, whose last parameter is a limit, and keeps what it finds. all is false when
// there may be more than there is room for: then the same has to be asked again once there is.
func (l *RequestStore) keep(ctx context.Context, limit int, query string, args ...any) (all bool, err error) {
	rows, err := l.pool.Query(ctx, query, append(args, limit+1)...)
	var found []trade.PendingRequest
	if err == nil {
		found, err = pgx.CollectRows(rows, scanPending)
	}
	all = len(found) <= limit
	for _, p := range found[:min(limit, len(found))] {
		if _, known := l.walk.undecided[p.ID]; !known && len(l.walk.undecided) >= limit {
			all = false
			continue
		}
		l.walk.undecided[p.ID] = p
	}
	return all, err
}

// saveMark moves the mark to the oldest undecided request of the walk, or to its end. The marks of several processes are
// all true, so the furthest one stays.
func (l *RequestStore) saveMark(ctx context.Context) error {
	w := &l.walk
	mark := w.walked
	for _, p := range w.undecided {
		if p.AcceptedAt.Before(mark) {
			mark = p.AcceptedAt
		}
	}
	if !mark.After(w.saved) {
		return nil
	}
	_, err := l.pool.Exec(ctx, `INSERT INTO orphan_mark (walked) VALUES ($1)
		ON CONFLICT (one) DO UPDATE SET walked = excluded.walked WHERE orphan_mark.walked < excluded.walked`, mark)
	if err == nil {
		w.saved = mark
	}
	return err
}
