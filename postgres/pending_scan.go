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

// Bounds of the scan for requests without an outcome. A scan over days of requests, after a long time without an orphan
// reaper, takes several calls.
const (
	maxScanTime = 5 * time.Second // after it a call begins no new step
	initialStep = time.Minute     // of acceptance time that one statement covers
	minStep     = time.Second
	maxStep     = day
	fastStep    = 100 * time.Millisecond // after a faster statement the next one covers twice as much
	slowStep    = time.Second            // after a slower one half as much

	// A row may become visible this long after its accepted_at. The scan stays this far behind the clock of the database,
	// whatever the clock of the caller says.
	commitDelay       = 10 * time.Second
	restartOverlap    = 10 * time.Minute // scanned again when a process starts
	strayScanInterval = time.Hour        // between two scans of the default partition for old requests

	day = 24 * time.Hour
)

// endOfTime lies behind every request, also those of a server whose clock is ahead.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// pendingScan finds requests without an outcome and reads no row twice. It goes through the requests by age, keeps the
// few without an outcome and checks those again in each call. Its progress is stored in orphan_mark as well, short of
// the oldest undecided request, so a new process continues there.
type pendingScan struct {
	mu         sync.Mutex // held for a whole call of Pending: protects all below
	started    bool
	scannedTo  time.Time // every undecided request accepted before is in undecided
	step       time.Duration
	nextStrays time.Time // when to scan the default partition again
	savedMark  time.Time
	undecided  map[trade.RequestID]trade.PendingRequest
}

// pendingColumns are what scanPending reads.
const pendingColumns = `r.request_id, r.accepted_at, r.partition, r.trade_id, r.version, r.correlation_id`

// withoutOutcome is true for a row r of requests without a journal row; both are read in one snapshot. OFFSET 0 keeps
// the planner from turning the probe of the journal into a join with all of it.
const withoutOutcome = `NOT EXISTS (
		SELECT FROM journal AS s WHERE s.accepted_on = r.accepted_on AND s.request_id = r.request_id OFFSET 0)`

// undecidedRows selects undecided requests by age.
const undecidedRows = `
	SELECT ` + pendingColumns + ` FROM requests AS r
	WHERE r.accepted_at >= $1 AND r.accepted_at < $2 AND ` + withoutOutcome + ` LIMIT $3`

// undecidedStrays selects undecided requests of days that have no partition any more. The sweep puts requests there
// that were undecided when their day was dropped.
const undecidedStrays = `
	SELECT ` + pendingColumns + ` FROM requests_default AS r
	WHERE r.accepted_on < $1 AND ` + withoutOutcome + ` LIMIT $2`

// decidedSince selects those of the given requests that have an outcome by now.
const decidedSince = `
	SELECT u.id FROM unnest($1::uuid[], $2::date[]) AS u(id, accepted_on)
	WHERE EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = u.accepted_on AND s.request_id = u.id OFFSET 0)
	   OR NOT EXISTS (SELECT FROM requests AS r WHERE r.accepted_on = u.accepted_on AND r.request_id = u.id OFFSET 0)`

// Pending returns up to limit requests that were accepted before the given instant and have no outcome, the oldest
// first (rule R1). None that was decided before the call is in the result. A request may be missing at first: one call
// scans for a limited time, the scan stops while limit requests are undecided, and a row that was committed long after
// its accepted_at is found only when its day is dropped. An error means that the database can't answer now.
func (s *RequestStore) Pending(ctx context.Context, before time.Time, limit int) ([]trade.PendingRequest, error) {
	scan := &s.scan
	scan.mu.Lock()
	defer scan.mu.Unlock()
	err := s.startScan(ctx)
	if err == nil {
		err = s.dropDecided(ctx)
	}
	if err == nil {
		err = s.scanTo(ctx, before, limit)
	}
	if err == nil {
		err = s.saveMark(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list pending requests: %w", err)
	}
	pending := scan.oldestFirst(before)
	return pending[:min(limit, len(pending))], nil
}

// Undecided returns up to limit requests without an outcome, whenever they were accepted, the oldest first. It scans as
// Pending does, but to the end at once, so it takes the longer the more requests no orphan reaper has scanned. Requests
// that are committed during the call may be missing. An error means that the database can't answer now.
func (s *RequestStore) Undecided(ctx context.Context, limit int) ([]trade.PendingRequest, error) {
	own := NewRequestStore(s.pool) // with a scan of its own
	scan := &own.scan
	var now time.Time
	err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	if err == nil {
		err = own.startScan(ctx)
	}
	for end := now.Add(-commitDelay); err == nil; {
		err = own.scanTo(ctx, end, limit)
		if !scan.scannedTo.Before(end) || len(scan.undecided) >= limit {
			break
		}
	}
	if err == nil { // the last seconds, which Pending leaves for a later call
		_, err = own.collect(ctx, limit, undecidedRows, scan.scannedTo, endOfTime)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list undecided requests: %w", err)
	}
	return scan.oldestFirst(endOfTime), nil
}

// oldestFirst returns the undecided requests that were accepted before the given instant.
func (scan *pendingScan) oldestFirst(before time.Time) []trade.PendingRequest {
	var found []trade.PendingRequest
	for _, p := range scan.undecided {
		if p.AcceptedAt.Before(before) {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b trade.PendingRequest) int { return a.AcceptedAt.Compare(b.AcceptedAt) })
	return found
}

// startScan finds where to start: a little before the mark, or at the first day that has requests.
func (s *RequestStore) startScan(ctx context.Context) error {
	scan := &s.scan
	if scan.started {
		return nil
	}
	var mark, first *time.Time
	var now time.Time
	err := s.pool.QueryRow(ctx, `SELECT (SELECT walked FROM orphan_mark), (SELECT min(accepted_on) FROM requests), now()`).
		Scan(&mark, &first, &now)
	if err != nil {
		return err
	}
	switch {
	case mark != nil:
		scan.scannedTo, scan.savedMark = mark.Add(-restartOverlap), *mark
	case first != nil:
		scan.scannedTo = *first
	default: // no requests yet
		scan.scannedTo = now.Add(-day)
	}
	scan.started, scan.step, scan.undecided = true, initialStep, map[trade.RequestID]trade.PendingRequest{}
	return nil
}

// dropDecided forgets the requests that were decided since the last call.
func (s *RequestStore) dropDecided(ctx context.Context) error {
	undecided := s.scan.undecided
	if len(undecided) == 0 {
		return nil
	}
	ids, days := make([][16]byte, 0, len(undecided)), make([]time.Time, 0, len(undecided))
	for id, p := range undecided {
		ids, days = append(ids, id), append(days, trade.DateOf(p.AcceptedAt).Time())
	}
	rows, err := s.pool.Query(ctx, decidedSince, ids, days)
	if err != nil {
		return err
	}
	var id trade.RequestID
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id)}, func() error {
		delete(undecided, id)
		return nil
	})
	return err
}

// scanTo scans up to before, or until limit requests are undecided. A step that failed is scanned again.
func (s *RequestStore) scanTo(ctx context.Context, before time.Time, limit int) error {
	scan := &s.scan
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return err
	}
	if end := now.Add(-commitDelay); end.Before(before) {
		before = end
	}
	if !now.Before(scan.nextStrays) {
		all, err := s.collect(ctx, limit, undecidedStrays, trade.DateOf(scan.scannedTo).Time())
		if err != nil {
			return err
		}
		if all {
			scan.nextStrays = now.Add(strayScanInterval)
		}
	}
	start := time.Now()
	for scan.scannedTo.Before(before) && len(scan.undecided) < limit && time.Since(start) < maxScanTime {
		to := scan.scannedTo.Add(scan.step)
		if before.Before(to) {
			to = before
		}
		stepStart := time.Now()
		all, err := s.collect(ctx, limit, undecidedRows, scan.scannedTo, to)
		switch took := time.Since(stepStart); {
		case took < fastStep:
			scan.step = min(2*scan.step, maxStep)
		case took > slowStep:
			scan.step = max(scan.step/2, minStep)
		}
		if err != nil || !all {
			return err
		}
		scan.scannedTo = to
	}
	return nil
}

// collect runs a query for undecided requests, whose last parameter is a limit, and keeps the rows. all is false if
// there may be more rows than fit: the query must then run again when there is room.
func (s *RequestStore) collect(ctx context.Context, limit int, query string, args ...any) (all bool, err error) {
	rows, err := s.pool.Query(ctx, query, append(args, limit+1)...)
	var found []trade.PendingRequest
	if err == nil {
		found, err = pgx.CollectRows(rows, scanPending)
	}
	undecided := s.scan.undecided
	all = len(found) <= limit
	for _, p := range found[:min(limit, len(found))] {
		if _, known := undecided[p.ID]; !known && len(undecided) >= limit {
			all = false
			continue
		}
		undecided[p.ID] = p
	}
	return all, err
}

// saveMark moves the mark to the oldest undecided request, or to the end of the scan. Every process saves a mark that
// is true, so the furthest one is kept.
func (s *RequestStore) saveMark(ctx context.Context) error {
	scan := &s.scan
	mark := scan.scannedTo
	for _, p := range scan.undecided {
		if p.AcceptedAt.Before(mark) {
			mark = p.AcceptedAt
		}
	}
	if !mark.After(scan.savedMark) {
		return nil
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO orphan_mark (walked) VALUES ($1)
		ON CONFLICT (one) DO UPDATE SET walked = excluded.walked WHERE orphan_mark.walked < excluded.walked`, mark)
	if err == nil {
		scan.savedMark = mark
	}
	return err
}
