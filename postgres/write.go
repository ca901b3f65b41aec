package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/internal/failpoint"
	"tradestore/trade"
)

// Decide knows, under the lock on the positions, which keys are stored, so those that are not take the cheapest way into
// the table. A key that somebody else stored since makes the whole transaction fail with unique_violation, class Repeatable.
const copyTrades = `COPY trades (src_offset, stored_at, version, src_generation, src_partition, maturity_date, created_date,
	request_id, trade_id, counterparty_id, book_id) FROM STDIN BINARY`

// The source position must grow (invariant A5): Decide and the lock on the position make sure of it, and a row that this
// guard leaves as it is shows as a row missing in the count. Arrays unnested in the select list advance together and
// are not stored first, as those in FROM are.
const replaceTrades = `
	UPDATE trades SET
		src_offset = r.src_offset, stored_at = $2, src_generation = $1, src_partition = r.src_partition,
		maturity_date = DATE '1970-01-01' + r.maturity, created_date = DATE '1970-01-01' + r.created,
		request_id = r.request_id, counterparty_id = r.counterparty_id, book_id = r.book_id
	FROM (SELECT unnest($3::bigint[]) AS src_offset, unnest($4::integer[]) AS version, unnest($5::integer[]) AS src_partition,
		unnest($6::integer[]) AS maturity, unnest($7::integer[]) AS created, unnest($8::uuid[]) AS request_id,
		unnest($9::text[]) AS trade_id, unnest($10::text[]) AS counterparty_id, unnest($11::text[]) AS book_id) AS r
	WHERE trades.trade_id = r.trade_id COLLATE "C" AND trades.version = r.version
	  AND (trades.src_generation, trades.src_offset) < ($1, r.src_offset)`

const copyDecisions = `COPY journal ("offset", accepted_at, decided_at, accepted_on, generation, partition, version,
	maturity_date, created_date, request_id, replay_of, outcome, trade_id, counterparty_id, book_id,
	reason, detail, correlation_id, traceparent, replaces) FROM STDIN BINARY`

const insertDeadLetters = `
	INSERT INTO dead_letter (topic_id, dead_at, reason, partition, "offset", request_id, detail, value)
	SELECT $1, $2, $3, * FROM unnest($4::integer[], $5::bigint[], $6::uuid[], $7::text[], $8::bytea[])`

// write stores what a plan says, inside the transaction of the connection.
type write struct {
	conn  *pgx.Conn
	batch *trade.Batch
	plan  *trade.Plan
	now   time.Time // one instant for all that the transaction decides
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

// insert adds the rows of keys that are not stored.
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

// replace sends new fields for stored rows as one array per column.
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

// journal remembers every decision. A request that someone decided since begin looked makes the whole transaction fail
// with unique_violation, class Repeatable: the first decision wins (invariant A6).
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
	if r.Fault != "" { // the fields may be what the columns refuse; the dead letter has them as bytes
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

// deadLetters keeps the records that can't be stored, as bytes. They are rare, so they take the plain way.
func (w *write) deadLetters(ctx context.Context) error {
	n := len(w.plan.DeadLetters)
	if n == 0 {
		return nil
	}
	partitions, offsets := make([]int32, n), make([]int64, n)
	ids := make([]*[16]byte, n) // nil: the headers named no request
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

// maxDetail bounds a text for people, in bytes.
const maxDetail = 500

// clean makes a text for people storable, whatever it was made of: a dead letter must not fail for its own words.
func clean(s string) string {
	if len(s) > maxDetail {
		s = s[:maxDetail]
	}
	return strings.ToValidUTF8(strings.ReplaceAll(s, "\x00", ""), "?")
}
