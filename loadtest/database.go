package loadtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// Database reads the tables of the target. They show what HTTP cannot, such as a request that no client knows. It never
// writes and is not safe for concurrent use.
type Database struct {
	conn *pgx.Conn
}

// OpenDatabase opens a read-only session.
func OpenDatabase(ctx context.Context, url string) (*Database, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("cannot read --database-url: %w", err)
	}
	cfg.RuntimeParams["application_name"] = "tradestore-loadtest"
	cfg.RuntimeParams["default_transaction_read_only"] = "on"
	cfg.RuntimeParams["timezone"] = "UTC"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("cannot open the database of the target (--database-url): %w", err)
	}
	return &Database{conn}, nil
}

// Close ends the session.
func (d *Database) Close(ctx context.Context) { _ = d.conn.Close(ctx) }

// stored has the rows of one attack, by the group of the trade id.
type stored struct {
	rows       []groupedRow   // sorted by group, then by version
	journal    []groupedEntry // sorted by group
	unexpected []finding      // rows and entries of trade ids that no operation has
	next       map[partition]int64
	highest    map[partition]logPosition // of the journal: the highest place in each partition
}

type groupedRow struct {
	row
	group uint32
}

type groupedEntry struct {
	entry
	group uint32
}

type partition struct{ generation, number int32 }

// read reads rows, journal and positions in one snapshot. group returns the group of a trade id. Trade ids of other
// attacks of the run have none and are skipped.
func (d *Database) read(ctx context.Context, prefix string, since time.Time,
	group func(tradeID string) (g uint32, known, ours bool)) (*stored, error) {
	tx, err := d.conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("cannot read the tables of the target: %w", err)
	}
	defer func() { _ = tx.Rollback(ctx) }() // nothing to keep
	s := &stored{next: map[partition]int64{}, highest: map[partition]logPosition{}}
	if err := s.readRows(ctx, tx, prefix, group); err != nil {
		return nil, fmt.Errorf("cannot read trades: %w", err)
	}
	if err := s.readJournal(ctx, tx, prefix, since, group); err != nil {
		return nil, fmt.Errorf("cannot read the journal: %w", err)
	}
	if err := s.readPositions(ctx, tx); err != nil {
		return nil, fmt.Errorf("cannot read ingest_offsets: %w", err)
	}
	slices.SortFunc(s.rows, func(a, b groupedRow) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.version, b.version))
	})
	slices.SortFunc(s.journal, func(a, b groupedEntry) int { return cmp.Compare(a.group, b.group) })
	return s, nil
}

const notSent = "but no such trade can be: nobody sent it, or only in bodies to be refused"

func (s *stored) readRows(ctx context.Context, tx pgx.Tx, prefix string,
	group func(string) (uint32, bool, bool)) error {
	rows, _ := tx.Query(ctx, `SELECT trade_id, version, counterparty_id, book_id,
		maturity_date - DATE '1970-01-01', created_date - DATE '1970-01-01',
		request_id, src_generation, src_partition, src_offset
		FROM trades WHERE trade_id >= $1 AND trade_id < $2`, prefix, prefixEnd(prefix)) // its error comes with the rows
	var t trade.Trade
	var r groupedRow
	_, err := pgx.ForEachRow(rows, []any{&t.TradeID, &t.Version, &t.CounterpartyID, &t.BookID, &t.MaturityDate,
		&t.CreatedDate,
		(*[16]byte)(&r.id), &r.at.generation, &r.at.partition, &r.at.offset}, func() error {
		var known, ours bool
		r.group, known, ours = group(t.TradeID)
		r.version, r.content = t.Version, digest(&t)
		switch {
		case known:
			s.rows = append(s.rows, r)
		case ours:
			s.unexpected = append(s.unexpected, finding{doubled, fmt.Sprintf("trade %s version %d is stored, by request %s, %s",
				t.TradeID, t.Version, r.id, notSent)})
		}
		return nil
	})
	return err
}

// readJournal selects partitions by day. They have no index by trade id, so each is read once as a whole.
func (s *stored) readJournal(ctx context.Context, tx pgx.Tx, prefix string, since time.Time,
	group func(string) (uint32, bool, bool)) error {
	rows, _ := tx.Query(ctx, `SELECT coalesce(trade_id, ''), coalesce(version, 0),
		coalesce(counterparty_id, ''), coalesce(book_id, ''),
		coalesce(maturity_date - DATE '1970-01-01', 0), coalesce(created_date - DATE '1970-01-01', 0),
		request_id, generation, partition, coalesce("offset", -1), outcome, coalesce(reason, '')
		FROM journal WHERE accepted_on >= $3::date AND trade_id >= $1 AND trade_id < $2`,
		prefix, prefixEnd(prefix), since.UTC().AddDate(0, 0, -1))
	var t trade.Trade
	var e groupedEntry
	var status, reason string
	_, err := pgx.ForEachRow(rows, []any{&t.TradeID, &t.Version, &t.CounterpartyID, &t.BookID, &t.MaturityDate,
		&t.CreatedDate,
		(*[16]byte)(&e.id), &e.at.generation, &e.at.partition, &e.at.offset, &status, &reason}, func() error {
		var known, ours bool
		e.group, known, ours = group(t.TradeID)
		// few different ones, kept once
		e.version, e.content, e.shown = t.Version, digest(&t), shown{trade.Status(unique.Make(status).Value()),
			trade.Code(unique.Make(reason).Value())}
		p := partition{e.at.generation, e.at.partition}
		if top, ok := s.highest[p]; e.at.logged() && (!ok || top.offset < e.at.offset) {
			s.highest[p] = e.at
		}
		switch {
		case known:
			s.journal = append(s.journal, e)
		case ours:
			s.unexpected = append(s.unexpected, finding{doubled, fmt.Sprintf("request %s, trade %s version %d: decided %s "+
				"at %s, %s", e.id, t.TradeID, t.Version, e.shown, e.at, notSent)})
		}
		return nil
	})
	return err
}

// readPositions also compares the positions with the journal: the same transactions write both.
func (s *stored) readPositions(ctx context.Context, tx pgx.Tx) error {
	rows, _ := tx.Query(ctx, `SELECT generation, partition, next_offset FROM ingest_offsets`)
	var p partition
	var next int64
	_, err := pgx.ForEachRow(rows, []any{&p.generation, &p.number, &next}, func() error { s.next[p] = next; return nil })
	for p, top := range s.highest {
		if next, ok := s.next[p]; !ok || next <= top.offset {
			s.unexpected = append(s.unexpected, finding{wrong, fmt.Sprintf("partition %d is applied up to %d, by its "+
				"position, but a record at %s is decided", p.number, next, top)})
		}
	}
	return err
}

// group returns the rows and journal entries of a group.
func (s *stored) group(group uint32) (rows []row, journal []entry) {
	from, _ := slices.BinarySearchFunc(s.rows, group, func(r groupedRow, g uint32) int { return cmp.Compare(r.group, g) })
	for ; from < len(s.rows) && s.rows[from].group == group; from++ {
		rows = append(rows, s.rows[from].row)
	}
	from, _ = slices.BinarySearchFunc(s.journal, group, func(e groupedEntry, g uint32) int {
		return cmp.Compare(e.group, g)
	})
	for ; from < len(s.journal) && s.journal[from].group == group; from++ {
		journal = append(journal, s.journal[from].entry)
	}
	return rows, journal
}

// prefixEnd returns the first text after all that begin with prefix, in byte order. The prefix ends in ASCII.
func prefixEnd(prefix string) string {
	last := len(prefix) - 1
	return prefix[:last] + string(rune(prefix[last]+1))
}

// operationNumber returns the number in a trade id of the run; see Plan.TradeID.
func operationNumber(tradeID, prefix string) (n uint64, ok bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(tradeID, prefix), 36, 64)
	return n, err == nil
}
