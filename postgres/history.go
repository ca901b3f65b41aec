package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

const (
	// historyWindow is the most rows of the journal that one History walks in log order. To walk them takes about as long
	// as to ask the filters of a large journal (see the index journal_by_trade) for a trade that is rare.
	historyWindow = 20_000
	// frequent is how many submissions of a trade in a window make it a frequent one. The filters would name nearly every
	// range of pages for it, so all of the journal would be read for each page.
	frequent = 10
)

const historyColumns = `generation, partition, coalesce("offset", -1), request_id, outcome, version, reason, detail,
	accepted_at, decided_at, counterparty_id, book_id,
	maturity_date - DATE '1970-01-01', created_date - DATE '1970-01-01', replay_of, coalesce(replaces, true)`

const (
	// historyStart gives the partition of a trade in the oldest generation that the journal has; no row where the trade
	// has moved to a later generation since.
	historyStart = `
		SELECT src_generation, src_partition FROM (
			SELECT src_generation, src_partition FROM trades WHERE trade_id = $1 ORDER BY version DESC LIMIT 1) AS newest
		WHERE src_generation = (SELECT min(generation) FROM journal)`

	// walkHistory reads a window of one partition in log order. It returns the rows of the trade, and always the last row
	// of the window, which shows that the window is full. It stops when the page is full.
	walkHistory = `
		SELECT ` + historyColumns + `, place, trade_id IS NOT DISTINCT FROM $1 FROM (
			SELECT *, row_number() OVER (ORDER BY "offset") AS place FROM journal
			WHERE generation = $2 AND partition = $3 AND "offset" > $4 ORDER BY "offset" LIMIT $5) AS w
		WHERE trade_id = $1 OR place = $5
		ORDER BY "offset" LIMIT $6`

	// historyEnd reads what follows the log of a partition: requests that were closed without a record. laterHistory says
	// whether another generation follows.
	historyEnd = `
		SELECT ` + historyColumns + ` FROM journal
		WHERE generation = $2 AND partition = $3 AND "offset" IS NULL AND trade_id = $1 AND request_id > $4::uuid
		ORDER BY request_id LIMIT $5`
	laterHistory = `SELECT coalesce(max(generation) > $1, false) FROM journal`

	// findHistory finds the rows of a trade by the filters. It reads all of them and keeps a page. OFFSET 0 keeps the
	// planner from the index of the log order, which would read all other trades as well.
	findHistory = `
		SELECT ` + historyColumns + ` FROM (
			SELECT *, coalesce("offset", 9223372036854775807) AS place FROM journal WHERE trade_id = $1 OFFSET 0) AS s
		WHERE (generation, place, request_id) > ($2, $3, $4::uuid)
		ORDER BY generation, place, request_id LIMIT $5`

	// replacedNear and replacedFar find which request stored each version last, before a place in the log: in the window
	// before it, or anywhere.
	replacedNear = `
		SELECT DISTINCT ON (version) version, request_id FROM (
			SELECT trade_id, version, outcome, request_id, "offset" FROM journal
			WHERE generation = $3 AND partition = $5 AND "offset" < $4 ORDER BY "offset" DESC LIMIT $6) AS w
		WHERE trade_id = $1 AND version = ANY($2) AND outcome = 'SUCCESS'
		ORDER BY version, "offset" DESC`
	replacedFar = `
		SELECT s.version, j.request_id FROM (
			SELECT version, max(ARRAY[generation, "offset", partition]) AS place FROM (
				SELECT generation, "offset", partition, version FROM journal
				WHERE trade_id = $1 AND version = ANY($2) AND outcome = 'SUCCESS' OFFSET 0) AS a
			WHERE (generation, "offset") < ($3, $4) GROUP BY version) AS s
		CROSS JOIN LATERAL (SELECT request_id FROM journal
			WHERE generation = place[1] AND partition = place[3] AND "offset" = place[2] LIMIT 1) AS j`
)

// History returns up to limit decided requests of a trade after the given position, in log order. The zero position
// starts at the first one that the journal still has. next is the position to continue after, zero if there are no
// more. A page may be short or empty although there is a next one. Invalid records are left out, because their trade is
// not known.
//
// A page of a frequent trade is read from the log order of its partition, which stops when the page is full. The
// submissions of any other trade are found by the filters, and are few.
func (r *Reader) History(ctx context.Context, tradeID string, after trade.HistoryPosition, limit int) (
	page []trade.HistoryEntry, next trade.HistoryPosition, err error,
) {
	page, next, err = r.history(ctx, tradeID, after, limit, historyWindow)
	if err != nil {
		return nil, next, fmt.Errorf("cannot read the history of a trade: %w", err)
	}
	return page, next, nil
}

func (r *Reader) history(ctx context.Context, tradeID string, after trade.HistoryPosition, limit, window int) (
	page []trade.HistoryEntry, next trade.HistoryPosition, err error,
) {
	if after == (trade.HistoryPosition{}) {
		if after, err = r.historyStart(ctx, tradeID); err != nil {
			return nil, next, err
		}
	}
	h := historyPage{tradeID: tradeID, limit: limit + 1} // one more than the page tells that there is another page
	walked, more := false, false
	if after.Generation > 0 { // else the partition is not known
		if walked, more, err = h.walkToEnd(ctx, r, after, window); err != nil {
			return nil, next, err
		}
	}
	if !walked {
		if err := h.find(ctx, r, after); err != nil {
			return nil, next, err
		}
	}
	if len(h.entries) > limit {
		h.entries, more = h.entries[:limit], true
	}
	if more {
		next = h.entries[len(h.entries)-1].Position()
	}
	return h.entries, next, h.findReplaced(ctx, r, walked, window)
}

// historyStart returns the position before everything in the partition of the trade; zero if that is not known.
func (r *Reader) historyStart(ctx context.Context, tradeID string) (start trade.HistoryPosition, err error) {
	rows, err := r.pool.Query(ctx, historyStart, tradeID)
	if err != nil {
		return start, err
	}
	_, err = pgx.ForEachRow(rows, []any{&start.Generation, &start.Partition}, func() error {
		start.Offset = trade.NoOffset
		return nil
	})
	return start, err
}

// historyPage is a page while it is read.
type historyPage struct {
	tradeID  string
	limit    int // of entries that are read
	entries  []trade.HistoryEntry
	replaces []bool // of each entry: it may have replaced an earlier one
}

// walkToEnd reads the submissions in a window of the log, and what follows the log if the window reaches its end. done
// is false if it has met too few to make a page of them. more says whether there may be another page.
func (h *historyPage) walkToEnd(ctx context.Context, r *Reader, after trade.HistoryPosition, window int) (
	done, more bool, err error,
) {
	if after.Offset < trade.LastOffset {
		full, err := h.walk(ctx, r, after, window)
		if err != nil || full || len(h.entries) == h.limit {
			done = len(h.entries) == h.limit || len(h.entries) >= frequent
			return done, done, err
		}
		after.ID = trade.RequestID{} // those without a record are behind all others
	}
	var later bool
	if err := r.pool.QueryRow(ctx, laterHistory, after.Generation).Scan(&later); err != nil || later {
		return false, false, err
	}
	return true, false, h.read(ctx, r, historyEnd, h.tradeID, after.Generation, after.Partition, [16]byte(after.ID),
		h.limit-len(h.entries))
}

// walk reads the submissions in a window of the log. full says whether the window has as many rows as it may have.
func (h *historyPage) walk(ctx context.Context, r *Reader, after trade.HistoryPosition, window int) (
	full bool, err error,
) {
	rows, err := r.pool.Query(ctx, walkHistory,
		h.tradeID, after.Generation, after.Partition, after.Offset, window, h.limit)
	if err != nil {
		return false, err
	}
	var row historyRow
	var place int
	var ours bool
	_, err = pgx.ForEachRow(rows, append(row.into(), &place, &ours), func() error {
		full = full || place == window
		if ours {
			h.add(&row)
		}
		return nil
	})
	return full, err
}

// find reads the submissions wherever they are in the journal.
func (h *historyPage) find(ctx context.Context, r *Reader, after trade.HistoryPosition) error {
	h.entries, h.replaces = nil, nil
	return h.read(ctx, r, findHistory, h.tradeID, after.Generation, after.Offset, [16]byte(after.ID), h.limit)
}

// read adds the submissions that a query returns.
func (h *historyPage) read(ctx context.Context, r *Reader, sql string, args ...any) error {
	rows, err := r.pool.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var row historyRow
	_, err = pgx.ForEachRow(rows, row.into(), func() error {
		h.add(&row)
		return nil
	})
	return err
}

func (h *historyPage) add(row *historyRow) {
	h.entries = append(h.entries, row.entry(h.tradeID))
	h.replaces = append(h.replaces, row.replaces)
}

// findReplaced sets which request each submission replaced: the last one before it that stored the same version.
func (h *historyPage) findReplaced(ctx context.Context, r *Reader, walked bool, window int) error {
	last := map[int32]trade.RequestID{}
	first := map[int32]*trade.HistoryEntry{} // of a version on this page, and it replaced one on a page before
	for i := range h.entries {
		e := &h.entries[i]
		if e.Status != trade.Success {
			continue
		}
		if id, ok := last[e.Version]; ok {
			e.Replaced = id
		} else if h.replaces[i] {
			first[e.Version] = e
		}
		last[e.Version] = e.ID
	}
	look := func(sql string, more ...any) error {
		if len(first) == 0 {
			return nil
		}
		versions := make([]int32, 0, len(first))
		for version := range first {
			versions = append(versions, version)
		}
		start := h.entries[0].Position()
		rows, err := r.pool.Query(ctx, sql, append([]any{h.tradeID, versions, start.Generation, start.Offset}, more...)...)
		if err != nil {
			return err
		}
		var version int32
		var id trade.RequestID
		_, err = pgx.ForEachRow(rows, []any{&version, (*[16]byte)(&id)}, func() error {
			first[version].Replaced = id
			delete(first, version)
			return nil
		})
		return err
	}
	if walked && len(first) > 0 {
		if err := look(replacedNear, h.entries[0].Partition, window); err != nil {
			return err
		}
	}
	return look(replacedFar)
}

// historyRow is a row with historyColumns.
type historyRow struct {
	trade.HistoryEntry
	reason, detail, counterparty, book *string
	maturity, created                  *trade.Date
	replayOf                           *[16]byte
	replaces                           bool
}

func (s *historyRow) into() []any {
	return []any{&s.Generation, &s.Partition, &s.Offset, (*[16]byte)(&s.ID), (*string)(&s.Status), &s.Version,
		&s.reason, &s.detail, &s.AcceptedAt, &s.DecidedAt, &s.counterparty, &s.book, &s.maturity, &s.created, &s.replayOf,
		&s.replaces}
}

func (s *historyRow) entry(tradeID string) trade.HistoryEntry {
	e := s.HistoryEntry
	e.TradeID, e.Reason, e.Detail = tradeID, trade.Code(value(s.reason)), value(s.detail)
	e.AcceptedAt, e.DecidedAt = e.AcceptedAt.UTC(), e.DecidedAt.UTC()
	e.ReplayOf = value(s.replayOf)
	if s.book != nil { // an undelivered request has no payload
		e.Trade = trade.Trade{TradeID: tradeID, Version: e.Version, CounterpartyID: value(s.counterparty),
			BookID: *s.book, MaturityDate: value(s.maturity), CreatedDate: value(s.created)}
	}
	return e
}

const (
	// storedVersions reads a page of the versions. The journal row that stored a version after the instant says whether it
	// replaced an earlier one, which most do not; no row says that it may have.
	storedVersions = `
		SELECT ` + tradeColumns + `, stored_at, CASE WHEN stored_at > $4 THEN coalesce((
			SELECT replaces FROM journal AS j
			WHERE j.generation = src_generation AND j.partition = src_partition AND j."offset" = src_offset LIMIT 1), true)
			ELSE false END
		FROM trades WHERE trade_id = $1 AND version > $2 ORDER BY version LIMIT $3`

	// storedBefore reads what was stored of each version at an instant. No trade in a row, and first: the version was
	// stored for the first time after it. The aggregate keeps one place of each version, however many there were.
	storedBefore = `
		SELECT s.version, first, j.counterparty_id, j.book_id, j.maturity, j.created FROM (
			SELECT version, coalesce(bool_or(NOT replaces), false) AS first,
				max(ARRAY[generation, "offset", partition]) FILTER (WHERE decided_at <= $3) AS place
			FROM journal WHERE trade_id = $1 AND version = ANY($2) AND outcome = 'SUCCESS' GROUP BY version) AS s
		LEFT JOIN LATERAL (SELECT counterparty_id, book_id,
				maturity_date - DATE '1970-01-01' AS maturity, created_date - DATE '1970-01-01' AS created
			FROM journal WHERE generation = place[1] AND partition = place[3] AND "offset" = place[2] LIMIT 1) AS j ON true`
)

// AsOf returns the versions of one trade as they were stored at an instant, after the given version, ascending. It
// looks at up to limit versions that are stored now, so a page may be short or empty although there is a next one. next
// is the version to continue after, zero if there are no more. It reads the journal only for versions that were stored
// since. Errors: trade.ErrForgotten if the journal does not reach back that far, trade.ErrFuture.
func (r *Reader) AsOf(ctx context.Context, tradeID string, at time.Time, after int32, limit int) (
	then []trade.Trade, next int32, err error,
) {
	then, next, err = r.asOf(ctx, tradeID, at, after, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read a trade as of %s: %w", at.Format(time.RFC3339), err)
	}
	return then, next, nil
}

func (r *Reader) asOf(ctx context.Context, tradeID string, at time.Time, after int32, limit int) (
	then []trade.Trade, next int32, err error,
) {
	clock, err := Clock(ctx, r.pool) // has stamped what is stored, so it tells what is in the future
	if err != nil {
		return nil, 0, err
	}
	if at.After(clock) {
		return nil, 0, trade.ErrFuture
	}
	now, err := r.storedNow(ctx, tradeID, at, after, limit+1) // one more tells whether there is another page
	if err != nil {
		return nil, 0, err
	}
	if len(now) > limit {
		now = now[:limit]
		next = now[limit-1].Trade.Version
	}
	journal, replaced := make([]trade.StoredAt, 0, len(now)), make([]int32, 0, len(now))
	for _, s := range now {
		switch {
		case s.Replaces:
			replaced = append(replaced, s.Trade.Version)
		case s.At.After(at):
			journal = append(journal, s)
		}
	}
	if len(replaced) > 0 {
		if journal, err = r.appendBefore(ctx, journal, tradeID, at, replaced); err != nil {
			return nil, 0, err
		}
	}
	then, err = trade.AsOf(at, now, journal)
	return then, next, err
}

// storedNow returns the versions after the given one that are stored now. Replaces is set if one of them was stored
// after the instant in the place of an earlier one, or may have been.
func (r *Reader) storedNow(ctx context.Context, tradeID string, at time.Time, after int32, limit int) (
	[]trade.StoredAt, error,
) {
	rows, err := r.pool.Query(ctx, storedVersions, tradeID, after, limit, at)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s trade.StoredAt, err error) {
		t := &s.Trade
		err = row.Scan(&t.TradeID, &t.Version, &t.CounterpartyID, &t.BookID, &t.MaturityDate, &t.CreatedDate,
			&s.At, &s.Replaces)
		return s, err
	})
}

// appendBefore appends what the journal knows of the given versions before the instant, or that there was nothing.
func (r *Reader) appendBefore(ctx context.Context, journal []trade.StoredAt, tradeID string, at time.Time,
	versions []int32) ([]trade.StoredAt, error) {
	rows, err := r.pool.Query(ctx, storedBefore, tradeID, versions, at)
	if err != nil {
		return nil, err
	}
	var version int32
	var first bool
	var counterparty, book *string
	var maturity, created *trade.Date
	_, err = pgx.ForEachRow(rows, []any{&version, &first, &counterparty, &book, &maturity, &created}, func() error {
		s := trade.StoredAt{Trade: trade.Trade{TradeID: tradeID, Version: version}, At: at.Add(time.Nanosecond)}
		if book != nil {
			s.At = at
			s.Trade.CounterpartyID, s.Trade.BookID = value(counterparty), *book
			s.Trade.MaturityDate, s.Trade.CreatedDate = value(maturity), value(created)
		}
		if book != nil || first {
			journal = append(journal, s)
		}
		return nil
	})
	return journal, err
}
