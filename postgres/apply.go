package postgres

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"tradestore/internal/failpoint"
	"tradestore/trade"
)

// moveOn moves the positions of a batch, each only if it still is where the batch begins (invariant A1): a row less than
// asked for means that another worker applied part of it, or that another generation has followed (rule T10). The inner
// SELECT locks the rows in the order of their key, so that two batches over the same partitions never wait for each other
// in a circle.
const moveOn = `
	UPDATE ingest_offsets SET next_offset = span.next, leader_epoch = span.epoch
	FROM (
		SELECT o.partition, s.pos, s.next, s.epoch
		FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::integer[]) AS s(partition, pos, next, epoch)
		JOIN ingest_offsets AS o ON o.topic_id = $1 AND o.partition = s.partition AND o.next_offset = s.pos AND NOT o.closed
		ORDER BY o.partition
		FOR UPDATE OF o
	) AS span
	WHERE ingest_offsets.topic_id = $1 AND ingest_offsets.partition = span.partition
	  AND ingest_offsets.next_offset = span.pos`

// decidedOn finds which requests of one day have an outcome, by one probe of the primary key each. The day is a parameter
// of its own, so that one partition of the journal is probed and not each. LIMIT keeps the planner from turning the loop
// around: of a day without statistics it expects a handful of rows, and would read the whole day with each batch.
const decidedOn = `
	SELECT id.request_id FROM unnest($2::uuid[]) AS id(request_id)
	CROSS JOIN LATERAL (
		SELECT FROM journal WHERE accepted_on = $1 AND journal.request_id = id.request_id LIMIT 1) AS decided`

// Apply decides and stores one batch in one transaction: positions, trades, journal and dead letters are durable together
// when it returns nil. None of them is when it returns an error of any class but CommitUnknown; a crash at any line
// leaves what was there before, or all of it.
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

	known, tx, err := begin(ctx, conn.Conn(), batch)
	if err != nil {
		return trade.Applied{}, abandon(ctx, conn.Conn(), tx, err)
	}
	failpoint.Here("afterCAS") // nothing is durable yet

	plan := trade.Decide(batch.Records, known.versions, known.decided)
	w := write{conn: conn.Conn(), batch: batch, plan: &plan, now: s.cfg.Now().UTC()}
	if err := w.all(ctx); err != nil {
		return trade.Applied{}, abandon(ctx, conn.Conn(), tx, err)
	}
	failpoint.Here("beforeCommit")
	if err := commit(ctx, tx); err != nil {
		return trade.Applied{}, err
	}
	failpoint.Here("afterCommit") // all of it is durable; the group offset and the request store lag behind
	return count(&plan), nil
}

// known is what the database says about a batch, as of the moment its positions were locked.
type known struct {
	versions map[string]int32
	decided  map[trade.RequestID]struct{}
}

// begin opens the transaction, moves the positions and reads what Decide needs, in one round trip. The reads come after
// the lock and in READ COMMITTED, so they see all that the partition's previous owner committed.
func begin(ctx context.Context, conn *pgx.Conn, batch *trade.Batch) (known, pgx.Tx, error) {
	a, err := askAbout(batch)
	if err != nil {
		return known{}, nil, err
	}
	k := known{make(map[string]int32, len(a.tradeIDs)), make(map[trade.RequestID]struct{})}
	moved := 0

	b := &pgx.Batch{}
	b.BeginTx(pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadWrite})
	b.Queue(moveOn, [16]byte(batch.TopicID), a.partitions, a.from, a.next, a.epochs).Exec(func(tag pgconn.CommandTag) error {
		moved = int(tag.RowsAffected())
		return nil
	})
	for _, day := range a.days {
		b.Queue(decidedOn, day.date.Time(), day.ids).Query(func(rows pgx.Rows) error {
			var id trade.RequestID
			_, err := pgx.ForEachRow(rows, []any{(*[16]byte)(&id)}, func() error {
				k.decided[id] = struct{}{}
				return nil
			})
			return err
		})
	}
	if len(a.tradeIDs) > 0 {
		b.Queue(maxVersions, a.tradeIDs).Query(func(rows pgx.Rows) error {
			return scanMaxVersions(rows, a.tradeIDs, k.versions)
		})
	}
	results := conn.SendBatch(ctx, b)
	err = results.Close()
	if err == nil && moved != len(batch.Spans) {
		err = trade.Classed(trade.Fenced, "%d of %d positions are not where the batch begins: another worker moved them",
			len(batch.Spans)-moved, len(batch.Spans))
	}
	return k, results.Tx(), err
}

// asked holds what a batch asks the database, in the shape of its statements.
type asked struct {
	partitions, epochs []int32
	from, next         []int64
	days               []dayIDs
	tradeIDs           []string // each once, sorted
}

type dayIDs struct {
	date trade.Date
	ids  [][16]byte
}

func askAbout(batch *trade.Batch) (asked, error) {
	var a asked
	for _, s := range batch.Spans {
		a.partitions = append(a.partitions, s.Partition)
		a.epochs = append(a.epochs, s.LeaderEpoch)
		a.from = append(a.from, s.From)
		a.next = append(a.next, s.Next)
	}
	seen := make(map[string]struct{}, len(batch.Records))
	a.tradeIDs = make([]string, 0, len(batch.Records))
	for i := range batch.Records {
		r := &batch.Records[i]
		if r.ID.IsZero() && r.Fault == "" {
			return asked{}, trade.Classed(trade.Broken, "partition %d offset %d: a good record without a request id",
				r.Partition, r.Offset) // the decoder promises a fault: there would be no outcome to keep
		}
		if !r.ID.IsZero() {
			a.addID(r)
		}
		if r.Fault != "" {
			continue
		}
		if _, ok := seen[r.Trade.TradeID]; !ok {
			seen[r.Trade.TradeID] = struct{}{}
			a.tradeIDs = append(a.tradeIDs, r.Trade.TradeID)
		}
	}
	slices.Sort(a.tradeIDs) // neighbours in the index are probed one after the other
	return a, nil
}

// addID adds the record's request id to those of its day. A batch spans few days: one, or two around midnight.
func (a *asked) addID(r *trade.Record) {
	date := r.AcceptedOn()
	at := slices.IndexFunc(a.days, func(d dayIDs) bool { return d.date == date })
	if at < 0 {
		at = len(a.days)
		a.days = append(a.days, dayIDs{date: date})
	}
	a.days[at].ids = append(a.days[at].ids, r.ID)
}

// abandon ends a transaction that failed and returns why it did. A session that fails for want of a working server is
// closed, which rolls back too: the next try connects anew, perhaps to the server that took over.
func abandon(ctx context.Context, conn *pgx.Conn, tx pgx.Tx, cause error) error {
	if classOf(cause) == trade.Unavailable {
		_ = conn.Close(ctx)
	} else if tx != nil {
		_ = tx.Rollback(ctx) // where it fails pgx closes the session
	}
	return cause
}

// commit ends the transaction. Once COMMIT may have left this process, only the server's own answer is definite: a lost
// connection or a session ended by the server may follow a commit that happened.
func commit(ctx context.Context, tx pgx.Tx) error {
	if err := unsent(ctx, tx.Conn()); err != nil {
		return err
	}
	err := tx.Commit(ctx)
	if err == nil || refused(err) || errors.Is(err, pgx.ErrTxCommitRollback) {
		return err
	}
	return trade.Classed(trade.CommitUnknown, "no answer to COMMIT: %w", err)
}

// unsent returns an error where a statement would not be sent at all. It is asked before sending, because an error after
// it does not tell: pgconn.SafeToRetry says yes to a connection that broke while the answer was awaited.
func unsent(ctx context.Context, conn *pgx.Conn) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if conn.IsClosed() {
		return pgconn.ErrConnClosed
	}
	return nil
}

// refused says whether err is the server's refusal of a statement, or of COMMIT, after which it went on serving the
// session: nothing of it was kept. A fatal error may follow a commit that happened.
func refused(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.SeverityUnlocalized == "ERROR"
}

func count(p *trade.Plan) trade.Applied {
	a := trade.Applied{Rows: len(p.Inserts) + len(p.Replaces), Duplicates: p.Duplicates, DeadLetters: len(p.DeadLetters), Invalid: len(p.DeadLetters)}
	for i := range p.Decisions {
		if p.Decisions[i].Reason == trade.StaleVersion {
			a.Stale++
		}
	}
	return a
}
