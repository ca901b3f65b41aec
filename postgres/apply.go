package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tradestore/internal/failpoint"
	"tradestore/trade"
)

// movePositions moves the positions of a batch, each only if it is where the batch begins (rule A1). Fewer rows than
// partitions mean that another worker applied a part of the batch, or that another generation has followed (rule T10).
// The inner SELECT locks the rows in key order, so two batches over the same partitions never deadlock.
//
// It returns the time of the decisions of the batch, in every row: that of the database ($6 in tests), but none earlier
// than its partitions have had. The clock is read under the locks, so times follow the log whatever clocks do.
const movePositions = `
	UPDATE ingest_offsets SET next_offset = span.next, leader_epoch = span.epoch, decided_at = span.now
	FROM (
		SELECT *, max(greatest(last, coalesce($6::timestamptz, clock_timestamp()))) OVER () AS now
		FROM (
			SELECT o.partition, s.pos, s.next, s.epoch, o.decided_at AS last
			FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::integer[]) AS s(partition, pos, next, epoch)
			JOIN ingest_offsets AS o
				ON o.topic_id = $1 AND o.partition = s.partition AND o.next_offset = s.pos AND NOT o.closed
			ORDER BY o.partition
			FOR UPDATE OF o
		) AS held
	) AS span
	WHERE ingest_offsets.topic_id = $1 AND ingest_offsets.partition = span.partition
	  AND ingest_offsets.next_offset = span.pos
	RETURNING span.now`

// decidedRequests finds which requests of one day have an outcome (rule A2), by one probe of the primary key each. The
// day is one parameter, so that one partition of the journal is probed instead of all. LIMIT keeps the planner from
// reversing the join: without statistics it expects few rows in the day, and would read the whole day for each batch.
const decidedRequests = `
	SELECT id.request_id FROM unnest($2::uuid[]) AS id(request_id)
	CROSS JOIN LATERAL (
		SELECT FROM journal WHERE accepted_on = $1 AND journal.request_id = id.request_id LIMIT 1) AS decided`

// Apply decides and stores one batch in one transaction. When it returns nil, positions, trades, journal and dead
// letters are durable. After an error of any class but CommitUnknown none of them is. A crash at any line leaves all of
// them or none.
func (s *Store) Apply(ctx context.Context, batch *trade.Batch) (trade.Applied, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TxTimeout)
	defer cancel()
	applied, err := s.apply(ctx, batch)
	if err == nil {
		return applied, nil
	}
	return trade.Applied{}, trade.Classed(classOf(err), "cannot apply %d records of %d partitions: %w",
		len(batch.Records), len(batch.Spans), err)
}

func (s *Store) apply(ctx context.Context, batch *trade.Batch) (trade.Applied, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return trade.Applied{}, err
	}
	defer conn.Release() // closes a connection that is still in a transaction, which rolls it back

	state, tx, err := begin(ctx, conn.Conn(), batch, s.testTime())
	if err != nil {
		return trade.Applied{}, rollback(ctx, conn.Conn(), tx, err)
	}
	failpoint.Here("afterCAS") // a crash here leaves nothing

	plan := trade.Decide(batch.Records, state.versions, state.decided)
	w := write{conn: conn.Conn(), batch: batch, plan: &plan, now: state.now}
	if err := w.all(ctx); err != nil {
		return trade.Applied{}, rollback(ctx, conn.Conn(), tx, err)
	}
	failpoint.Here("beforeCommit")
	if err := commit(ctx, tx); err != nil {
		return trade.Applied{}, err
	}
	failpoint.Here("afterCommit") // all is durable; the group offset and the request store come later
	return appliedOf(&plan), nil
}

// storedState is what the database has for the keys of a batch, read after its positions were locked.
type storedState struct {
	now      time.Time // of the decisions
	versions map[string]int32
	decided  map[trade.RequestID]struct{}
}

// begin opens the transaction, moves the positions and reads what Decide needs, in one round trip. The reads come after
// the lock and in READ COMMITTED, so they see all that the previous owner of the partitions committed.
func begin(
	ctx context.Context, conn *pgx.Conn, batch *trade.Batch, testTime *time.Time,
) (storedState, pgx.Tx, error) {
	params, err := newBatchParams(batch)
	if err != nil {
		return storedState{}, nil, err
	}
	state := storedState{
		versions: make(map[string]int32, len(params.tradeIDs)), decided: make(map[trade.RequestID]struct{}),
	}
	moved := 0

	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	move := b.Queue(movePositions, [16]byte(batch.TopicID), params.partitions, params.from, params.next, params.epochs,
		testTime)
	move.Query(func(rows pgx.Rows) error {
		tag, err := pgx.ForEachRow(rows, []any{&state.now}, func() error { return nil })
		moved = int(tag.RowsAffected())
		return err
	})
	for _, day := range params.days {
		b.Queue(decidedRequests, day.date.Time(), day.ids).Query(func(rows pgx.Rows) error {
			var id trade.RequestID
			_, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&id)}, func() error {
				state.decided[id] = struct{}{}
				return nil
			})
			return err
		})
	}
	if len(params.tradeIDs) > 0 {
		b.Queue(maxVersions, params.tradeIDs).Query(func(rows pgx.Rows) error {
			return scanMaxVersions(rows, params.tradeIDs, state.versions)
		})
	}
	results := conn.SendBatch(ctx, b)
	err = results.Close()
	if err == nil && moved != len(batch.Spans) {
		err = trade.Classed(trade.Fenced, "%d of %d positions are not where the batch begins: another worker moved them",
			len(batch.Spans)-moved, len(batch.Spans))
	}
	return state, results.Tx(), err
}

// batchParams holds the parameters of the statements of begin.
type batchParams struct {
	partitions, epochs []int32
	from, next         []int64
	days               []dayIDs
	tradeIDs           []string // each once, sorted
}

type dayIDs struct {
	date trade.Date
	ids  [][16]byte
}

func newBatchParams(batch *trade.Batch) (batchParams, error) {
	var p batchParams
	for _, s := range batch.Spans {
		p.partitions = append(p.partitions, s.Partition)
		p.epochs = append(p.epochs, s.LeaderEpoch)
		p.from = append(p.from, s.From)
		p.next = append(p.next, s.Next)
	}
	seen := make(map[string]struct{}, len(batch.Records))
	p.tradeIDs = make([]string, 0, len(batch.Records))
	for i := range batch.Records {
		r := &batch.Records[i]
		if r.ID.IsZero() && r.Fault == "" {
			// The decoder gives such a record a fault: without an id its outcome could not be stored.
			return batchParams{}, trade.Classed(trade.Broken, "partition %d offset %d: a good record without a request id",
				r.Partition, r.Offset)
		}
		if !r.ID.IsZero() {
			p.days = addID(p.days, r.AcceptedOn(), r.ID)
		}
		if r.Fault != "" {
			continue
		}
		if _, ok := seen[r.Trade.TradeID]; !ok {
			seen[r.Trade.TradeID] = struct{}{}
			p.tradeIDs = append(p.tradeIDs, r.Trade.TradeID)
		}
	}
	slices.Sort(p.tradeIDs) // probes neighbours in the index one after the other
	return p, nil
}

// addID adds a request id to those of its day, and returns the days. There are few days: one, or two around midnight.
func addID(days []dayIDs, date trade.Date, id trade.RequestID) []dayIDs {
	at := slices.IndexFunc(days, func(d dayIDs) bool { return d.date == date })
	if at < 0 {
		at = len(days)
		days = append(days, dayIDs{date: date})
	}
	days[at].ids = append(days[at].ids, id)
	return days
}

// rollback ends a failed transaction and returns the cause. If the server did not work, the session is closed, which
// rolls back as well: the next try connects again, perhaps to the server that took over.
func rollback(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, cause error) error {
	if classOf(cause) == trade.Unavailable {
		_ = conn.Close(ctx)
	} else if tx != nil {
		_ = tx.Rollback(ctx) // if it fails pgx closes the session
	}
	return cause
}

// commit commits the transaction. Once COMMIT may have been sent, only an answer of the server is definite: a
// connection that was lost, or a session that the server ended, may follow a commit that happened (rule E4).
func commit(ctx context.Context, tx pgx.Tx) error {
	if err := checkUsable(ctx, tx.Conn()); err != nil {
		return err
	}
	err := tx.Commit(ctx)
	if err == nil || refused(err) || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	return trade.Classed(trade.CommitUnknown, "no answer to COMMIT: %w", err)
}

// checkUsable returns an error if a statement would certainly not be sent. It is called before sending, because an
// error afterwards does not tell: pgconn.SafeToRetry returns true for a connection that broke while waiting for the
// answer.
func checkUsable(ctx context.Context, conn *pgx.Conn) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if conn.IsClosed() {
		return pgconn.ErrConnClosed
	}
	return nil
}

// refused says whether the server refused a statement or COMMIT, and kept the session: then nothing was stored. A fatal
// error may follow a commit that happened.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR"
}

// appliedOf counts what a plan did.
func appliedOf(p *trade.Plan) trade.Applied {
	dead := len(p.DeadLetters)
	a := trade.Applied{Rows: len(p.Inserts) + len(p.Replaces), Duplicates: p.Duplicates, DeadLetters: dead, Invalid: dead}
	for i := range p.Decisions {
		if p.Decisions[i].Reason == trade.StaleVersion {
			a.Stale++
		}
	}
	return a
}
