package postgres

import (
	"context"
	"fmt"
	"maps"
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

	// lateAfter is the age from which the database notes an entry in late_requests when it is inserted
	// (migrations/002_late_requests.sql). A younger entry lands within this time of its acceptance.
	lateAfter = 30 * time.Second
	// clockStep is how far the clock of the database may go back, at a failover or by hand.
	clockStep = 30 * time.Second

	maxLate     = 10_000                // noted requests with an outcome that one call forgets
	writerTries = 20                    // looks of one call whether the writers have ended
	writerPause = 10 * time.Millisecond // between two looks

	day = 24 * time.Hour
)

// endOfTime lies behind every request, also those of a server whose clock is ahead.
var endOfTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// pendingScan finds requests without an outcome. It goes through the requests of some partitions by age, keeps the few
// without an outcome and checks those again in each call. Where no request can appear any more, it reads no row twice
// (settledTo). Its progress is stored in orphan_marks as well, short of the oldest undecided request of the partition,
// so the next process that holds the partition continues there.
type pendingScan struct {
	mu         sync.Mutex // held for a whole call of Pending: protects all below
	partitions []int32    // scanned here, ascending
	settledTo  time.Time  // every undecided request accepted before is in undecided, or noted as late
	scannedTo  time.Time  // likewise, but for those that were not yet committed
	step       time.Duration
	undecided  map[trade.RequestID]trade.PendingRequest
	marks      map[int32]time.Time // as stored
	writers    writers
}

// writers are the transactions that wrote to requests at an instant. All times are of the clock of the database.
type writers struct {
	now     time.Time // at the last look
	since   time.Time // the instant
	running []string  // virtual transaction ids, of those that may still run
	ended   time.Time // the last instant whose transactions have all ended
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
	WHERE r.accepted_at >= $1 AND r.accepted_at < $2 AND r.partition = ANY($3) AND ` + withoutOutcome + ` LIMIT $4`

// stillUndecided is true for a noted request r without an outcome. One that is gone from requests had an outcome, which
// was deleted with it (rule S3).
const stillUndecided = withoutOutcome + ` AND EXISTS (
		SELECT FROM requests AS q WHERE q.accepted_on = r.accepted_on AND q.request_id = r.request_id OFFSET 0)`

const undecidedLate = `
	SELECT ` + pendingColumns + ` FROM late_requests AS r
	WHERE r.partition = ANY($1) AND ` + stillUndecided + ` LIMIT $2`

const forgetDecidedLate = `
	DELETE FROM late_requests WHERE ctid = ANY (ARRAY(
		SELECT r.ctid FROM late_requests AS r WHERE r.partition = ANY($1) AND NOT (` + stillUndecided + `) LIMIT $2))`

// decidedSince selects those of the given requests that have an outcome by now.
const decidedSince = `
	SELECT u.id FROM unnest($1::uuid[], $2::date[]) AS u(id, accepted_on)
	WHERE EXISTS (SELECT FROM journal AS s WHERE s.accepted_on = u.accepted_on AND s.request_id = u.id OFFSET 0)
	   OR NOT EXISTS (SELECT FROM requests AS r WHERE r.accepted_on = u.accepted_on AND r.request_id = u.id OFFSET 0)`

// runningWriters selects the transactions that have written to requests or are about to.
const runningWriters = `
	SELECT DISTINCT virtualtransaction FROM pg_locks
	WHERE locktype = 'relation' AND relation = 'requests'::regclass AND mode = 'RowExclusiveLock' AND granted
	  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// Pending returns up to limit requests of the given partitions (ascending) that were accepted before the given instant
// and have no outcome, the oldest first (rule R1). None that was decided before the call is in the result. A request
// may be missing at first: one call scans for a limited time, and the scan stops while limit requests are undecided. An
// error means that the database can't answer now.
func (s *RequestStore) Pending(
	ctx context.Context, partitions []int32, before time.Time, limit int,
) ([]trade.PendingRequest, error) {
	scan := &s.scan
	scan.mu.Lock()
	defer scan.mu.Unlock()
	err := s.startAgain(ctx)
	if err == nil {
		err = s.scanPartitions(ctx, partitions)
	}
	for _, next := range []func() error{
		func() error { return s.dropDecided(ctx) },
		func() error { return s.awaitWriters(ctx) },
		func() error { return s.readLate(ctx, limit) },
		func() error { return s.scanTo(ctx, before, limit) },
		func() error { return s.saveMarks(ctx) },
	} {
		if err == nil && len(partitions) > 0 {
			err = next()
		}
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
	var partitions []int32
	var end time.Time
	err := s.pool.QueryRow(ctx, `SELECT clock_timestamp(), array(
		SELECT DISTINCT partition FROM ingest_offsets ORDER BY partition)`).Scan(&end, &partitions)
	if err == nil {
		err = own.scanPartitions(ctx, partitions)
	}
	if err == nil {
		err = own.readLate(ctx, limit)
	}
	for err == nil && scan.scannedTo.Before(end) && len(scan.undecided) < limit {
		_, err = own.scanRange(ctx, &scan.scannedTo, end, limit)
	}
	if err == nil { // what a server accepted whose clock is ahead
		_, err = own.collect(ctx, limit, undecidedRows, scan.scannedTo, endOfTime, partitions)
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

// startAgain forgets the scan if the database no longer has its marks: a failover to an asynchronous standby took them
// back, and may have taken back outcomes of requests that they passed.
func (s *RequestStore) startAgain(ctx context.Context) error {
	scan := &s.scan
	partitions := slices.Sorted(maps.Keys(scan.marks))
	marks := make([]time.Time, len(partitions))
	for i, partition := range partitions {
		marks[i] = scan.marks[partition]
	}
	var back bool
	err := s.pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM unnest($1::integer[], $2::timestamptz[]) AS own(partition, walked)
			LEFT JOIN orphan_marks AS m USING (partition) WHERE m.walked IS NULL OR m.walked < own.walked)`,
		partitions, marks).Scan(&back)
	if back {
		scan.partitions, scan.undecided, scan.marks = nil, nil, nil
	}
	return err
}

// scanPartitions makes the scan one of the given partitions. It goes back to the marks of those that are new, or to the
// first day that has requests if one of them was never scanned, and forgets those that are scanned elsewhere now.
func (s *RequestStore) scanPartitions(ctx context.Context, partitions []int32) error {
	scan := &s.scan
	known := func(p int32) bool { return slices.Contains(scan.partitions, p) }
	gained := slices.DeleteFunc(slices.Clone(partitions), known)
	if len(gained) > 0 {
		var marked int
		var mark, first *time.Time
		var now time.Time
		err := s.pool.QueryRow(ctx, `SELECT count(*), min(walked), (SELECT min(accepted_on) FROM requests), clock_timestamp()
			FROM orphan_marks WHERE partition = ANY($1)`, gained).Scan(&marked, &mark, &first, &now)
		if err != nil {
			return err
		}
		from := now.Add(-day) // no requests yet
		switch {
		case marked == len(gained):
			from = *mark
		case first != nil:
			from = *first
		}
		if len(scan.partitions) == 0 || from.Before(scan.settledTo) {
			scan.settledTo = from
		}
		scan.scannedTo = scan.settledTo
	}
	if scan.undecided == nil {
		scan.step, scan.undecided = initialStep, map[trade.RequestID]trade.PendingRequest{}
	}
	maps.DeleteFunc(scan.undecided, func(_ trade.RequestID, p trade.PendingRequest) bool {
		return !slices.Contains(partitions, p.Partition)
	})
	if !slices.Equal(scan.partitions, partitions) {
		scan.partitions, scan.marks = slices.Clone(partitions), map[int32]time.Time{}
	}
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

// awaitWriters finds out up to when no transaction writes any more: a row that is not noted as late was looked at by a
// clock that its transaction read after it had its lock. So once all transactions have ended that held the lock at an
// instant, every row that was looked at before that instant is visible, or will never be. A transaction that does not
// end, because its client is frozen, holds up the marks and nothing else.
func (s *RequestStore) awaitWriters(ctx context.Context) error {
	w := &s.scan.writers
	for try := range writerTries {
		if try > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(writerPause):
			}
		}
		now, running, err := s.readWriters(ctx)
		if err != nil {
			return err
		}
		if w.now = now; len(w.running) == 0 {
			w.since, w.running = now, running
		} else {
			w.running = slices.DeleteFunc(w.running, func(id string) bool { return !slices.Contains(running, id) })
		}
		if len(w.running) == 0 {
			w.ended = w.since
			return nil
		}
	}
	return nil
}

// readWriters returns the transactions that write to requests, and an instant before it looked for them.
func (s *RequestStore) readWriters(ctx context.Context) (now time.Time, running []string, err error) {
	if now, err = Clock(ctx, s.pool); err != nil {
		return now, nil, err
	}
	rows, err := s.pool.Query(ctx, runningWriters)
	if err == nil {
		running, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	return now, running, err
}

// readLate reads the requests that were inserted late, and forgets those of them that have an outcome.
func (s *RequestStore) readLate(ctx context.Context, limit int) error {
	if _, err := s.pool.Exec(ctx, forgetDecidedLate, s.scan.partitions, maxLate); err != nil {
		return err
	}
	_, err := s.collect(ctx, limit, undecidedLate, s.scan.partitions)
	return err
}

// scanTo scans up to before, or until limit requests are undecided: first what is settled, for good, then the rest,
// which is scanned again when it is settled.
func (s *RequestStore) scanTo(ctx context.Context, before time.Time, limit int) error {
	scan := &s.scan
	if scan.writers.now.Before(before) { // whatever the clock of the caller says
		before = scan.writers.now
	}
	settled := scan.writers.ended.Add(-lateAfter - clockStep)
	if before.Before(settled) {
		settled = before
	}
	if done, err := s.scanRange(ctx, &scan.settledTo, settled, limit); err != nil || !done {
		return err
	}
	if scan.scannedTo.Before(scan.settledTo) {
		scan.scannedTo = scan.settledTo
	}
	_, err := s.scanRange(ctx, &scan.scannedTo, before, limit)
	return err
}

// scanRange scans in steps from *from, which it moves, up to to. done is false if it stopped before: limit requests are
// undecided, or the time of a call is over. A step that failed is scanned again.
func (s *RequestStore) scanRange(ctx context.Context, from *time.Time, to time.Time, limit int) (done bool, err error) {
	scan := &s.scan
	start := time.Now()
	for from.Before(to) {
		if len(scan.undecided) >= limit || time.Since(start) >= maxScanTime {
			return false, nil
		}
		next := from.Add(scan.step)
		if to.Before(next) {
			next = to
		}
		stepStart := time.Now()
		all, err := s.collect(ctx, limit, undecidedRows, *from, next, scan.partitions)
		switch took := time.Since(stepStart); {
		case took < fastStep:
			scan.step = min(2*scan.step, maxStep)
		case took > slowStep:
			scan.step = max(scan.step/2, minStep)
		}
		if err != nil || !all {
			return false, err
		}
		*from = next
	}
	return true, nil
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

// saveMarks moves the mark of each partition to its oldest undecided request, or to the end of what is settled. Every
// process saves marks that are true, so the furthest one is kept.
func (s *RequestStore) saveMarks(ctx context.Context) error {
	scan := &s.scan
	oldest := make(map[int32]time.Time, len(scan.partitions))
	for _, partition := range scan.partitions {
		oldest[partition] = scan.settledTo
	}
	for _, p := range scan.undecided {
		if p.AcceptedAt.Before(oldest[p.Partition]) {
			oldest[p.Partition] = p.AcceptedAt
		}
	}
	maps.DeleteFunc(oldest, func(partition int32, mark time.Time) bool { return !mark.After(scan.marks[partition]) })
	if len(oldest) == 0 {
		return nil
	}
	partitions := slices.Sorted(maps.Keys(oldest)) // two processes lock the rows in one order
	marks := make([]time.Time, len(partitions))
	for i, partition := range partitions {
		marks[i] = oldest[partition]
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO orphan_marks AS m (partition, walked)
		SELECT * FROM unnest($1::integer[], $2::timestamptz[])
		ON CONFLICT (partition) DO UPDATE SET walked = excluded.walked WHERE m.walked < excluded.walked`, partitions, marks)
	if err == nil {
		maps.Copy(scan.marks, oldest)
	}
	return err
}
