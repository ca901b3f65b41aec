package postgres

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// lookedAt finds how many rows the walk of the primary key gave.
var lookedAt = regexp.MustCompile(`trades_pkey on trades .*\(actual rows=(\d+)`)

// pages reads all that matches, in pages of a size that look at a window each.
func pages(t *testing.T, r *Reader, f trade.Filter, limit, window int) (got []trade.Key) {
	t.Helper()
	for next := (trade.Key{}); ; {
		page, after, err := r.list(t.Context(), f, next, limit, window)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page), limit)
		for i := range page {
			got = append(got, page[i].Key())
		}
		if after == (trade.Key{}) {
			return got
		}
		require.True(t, next.Less(after), "each page goes on")
		next = after
	}
}

// Pages and windows of every size meet each row that matches once, in byte order: upper case first.
func TestListInPages(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	day := newTrade("", 1, "").MaturityDate
	add := func(id string, version int32, book string, maturity trade.Date) {
		l.add(id, version, book)
		l.pending[len(l.pending)-1].Trade.MaturityDate = maturity
	}
	add("b", 1, "x", day)
	add("A", 2, "x", day+1)
	add("A", 10, "y", day)
	add("B-1", 1, "x", day-1)
	add("B.1", 1, "y", day)
	add("B", 3, "x", day)
	add("B", 4, "x", day+1)
	l.pending[0].Trade.CounterpartyID = "CP-2"
	l.apply()
	all := []string{"A 2", "A 10", "B 3", "B 4", "B-1 1", "B.1 1", "b 1"}
	f := func(change func(*trade.Filter), want ...string) {
		t.Helper()
		filter := trade.AllTrades()
		change(&filter)
		for limit := 1; limit <= len(all)+1; limit++ {
			for window := 1; window <= len(all)+1; window++ {
				var got []string
				for _, key := range pages(t, NewReader(l.db.reads), filter, limit, window) {
					got = append(got, key.TradeID+" "+strconv.Itoa(int(key.Version)))
				}
				require.Equal(t, want, got, "limit %d, window %d", limit, window)
			}
		}
	}
	f(func(*trade.Filter) {}, all...)
	f(func(f *trade.Filter) { f.Prefix = "B" }, "B 3", "B 4", "B-1 1", "B.1 1")
	f(func(f *trade.Filter) { f.Prefix = "B." }, "B.1 1")
	f(func(f *trade.Filter) { f.Prefix = "C" })
	f(func(f *trade.Filter) { f.CounterpartyID = "CP-2" }, "b 1")
	f(func(f *trade.Filter) { f.BookID = "x" }, "A 2", "B 3", "B 4", "B-1 1", "b 1")
	f(func(f *trade.Filter) { f.MaturityFrom, f.MaturityTo = day, day }, "A 10", "B 3", "B.1 1", "b 1")
	f(func(f *trade.Filter) { f.MaturityTo = day - 1 }, "B-1 1")
	f(func(f *trade.Filter) { f.Latest = true }, "A 10", "B 4", "B-1 1", "B.1 1", "b 1")
	f(func(f *trade.Filter) { f.Latest, f.BookID = true, "x" }, "B 4", "B-1 1", "b 1")
	f(func(f *trade.Filter) { f.Prefix, f.Latest, f.BookID, f.MaturityFrom = "B", true, "x", day }, "B 4")
}

// Each combination of filters walks the primary key and nothing else, and stops with its window or with its page.
func TestListPlan(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.exec(t, `INSERT INTO trades SELECT n, now(), 1 + n % 3, 1, 0, '2026-03-04', '2026-03-04', gen_random_uuid(),
		'T' || n / 3, 'C' || n % 100, 'B' FROM generate_series(3, 30000) AS n`)
	d.exec(t, `ANALYZE trades`)
	rows := func(counterparty string, latest bool, window, limit int) (looked int) {
		t.Helper()
		tx, err := d.reads.Begin(t.Context())
		require.NoError(t, err)
		defer func() { _ = tx.Rollback(t.Context()) }()
		const explain = "EXPLAIN (ANALYZE, FORMAT TEXT, TIMING OFF) "
		lines, err := tx.Query(t.Context(), explain+listTrades, "", 0, "~", window, counterparty, "", trade.FirstDate,
			trade.LastDate, latest, limit+1)
		require.NoError(t, err)
		plan, err := pgx.CollectRows(lines, pgx.RowTo[string])
		require.NoError(t, err)
		text := strings.Join(plan, "\n")
		for _, bad := range []string{"Seq Scan", "Sort", "Hash", "Merge", "Bitmap"} {
			require.NotContains(t, text, bad)
		}
		m := lookedAt.FindStringSubmatch(text)
		require.NotNil(t, m, text)
		looked, err = strconv.Atoi(m[1])
		require.NoError(t, err)
		return looked
	}
	for _, latest := range []bool{false, true} {
		require.LessOrEqual(t, rows("", latest, 10_000, 10), 40, "the page is full")
		require.LessOrEqual(t, rows("C1", latest, 10_000, 10), 4_000, "the page is full")
		require.LessOrEqual(t, rows("none", latest, 1_000, 10), 1_001, "the window is")
	}
}
