package worker

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/kafka"
	"tradestore/postgres"
	"tradestore/test/stack"
	"tradestore/trade"
)

// onPostgres is a fixture whose workers apply to PostgreSQL.
type onPostgres struct {
	*fixture
	pool *pgxpool.Pool // of the test itself
	url  string
}

func newOnPostgres(t testing.TB, partitions int) *onPostgres {
	t.Helper()
	r := &onPostgres{fixture: newFixture(t, partitions), url: stack.Database(t)}
	require.NoError(t, postgres.Migrate(t.Context(), r.url))
	var err error
	cfg := postgres.Config{URL: r.url, ApplicationName: "test"}
	r.pool, err = postgres.Open(t.Context(), cfg, prometheus.NewRegistry())
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)
	require.NoError(t, postgres.AddTopic(t.Context(), r.pool, topic, r.id, partitions))
	return r
}

// start runs a worker with pools of its own; change may wrap its stores.
func (r *onPostgres) start(change func(*Config, *Deps)) *running {
	r.t.Helper()
	type opener = func(context.Context, postgres.Config, prometheus.Registerer) (*pgxpool.Pool, error)
	pool := func(name string, open opener) *pgxpool.Pool {
		p, err := open(r.t.Context(), postgres.Config{URL: r.url, ApplicationName: name}, prometheus.NewRegistry())
		require.NoError(r.t, err)
		r.t.Cleanup(p.Close)
		return p
	}
	apply, keep := pool("apply", postgres.OpenWriter), pool("maintainer", postgres.Open)
	return r.fixture.start(func(c *Config, d *Deps) {
		store := postgres.NewStore(apply, postgres.StoreConfig{Topic: topic})
		d.Store, d.Journal, d.Closer = store, store, store
		d.Requests, d.Maintainer = postgres.NewRequestStore(keep), postgres.NewMaintainer(keep)
		if change != nil {
			change(c, d)
		}
	})
}

// count returns the one number that a query answers; -1 while the database is away.
func (r *onPostgres) count(sql string, args ...any) int {
	n := -1
	_ = r.pool.QueryRow(context.Background(), sql, args...).Scan(&n)
	return n
}

func (r *onPostgres) exec(sql string, args ...any) {
	r.t.Helper()
	_, err := r.pool.Exec(context.Background(), sql, args...)
	require.NoError(r.t, err)
}

// applied waits until the positions stand behind n records.
func (r *onPostgres) applied(n int) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("%d records applied", n), func() bool {
		return r.count(`SELECT sum(next_offset) FROM ingest_offsets`) >= n
	})
}

// reconcile checks that trades and journal are exactly what a replay of the requests sent gives, and that all is
// projected.
func (r *onPostgres) reconcile() {
	r.t.Helper()
	records := make([]trade.Record, len(r.sent))
	for i, q := range r.sent {
		records[i] = trade.Record{Request: q}
	}
	plan := trade.Decide(records, nil, nil)
	want, got := map[trade.Key]trade.Trade{}, map[trade.Key]trade.Trade{}
	for _, row := range plan.Inserts {
		want[row.Trade.Key()] = row.Trade
	}
	stored, _, err := postgres.NewReader(r.pool).List(r.t.Context(), trade.AllTrades(), trade.Key{}, len(want)+1)
	require.NoError(r.t, err)
	for _, row := range stored {
		got[row.Key()] = row
	}
	require.Equal(r.t, want, got)
	rows, err := r.pool.Query(r.t.Context(), `SELECT request_id, outcome FROM journal`)
	require.NoError(r.t, err)
	outcomes, wanted := map[trade.RequestID]trade.Status{}, map[trade.RequestID]trade.Status{}
	var id trade.RequestID
	var status string
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&id), &status}, func() error {
		outcomes[id] = trade.Status(status)
		return nil
	})
	require.NoError(r.t, err)
	for _, d := range plan.Decisions {
		wanted[d.Record.ID] = d.Status
	}
	require.Equal(r.t, wanted, outcomes)
	r.eventually("all projected", func() bool {
		return r.count(`SELECT count(*) FROM journal j JOIN projection_cursor c USING (generation, partition)
			WHERE j."offset" >= c.projected_offset`) == 0
	})
}

func TestTradesGoToPostgreSQL(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 4)
	w := r.start(func(c *Config, _ *Deps) { c.Lanes = 2 })
	r.post("T", 300)
	a, b := r.request("A", 1, "first"), r.request("A", 1, "second")
	r.send(r.request("V", 5, "B"), r.request("V", 3, "B"), a, b, a)
	r.applied(305)
	r.reconcile()
	require.NoError(t, w.Ready())
	w.drain()
	assert.InDelta(t, 1, testutil.ToFloat64(w.metrics.duplicates), 0)
	assert.InDelta(t, 1, w.value("tradestore_apply_outcomes_total", "STALE_VERSION"), 0)
}

// The topic gets records with every kind of damage, between good ones: each becomes a dead letter with its bytes, gets
// an outcome if it has a request id, and does not stop the partition (rule E7).
func TestPoisonRecordsBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 1)
	var poison []*kgo.Record
	answered := 0
	f := func(known bool, spoil func(*kgo.Record)) {
		q := r.request(fmt.Sprintf("P-%d", len(poison)), 1, "B")
		rec := kafka.Encode(topic, &q)
		spoil(rec)
		poison = append(poison, rec)
		if known {
			answered++
		}
	}
	replace := func(old, with string) func(*kgo.Record) {
		return func(rec *kgo.Record) {
			spoilt := bytes.Replace(rec.Value, []byte(old), []byte(with), 1)
			require.NotEqual(t, rec.Value, spoilt, old)
			rec.Value = spoilt
		}
	}
	header := func(name, value string) func(*kgo.Record) {
		return func(rec *kgo.Record) {
			for i := range rec.Headers {
				if rec.Headers[i].Key == name {
					rec.Headers[i].Value = []byte(value)
				}
			}
		}
	}
	value := func(v string) func(*kgo.Record) { return func(rec *kgo.Record) { rec.Value = []byte(v) } }
	for _, v := range []string{
		"", "null", "[]", "123", "{}", "NaN", "\xff\xfe", "\xef\xbb\xbf{}", `{"a":{}}`, strings.Repeat(`[`, 5000), "\x00",
		`{"trade_id":"x"} {}`,
	} {
		f(true, value(v))
	}
	for _, v := range []string{
		"0", "-0", "1.0", "1e2", "01", `"1"`, "2147483648", "9223372036854775808", "18446744073709551616", "null", "true",
	} {
		f(true, replace(`"version":1`, `"version":`+v))
	}
	for _, v := range []string{
		``, ` `, `=cmd`, `+1`, `@x`, `a\u0000b`, `a\r\nb`, `é`, `\ud800`, "a\xc0b", strings.Repeat("x", 65),
	} {
		f(true, replace(`"book_id":"B"`, `"book_id":"`+v+`"`))
	}
	today := trade.DateOf(time.Now()).String()
	for _, v := range []string{
		"2023-02-29", "0000-01-01", "10000-01-01", "today", "infinity", "2031-01-01T00:00:00Z", "２０３１-01-01",
	} {
		f(true, replace(`"created_date":"`+today, `"created_date":"`+v))
	}
	f(true, replace(`"book_id"`, `"BOOK_ID"`))
	f(true, replace(`"version":1`, `"version":1,"version":2`))
	f(true, replace(`"version":1`, `"version":1,"extra":2`))
	f(true, header(kafka.HeaderBusinessDate, "9999-12-31"))
	f(true, header(kafka.HeaderBusinessDate, "yesterday"))
	f(true, header(kafka.HeaderSchema, "two"))
	f(true, func(rec *kgo.Record) { rec.Key = []byte("other") })
	f(true, func(rec *kgo.Record) { rec.Value = nil })
	f(false, header(kafka.HeaderRequestID, "not an id"))
	f(false, header(kafka.HeaderAcceptedAt, "infinity"))
	f(false, func(rec *kgo.Record) { rec.Headers = nil })
	f(false, func(rec *kgo.Record) { rec.Headers = append(rec.Headers, rec.Headers[0]) })

	for i, rec := range poison {
		r.post(fmt.Sprintf("G%d", i), 1)
		r.raw(rec)
	}
	w := r.start(nil)
	r.applied(2 * len(poison))
	w.drain()
	assert.Equal(t, len(poison), r.count(`SELECT count(*) FROM trades`))
	assert.Equal(t, len(poison), r.count(`SELECT count(*) FROM trades WHERE trade_id LIKE 'G%'`))
	invalid := r.count(`SELECT count(*) FROM journal WHERE outcome = 'FAILED' AND reason = 'INVALID_RECORD'`)
	assert.Equal(t, answered, invalid)
	rows, err := r.pool.Query(t.Context(), `SELECT value FROM dead_letter ORDER BY "offset"`)
	require.NoError(t, err)
	dead, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	require.Len(t, dead, len(poison))
	for i, rec := range poison {
		assert.True(t, bytes.Equal(rec.Value, dead[i]), "dead letter %d", i)
	}
	assert.Equal(t, answered, r.count(`SELECT count(request_id) FROM dead_letter`))
	assert.InDelta(t, len(poison), testutil.ToFloat64(w.metrics.deadLetters), 0)
}

// Workers come and go while records flow to one database.
func TestWorkersShareAPostgreSQL(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 4)
	few := func(c *Config, _ *Deps) { c.MaxPollRecords = 20 }
	first := r.start(few)
	send := func(version int32) {
		for i := range 40 {
			r.send(r.request(fmt.Sprintf("T-%d", i), version, fmt.Sprintf("B%d", version)))
		}
	}
	send(1)
	send(2)
	second := r.start(few)
	r.eventually("shared", func() bool { return len(second.assigned()) > 0 })
	send(3)
	first.drain() // what it held goes to the second
	send(4)
	r.applied(160)
	r.reconcile()
	second.drain()
}

// The database ends all sessions and refuses new ones. When it accepts them again, nothing is lost and nothing doubled.
func TestAPostgreSQLThatGoesAwayComesBack(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 2)
	outside, err := pgx.Connect(t.Context(), strings.Replace(r.url, r.name(), "postgres", 1))
	require.NoError(t, err)
	defer func() { _ = outside.Close(context.Background()) }()
	w := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = 10 })
	r.post("T", 40)
	r.applied(40)
	name := r.name()
	_, err = outside.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS false`)
	require.NoError(t, err)
	_, err = outside.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1`, name)
	require.NoError(t, err)
	r.post("U", 40)
	r.eventually("not ready", func() bool { return w.Ready() != nil })
	_, err = outside.Exec(t.Context(), `ALTER DATABASE `+name+` ALLOW_CONNECTIONS true`)
	require.NoError(t, err)
	r.applied(80)
	r.eventually("ready again", func() bool { return w.Ready() == nil })
	r.reconcile()
	w.drain()
}

// name returns the name of the database.
func (r *onPostgres) name() string {
	return r.pool.Config().ConnConfig.Database
}

// Connections that are cut at any moment, also during COMMIT, lose and double nothing.
func TestTerminatedBackendsLoseNothing(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 2)
	w := r.start(func(c *Config, _ *Deps) { c.MaxPollRecords = 10 })
	for i := range 10 {
		r.post(fmt.Sprintf("T%d", i), 30)
		r.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name <> 'test'`)
	}
	r.applied(300)
	r.reconcile()
	w.drain()
}

// A schema that refuses good trades stops the worker before more than a few of them have failed (rule E8).
func TestAWrongConstraintStopsTheWorker(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 1)
	r.exec(`ALTER TABLE trades ADD CONSTRAINT wrong CHECK (book_id <> 'B')`)
	r.post("T", 30)
	w := r.start(func(c *Config, _ *Deps) { c.MaxRefused = 10 })
	require.ErrorContains(t, w.stopped(), "the store refuses too many records (the limit is 10 in a row), "+
		"the last one at partition 0, offset 10")
	assert.Equal(t, 10, r.count(`SELECT count(*) FROM dead_letter`))
	assert.Equal(t, 10, r.count(`SELECT next_offset FROM ingest_offsets`))
	assert.Zero(t, r.count(`SELECT count(*) FROM trades`))
}

// A position that an operator moved looks like another worker: the batch in hand is dropped, and reading starts there.
func TestAPositionMovedInTheDatabaseIsFollowed(t *testing.T) {
	t.Parallel()
	r := newOnPostgres(t, 1)
	w := r.start(nil)
	r.post("T", 10)
	r.applied(10)
	r.exec(`UPDATE ingest_offsets SET next_offset = 0`) // as after a restored backup: all is read again
	r.post("U", 1)
	r.applied(11)
	w.drain()
	assert.Equal(t, 11, r.count(`SELECT count(*) FROM journal`))
	assert.InDelta(t, 10, testutil.ToFloat64(w.metrics.duplicates), 0)
	assert.Positive(t, testutil.ToFloat64(w.metrics.fenced))
}
