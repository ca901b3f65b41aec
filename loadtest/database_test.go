package loadtest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/postgres"
	"tradestore/test/stack"
	"tradestore/trade"
)

// tables are a database that holds what a store would have written.
type tables struct {
	*attacked
	conn *pgx.Conn
	db   *Database
}

func newTables(t *testing.T) *tables {
	t.Helper()
	at := stack.Database(t)
	require.NoError(t, postgres.Migrate(t.Context(), at))
	conn, err := pgx.Connect(t.Context(), at)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(t.Context()) })
	db, err := OpenDatabase(t.Context(), at)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close(t.Context()) })
	s := &tables{newAttacked(t), conn, db}
	for _, f := range s.log {
		s.journal(f)
	}
	for _, f := range s.rows() {
		s.row(f)
	}
	s.exec(`INSERT INTO ingest_offsets VALUES (gen_random_uuid(), 0, 1, $1, 0, 'trades-inbound')`, len(s.log))
	return s
}

func (s *tables) exec(statement string, args ...any) {
	s.t.Helper()
	_, err := s.conn.Exec(s.t.Context(), statement, args...)
	require.NoError(s.t, err, statement)
}

func (s *tables) journal(f *filed) {
	s.t.Helper()
	s.exec(`INSERT INTO journal ("offset", accepted_at, decided_at, accepted_on, generation, partition, version,
			maturity_date, created_date,
		request_id, outcome, trade_id, counterparty_id, book_id, reason)
			VALUES ($1, now(), now(), current_date, 1, $2, $3, $4, $5, $6, $7, $8, $9, $10, nullif($11, ''))`,
		f.at.offset, f.at.partition, f.trade.Version, f.trade.MaturityDate.Time(), f.trade.CreatedDate.Time(), [16]byte(f.id),
		string(f.shown.status),
		f.trade.TradeID, f.trade.CounterpartyID, f.trade.BookID, string(f.shown.reason))
}

func (s *tables) row(f *filed) {
	s.t.Helper()
	s.exec(`INSERT INTO trades VALUES ($1, now(), $2, 1, $3, $4, $5, $6, $7, $8, $9)`, f.at.offset, f.trade.Version,
		f.at.partition,
		f.trade.MaturityDate.Time(), f.trade.CreatedDate.Time(), [16]byte(f.id), f.trade.TradeID, f.trade.CounterpartyID,
		f.trade.BookID)
}

func (s *tables) reconcile() Reconciliation {
	s.t.Helper()
	rec, err := Reconcile(s.t.Context(), s.api, s.db, s.plan, s.results, ReconcileConfig{Wait: 100 * time.Millisecond})
	require.NoError(s.t, err)
	require.Equal(s.t, "HTTP and SQL", rec.By)
	return rec
}

func TestReconcileBySQL(t *testing.T) {
	s := newTables(t)
	rec := s.reconcile()
	clean(t, rec)
	require.EqualValues(t, len(s.rows()), rec.Rows)

	// Each line spoils the tables, expects a finding, and repairs them.
	v, _ := s.one(Higher)
	id := v.id.String()
	f := func(kind, want, spoil, repair string) {
		t.Helper()
		named := func(statement string) string {
			return strings.NewReplacer("ID", "'"+id+"'", "TRADE", "'"+v.trade.TradeID+"'").Replace(statement)
		}
		s.exec(named(spoil))
		rec := s.reconcile()
		offenders := map[string]Offenders{"lost": rec.Lost, "doubled": rec.Doubled, "stuck": rec.Stuck,
			"wrong": rec.Wrong}[kind]
		require.EqualValues(t, 1, offenders.Count, "%s: %+v", spoil, rec)
		require.Contains(t, offenders.First[0], want, spoil)
		require.EqualValues(t, 1, rec.Lost.Count+rec.Doubled.Count+rec.Stuck.Count+rec.Wrong.Count, "%s: %+v", spoil, rec)
		s.exec(named(repair))
	}
	f("lost", id, `DELETE FROM trades WHERE request_id = ID`, `SELECT 1`)
	s.row(v)
	f("lost", "the journal has no outcome", `DELETE FROM journal WHERE request_id = ID`, `SELECT 1`)
	s.journal(v)
	f("wrong", "with fields that nobody sent", `UPDATE trades SET book_id = book_id || 'x' WHERE request_id = ID`,
		`UPDATE trades SET book_id = rtrim(book_id, 'x') WHERE request_id = ID`)
	f("wrong", "with other fields", `UPDATE journal SET book_id = book_id || 'x' WHERE request_id = ID`,
		`UPDATE journal SET book_id = rtrim(book_id, 'x') WHERE request_id = ID`)
	f("wrong", "the journal says FAILED STALE_VERSION",
		`UPDATE journal SET outcome = 'FAILED', reason = 'STALE_VERSION' WHERE request_id = ID`,
		`UPDATE journal SET outcome = 'SUCCESS', reason = NULL WHERE request_id = ID`)
	f("wrong", "the row stems from", `UPDATE trades SET src_offset = src_offset + 1 WHERE request_id = ID`,
		`UPDATE trades SET src_offset = src_offset - 1 WHERE request_id = ID`)
	f("wrong", "is applied up to 3", `UPDATE ingest_offsets SET next_offset = 3`,
		fmt.Sprintf(`UPDATE ingest_offsets SET next_offset = %d`, len(s.log)))
	f("doubled", "has 2 outcomes", `INSERT INTO journal SELECT "offset", accepted_at, decided_at, accepted_on + 1,
		generation, partition, version, maturity_date, created_date, request_id,
		replay_of, outcome, trade_id, counterparty_id, book_id
		FROM journal WHERE request_id = ID`, `DELETE FROM journal WHERE accepted_on > accepted_at::date`)
	f("doubled", "nobody sent that version", `INSERT INTO trades SELECT src_offset, stored_at, version + 100, 1,
		src_partition, maturity_date, created_date, request_id, trade_id, counterparty_id, book_id
		FROM trades WHERE request_id = ID`, `DELETE FROM trades WHERE version > 100`)
	f("doubled", "no such trade can be", `INSERT INTO trades SELECT src_offset, stored_at, version, 1,
		src_partition, maturity_date, created_date, request_id, trade_id || '_', counterparty_id, book_id
		FROM trades WHERE request_id = ID`, `DELETE FROM trades WHERE trade_id LIKE '%\_'`)
	clean(t, s.reconcile())
}

// A record that is in the log twice, under an id that no answer named: HTTP alone can't see it.
func TestReconcileBySQLFindsTheDuplicate(t *testing.T) {
	s := newTables(t)
	v, _ := s.one(New)
	double := *v
	double.id, double.at.offset = trade.NewRequestID(time.Now()), int64(len(s.log))
	s.journal(&double)
	s.exec(`UPDATE ingest_offsets SET next_offset = next_offset + 1`)
	if s.rows()[v.trade.Key()] == v {
		s.exec(`DELETE FROM trades WHERE trade_id = $1 AND version = $2`, v.trade.TradeID, v.trade.Version)
		s.row(&double)
	}
	rec := s.reconcile()
	require.EqualValues(t, 1, rec.Doubled.Count, rec)
	require.Contains(t, rec.Doubled.First[0], double.id.String())
	require.Contains(t, rec.Doubled.First[0], "a copy of request "+v.id.String())
	require.Equal(t, rec.Accepted, rec.Success+rec.Failed)
	clean(t, s.attacked.reconcile())
}

// Attacks of one run share the beginning of their trade ids, and are compared each for itself.
func TestReconcileLeavesOtherAttacksAlone(t *testing.T) {
	s := newTables(t)
	before, after := NewPlan("unit", 7, DefaultMix, 40, 0), NewPlan("unit", 7, DefaultMix, 40, 1000+operations)
	for _, other := range []*Plan{before, after} {
		f := &filed{id: trade.NewRequestID(time.Now()), trade: other.Op(0).Trade, shown: shown{status: trade.Success},
			at: logPosition{1, 0, 1}}
		s.row(f)
		s.journal(f)
	}
	clean(t, s.reconcile())
}

func TestOpenDatabaseSaysWhatIsWrong(t *testing.T) {
	_, err := OpenDatabase(t.Context(), "postgres://nobody:secret@127.0.0.1:1/none?connect_timeout=1")
	require.ErrorContains(t, err, "--database-url")
	require.NotContains(t, err.Error(), "secret")
	_, err = OpenDatabase(t.Context(), "postgres://[")
	require.ErrorContains(t, err, "--database-url")
}

func TestDatabaseOnlyReads(t *testing.T) {
	db, err := OpenDatabase(t.Context(), stack.Database(t))
	require.NoError(t, err)
	defer db.Close(t.Context())
	_, err = db.conn.Exec(t.Context(), `CREATE TABLE t ()`)
	require.ErrorContains(t, err, "read-only")
}
