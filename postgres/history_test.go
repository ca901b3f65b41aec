package postgres

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// applyAt applies what was appended, decided some seconds after testNow.
func (l *topicLog) applyAt(second int) {
	l.t.Helper()
	now := func() time.Time { return testNow.Add(time.Duration(second) * time.Second) }
	l.store = NewStore(l.db.writer, StoreConfig{Topic: testTopic, Now: now})
	l.apply()
}

func TestHistory(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests, r := NewRequestStore(l.db.reads), NewReader(l.db.reads)
	first := l.add("T", 1, "a")
	l.add("other", 1, "a")
	second := l.add("T", 1, "b")
	l.applyAt(1)
	third, high, stale := l.add("T", 1, "c"), l.add("T", 2, "d"), l.add("T", 1, "e")
	l.applyAt(2)
	orphan := l.orphan(requests, "T", time.Minute)
	l.close(orphan)
	l.newGeneration()
	last := l.add("T", 2, "f")
	l.applyAt(3)

	type item struct {
		id, replaced trade.RequestID
		reason       trade.Code
		offset       int64
		book         string
		second       int
	}
	none := trade.RequestID{}
	want := []item{
		{first.ID, none, "", first.Offset, "a", 1}, {second.ID, first.ID, "", second.Offset, "b", 1},
		{third.ID, second.ID, "", third.Offset, "c", 2}, {high.ID, none, "", high.Offset, "d", 2},
		{stale.ID, none, trade.StaleVersion, stale.Offset, "e", 2},
		{orphan.ID, none, trade.NotDelivered, trade.NoOffset, "", 2},
		{last.ID, high.ID, "", last.Offset, "f", 3},
	}
	for limit := 1; limit <= len(want)+1; limit++ {
		var got []item
		for after := (trade.HistoryPosition{}); ; {
			page, next, err := r.History(t.Context(), "T", after, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, len(page), limit)
			for _, s := range page {
				second := int(s.DecidedAt.Sub(testNow) / time.Second)
				got = append(got, item{s.ID, s.Replaced, s.Reason, s.Offset, s.Trade.BookID, second})
				require.Equal(t, "T", s.TradeID)
				require.Equal(t, s.Status == trade.Failed, s.Detail != "")
			}
			if after = next; next == (trade.HistoryPosition{}) {
				break
			}
		}
		require.Equal(t, want, got)
	}
	page, _, err := r.History(t.Context(), "T", trade.HistoryPosition{}, 1)
	require.NoError(t, err)
	require.Equal(t, first.Trade, page[0].Trade)
	require.Equal(t, first.AcceptedAt, page[0].AcceptedAt)
	page, next, err := r.History(t.Context(), "none", trade.HistoryPosition{}, 1)
	require.NoError(t, err)
	require.Empty(t, page)
	require.Zero(t, next)

	asOf := func(second int, want ...string) {
		t.Helper()
		for limit := 1; limit <= 3; limit++ {
			var books []string
			for after := int32(0); ; {
				then, next, err := r.AsOf(t.Context(), "T", testNow.Add(time.Duration(second)*time.Second), after, limit)
				require.NoError(t, err)
				for i := range then {
					books = append(books, then[i].BookID)
				}
				if after = next; next == 0 {
					break
				}
			}
			require.Equal(t, want, books)
		}
	}
	asOf(0)
	asOf(1, "b")
	asOf(2, "c", "d")
	asOf(3, "c", "f")
	l.db.exec(t, `DELETE FROM journal WHERE request_id = $1`, first.ID)
	asOf(1, "b")
	l.db.exec(t, `DELETE FROM journal WHERE request_id = $1`, second.ID)
	_, _, err = r.AsOf(t.Context(), "T", testNow.Add(time.Second), 0, 10)
	require.ErrorIs(t, err, trade.ErrForgotten)
	asOf(2, "c", "d")
	l.db.exec(t, `UPDATE journal SET replaces = NULL WHERE request_id = $1`, high.ID) // as before there was the column
	_, _, err = r.AsOf(t.Context(), "T", testNow, 0, 10)
	require.ErrorIs(t, err, trade.ErrForgotten)
}

// A clock that goes back, after a failover or by hand, gives no decision an earlier time than those before it in the
// log: in any partition of its batch, of this generation or an earlier one.
func TestTimesOfDecisionsFollowTheLog(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	decided := func(second int, records ...trade.Record) {
		t.Helper()
		for _, r := range records {
			require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM journal WHERE request_id = $1 AND decided_at = $2`,
				r.ID, testNow.Add(time.Duration(second)*time.Second)))
		}
	}
	first := l.add("T", 1, "a")
	l.applyAt(9)
	decided(9, first)
	with, without := l.add("T", 1, "b"), l.add("other", 1, "a")
	require.NotEqual(t, with.Partition, without.Partition)
	l.applyAt(3)
	decided(9, with, without)
	orphan := l.orphan(NewRequestStore(l.db.reads), "other", time.Minute)
	l.close(orphan)
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM journal WHERE request_id = $1 AND decided_at = $2`, orphan.ID,
		testNow.Add(9*time.Second)))

	topics, err := LockTopics(t.Context(), l.db.writer)
	require.NoError(t, err)
	old, err := topics.Newest(t.Context())
	require.NoError(t, err)
	require.NoError(t, l.store.Pass(t.Context(), allPartitions))
	require.NoError(t, topics.Follow(t.Context(), old, "next", trade.TopicID{2}, testPartitions))
	topics.Release()
	l.gen, l.topic, l.next, l.applied = 2, trade.TopicID{2}, [testPartitions]int64{}, [testPartitions]int64{}
	later := l.add("T", 1, "c")
	l.applyAt(5)
	decided(9, later)

	r := NewReader(l.db.reads)
	then, _, err := r.AsOf(t.Context(), "T", testNow.Add(9*time.Second), 0, 10)
	require.NoError(t, err)
	require.Equal(t, "c", then[0].BookID)
	_, _, err = r.AsOf(t.Context(), "T", time.Now().Add(time.Hour), 0, 10)
	require.ErrorIs(t, err, trade.ErrFuture)
}

// Without a clock of a test, the time of a decision is that of the database.
func TestTheDatabaseGivesDecisionsTheirTime(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.store = NewStore(l.db.writer, StoreConfig{Topic: testTopic})
	r := l.add("T", 1, "a")
	l.apply()
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM journal AS j JOIN trades USING (trade_id, version)
		JOIN ingest_offsets AS o USING (generation, partition)
		WHERE j.request_id = $1 AND j.decided_at = stored_at AND j.decided_at = o.decided_at
		  AND j.decided_at BETWEEN now() - interval '1 hour' AND now()`, r.ID))
}

// manySubmissions puts n records into a partition of the journal. One in every so many is of trade HOT, whose versions
// 1 to 100 are stored in turn, again and again.
func (d *testDatabase) manySubmissions(t *testing.T, n, every int) {
	t.Helper()
	require.NoError(t, NewMaintainer(d.reads).MakeDays(t.Context(), testNow))
	d.exec(t, `INSERT INTO journal ("offset", accepted_at, decided_at, accepted_on, generation, partition, version,
			maturity_date, created_date, request_id, outcome, trade_id, counterparty_id, book_id, replaces)
		SELECT n, at, at, at::date, 1, 2, 1 + n / $2 % 100, '2027-01-01', '2026-01-01', gen_random_uuid(), 'SUCCESS',
			CASE WHEN n % $2 = 0 THEN 'HOT' ELSE 'T' || n END, 'C', 'B', n >= 100 * $2
		FROM generate_series(0, $1 - 1) AS n, (SELECT $3::timestamptz AS at) AS x`, n, every, testNow)
	d.exec(t, `INSERT INTO trades
		SELECT 0, now(), 1, 1, 2, '2027-01-01', '2026-01-01', gen_random_uuid(), 'HOT', 'C', 'B'`)
	d.exec(t, `ANALYZE journal`)
}

// However a page is read, the pages give each submission once, in order, with what it replaced.
func TestHistoryOfAFrequentTrade(t *testing.T) {
	t.Parallel()
	const records = 3000
	d := newDatabase(t)
	d.manySubmissions(t, records, 3)
	r := NewReader(d.reads)
	f := func(limit, window int) {
		t.Helper()
		var seen []trade.RequestID
		for after := (trade.HistoryPosition{}); ; {
			page, next, err := r.history(t.Context(), "HOT", after, limit, window)
			require.NoError(t, err)
			for _, s := range page {
				require.EqualValues(t, 3*len(seen), s.Offset)
				replaced := trade.RequestID{}
				if len(seen) >= 100 {
					replaced = seen[len(seen)-100]
				}
				require.Equal(t, replaced, s.Replaced)
				seen = append(seen, s.ID)
			}
			if after = next; next == (trade.HistoryPosition{}) {
				break
			}
		}
		require.Len(t, seen, records/3)
	}
	f(1000, historyWindow)
	f(90, historyWindow)
	f(250, 100) // each window has too few for a page
	f(100, 20)  // and too few for a frequent trade
}

// A page of a frequent trade stops when it is full: it does not read, or sort, the rest of the trade.
func TestHistoryOfAFrequentTradeStopsEarly(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	d.manySubmissions(t, 30_000, 2)
	plan := d.explain(t, "(ANALYZE, TIMING OFF) "+walkHistory, "HOT", 1, 2, 0, historyWindow, 101)
	for _, bad := range []string{"Seq Scan", "Sort", "Hash", "Bitmap"} {
		require.NotContains(t, strings.ReplaceAll(plan, "Sort Key", ""), bad, plan)
	}
	read := 0
	for _, m := range regexp.MustCompile(`_idx on journal_.*\(actual rows=(\d+)`).FindAllStringSubmatch(plan, -1) {
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		read += n
	}
	require.Positive(t, read, plan)
	require.Less(t, read, 400, plan)
}

// Only requests without an outcome are pending, and only those that the orphan reaper has not passed are looked at.
func TestPendingOfATrade(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	l.open(requests, "T", 1, "a")
	l.apply()
	two, three := l.open(requests, "T", 2, "b"), l.open(requests, "T", 3, "c")
	l.open(requests, "other", 1, "a")
	f := func(limit int, want ...trade.Record) {
		t.Helper()
		got, err := requests.PendingOf(t.Context(), "T", limit)
		require.NoError(t, err)
		require.Len(t, got, len(want))
		for i := range want {
			require.Equal(t, pendingOf(&want[i].Request), got[i])
		}
	}
	l.db.exec(t, `INSERT INTO orphan_marks SELECT DISTINCT partition, $1::timestamptz FROM ingest_offsets`, testNow)
	f(10, two, three)
	f(1, two)
	l.db.exec(t, `UPDATE orphan_marks SET walked = $1`, three.AcceptedAt)
	f(10, three)
	l.apply()
	f(10)
}

// What is looked for by trade is found by its filters, also while nothing is known about the tables.
func TestHistoryPlans(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	require.NoError(t, NewMaintainer(d.reads).MakeDays(t.Context(), testNow))
	plan := func(sql string, args ...any) string {
		t.Helper()
		text := strings.ReplaceAll(d.explain(t, sql, args...), "Seq Scan on orphan_marks", "a row for each partition")
		require.NotContains(t, text, "Seq Scan")
		return text
	}
	const filters = "Bitmap Index Scan on journal_20260304_trade_id_idx"
	require.Contains(t, plan(findHistory, "T", 0, 0, [16]byte{}, 10), filters)
	require.Contains(t, plan(replacedFar, "T", []int32{1}, 1, 1), filters)
	require.Contains(t, plan(storedBefore, "T", []int32{1}, testNow), filters)
	const inOrder = "Index Scan using journal_20260304_generation_partition_offset_idx"
	backward := strings.Replace(inOrder, "Scan", "Scan Backward", 1)
	require.Contains(t, plan(walkHistory, "T", 1, 1, 1, 10, 10), inOrder)
	require.Contains(t, plan(replacedNear, "T", []int32{1}, 1, 1, 1, 10), backward)
	require.Contains(t, plan(historyEnd, "T", 1, 1, [16]byte{}, 10), inOrder)
	require.Contains(t, plan(laterHistory, 1), strings.Replace(backward, "Index", "Index Only", 1))
	require.Contains(t, plan(storedVersions, "T", 0, 10, testNow), inOrder)
	require.Contains(t, plan(storedVersions, "T", 0, 10, testNow), "trades_pkey")
	require.Contains(t, plan(historyStart, "T"), "trades_pkey")
	require.Contains(t, plan(versions, "T", 0, 10), "trades_pkey")
	require.Contains(t, plan(newestVersions, []string{"T"}), "trades_pkey")
	pending := plan(pendingOfTrade, "T", 10)
	require.Contains(t, pending, "Bitmap Index Scan on requests_20260304_accepted_at_idx")
	require.Contains(t, pending, "journal_20260304_pkey")
}
