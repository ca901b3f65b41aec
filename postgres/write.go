package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/internal/failpoint"
	"tradestore/trade"
)

// copyTrades inserts the trades whose key is not stored; Decide knows that under the lock on the positions. COPY is the
// cheapest way. If another transaction has stored such a key, the whole transaction fails with unique_violation, class
// Repeatable.
const copyTrades = `COPY trades (src_offset, stored_at, version, src_generation, src_partition,
	maturity_date, created_date, request_id, trade_id, counterparty_id, book_id) FROM STDIN BINARY`

// replaceTrades updates stored trades. The source position must grow (rule A5). Decide and the lock on the positions
// ensure that; a row that fails the condition is missing in the row count. Arrays that are unnested in the select list
// advance together and are not materialized, as those in FROM would be.
const replaceTrades = `
	UPDATE trades SET
		src_offset = r.src_offset, stored_at = $2, src_generation = $1, src_partition = r.src_partition,
		maturity_date = DATE '1970-01-01' + r.maturity, created_date = DATE '1970-01-01' + r.created,
		request_id = r.request_id, counterparty_id = r.counterparty_id, book_id = r.book_id
	FROM (SELECT unnest($3::bigint[]) AS src_offset, unnest($4::integer[]) AS version,
		unnest($5::integer[]) AS src_partition, unnest($6::integer[]) AS maturity, unnest($7::integer[]) AS created,
		unnest($8::uuid[]) AS request_id, unnest($9::text[]) AS trade_id, unnest($10::text[]) AS counterparty_id,
		unnest($11::text[]) AS book_id) AS r
	WHERE trades.trade_id = r.trade_id COLLATE "C" AND trades.version = r.version
	  AND (trades.src_generation, trades.src_offset) < ($1, r.src_offset)`

const copyDecisions = `COPY journal ("offset", accepted_at, decided_at, accepted_on, generation, partition, version,
	maturity_date, created_date, request_id, replay_of, outcome, trade_id, counterparty_id, book_id,
	reason, detail, correlation_id, traceparent, replaces) FROM STDIN BINARY`

const insertDeadLetters = `
	INSERT INTO dead_letter (topic_id, dead_at, reason, partition, "offset", request_id, detail, value)
	SELECT $1, $2, $3, * FROM unnest($4::integer[], $5::bigint[], $6::uuid[], $7::text[], $8::bytea[])`

// write stores a plan inside the transaction of the connection.
type write struct {
	conn  *pgx.Conn
	batch *trade.Batch
	plan  *trade.Plan
	now   time.Time // the time of all decisions of the transaction
}

func (w *write) all(ctx context.Context) error {
	if err := w.insert(ctx); err != nil {
		return err
	}
	if err := w.replace(ctx); err != nil {
		return err
	}
	if err := w.journal(ctx); err != nil {
		return err
	}
	failpoint.Here("afterCopy")
	return w.deadLetters(ctx)
}

// insert stores the rows of new keys.
func (w *write) insert(ctx context.Context) error {
	n := len(w.plan.Inserts)
	if n == 0 {
		return nil
	}
	return copyRows(ctx, w.conn, copyTrades, n, func(c *copyBuffer, i int) {
		r := w.plan.Inserts[i]
		c.row(11)
		c.int8(r.Offset)
		c.time(w.now)
		c.int4(r.Trade.Version)
		c.int4(w.batch.Generation)
		c.int4(r.Partition)
		c.date(r.Trade.MaturityDate)
		c.date(r.Trade.CreatedDate)
		c.id(r.ID)
		c.text(r.Trade.TradeID)
		c.text(r.Trade.CounterpartyID)
		c.text(r.Trade.BookID)
	})
}

// replace updates stored rows, with one array per column.
func (w *write) replace(ctx context.Context) error {
	n := len(w.plan.Replaces)
	if n == 0 {
		return nil
	}
	offsets := make([]int64, n)
	numbers := make([]int32, 4*n)
	version, partition, maturity, created := numbers[:n], numbers[n:2*n], numbers[2*n:3*n], numbers[3*n:]
	ids := make([][16]byte, n)
	texts := make([]string, 3*n)
	tradeID, counterparty, book := texts[:n], texts[n:2*n], texts[2*n:]
	for i, r := range w.plan.Replaces {
		offsets[i], version[i], partition[i] = r.Offset, r.Trade.Version, r.Partition
		maturity[i], created[i] = int32(r.Trade.MaturityDate), int32(r.Trade.CreatedDate)
		ids[i], tradeID[i], counterparty[i], book[i] = r.ID, r.Trade.TradeID, r.Trade.CounterpartyID, r.Trade.BookID
	}
	tag, err := w.conn.Exec(ctx, replaceTrades, w.batch.Generation, w.now,
		offsets, version, partition, maturity, created, ids, tradeID, counterparty, book)
	return checkRows(tag, err, n)
}

// journal stores every decision. If another transaction has decided one of the requests since begin, the whole
// transaction fails with unique_violation, class Repeatable: the first decision stands (rule A6).
func (w *write) journal(ctx context.Context) error {
	if len(w.plan.Decisions) == 0 {
		return nil
	}
	return copyRows(ctx, w.conn, copyDecisions, len(w.plan.Decisions), func(c *copyBuffer, i int) {
		w.journalRow(c, &w.plan.Decisions[i])
	})
}

func (w *write) journalRow(c *copyBuffer, d *trade.PlannedDecision) {
	r, t := d.Record, &d.Record.Trade
	c.row(20)
	c.int8(r.Offset)
	c.time(r.AcceptedAt)
	c.time(w.now)
	c.date(r.AcceptedOn())
	c.int4(w.batch.Generation)
	c.int4(r.Partition)
	if r.Fault != "" { // the columns might refuse the fields; the dead letter has them as bytes
		c.null()
		c.null()
		c.null()
		c.id(r.ID)
		c.idOrNull(r.ReplayOf)
		c.text(string(d.Status))
		c.null()
		c.null()
		c.null()
	} else {
		c.int4(t.Version)
		c.date(t.MaturityDate)
		c.date(t.CreatedDate)
		c.id(r.ID)
		c.idOrNull(r.ReplayOf)
		c.text(string(d.Status))
		c.text(t.TradeID)
		c.text(t.CounterpartyID)
		c.text(t.BookID)
	}
	c.textOrNull(string(d.Reason))
	c.textOrNull(clean(d.Detail))
	c.textOrNull(r.CorrelationID)
	c.textOrNull(r.TraceParent)
	if d.Status == trade.Success {
		c.bool(d.Replaces)
	} else {
		c.null()
	}
}

// deadLetters stores the invalid records, as bytes (rule E7). They are rare, so a plain INSERT will do.
func (w *write) deadLetters(ctx context.Context) error {
	n := len(w.plan.DeadLetters)
	if n == 0 {
		return nil
	}
	partitions, offsets := make([]int32, n), make([]int64, n)
	ids := make([]*[16]byte, n) // nil: the headers have no valid request id
	details, values := make([]string, n), make([][]byte, n)
	for i, r := range w.plan.DeadLetters {
		partitions[i], offsets[i], details[i], values[i] = r.Partition, r.Offset, clean(r.Fault), r.Value
		if !r.ID.IsZero() {
			ids[i] = (*[16]byte)(&r.ID)
		}
	}
	tag, err := w.conn.Exec(ctx, insertDeadLetters, [16]byte(w.batch.TopicID), w.now, string(trade.InvalidRecord),
		partitions, offsets, ids, details, values)
	return checkRows(tag, err, n)
}

// maxDetail is the longest detail, in bytes.
const maxDetail = 500

// clean makes any text storable: a dead letter must not fail because of its detail.
func clean(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "?")
}
