package postgres

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

// orphan opens a request, accepted some time before testNow, whose record never gets to the log.
func (l *topicLog) orphan(requests *RequestStore, tradeID string, age time.Duration) trade.PendingRequest {
	l.t.Helper()
	l.seq++
	accepted := testNow.Add(time.Duration(l.seq)*time.Microsecond - age)
	r := trade.Request{
		ID: trade.NewRequestID(accepted), Trade: newTrade(tradeID, 1, "orphan"), AcceptedAt: accepted,
		BusinessDate: trade.DateOf(accepted), Partition: partitionOf(tradeID), CorrelationID: "call of " + tradeID,
	}
	require.Nil(l.t, requests.Open(l.t.Context(), []*trade.Request{&r}))
	return pendingOf(&r)
}

func pendingOf(r *trade.Request) trade.PendingRequest {
	return trade.PendingRequest{ID: r.ID, AcceptedAt: r.AcceptedAt, Partition: r.Partition, TradeID: r.Trade.TradeID,
		Version: r.Trade.Version, CorrelationID: r.CorrelationID}
}

// wantPending requires what Pending returns.
func (l *topicLog) wantPending(requests *RequestStore, before time.Time, limit int, want ...trade.PendingRequest) {
	l.t.Helper()
	got, err := requests.Pending(l.t.Context(), allPartitions, before, limit)
	require.NoError(l.t, err)
	require.Equal(l.t, want, got)
}

// close closes one request, with the end of the log.
func (l *topicLog) close(p trade.PendingRequest) trade.Decision {
	l.t.Helper()
	outcomes, err := l.store.Close(l.t.Context(), l.topic, p.Partition, l.next[p.Partition], []trade.PendingRequest{p})
	require.NoError(l.t, err)
	require.Len(l.t, outcomes, 1)
	return outcomes[0]
}

func TestPendingFindsWhatHasNoOutcome(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	require.NoError(t, NewMaintainer(l.db.reads).MakeDays(t.Context(), testNow))
	requests, later := NewRequestStore(l.db.reads), testNow.Add(time.Minute)
	stray := l.orphan(requests, "T1", 50*oneDay) // of a day without a partition
	yesterday := l.orphan(requests, "T2", oneDay)
	l.open(requests, "T3", 1, "decided")
	l.apply()
	undelivered := l.open(requests, "T4", 1, "its record comes")
	now := l.orphan(requests, "T4", 0)
	young := l.orphan(requests, "T5", -2*time.Minute)
	backlog := pendingOf(&undelivered.Request)
	l.wantPending(requests, later, 10, stray, yesterday, backlog, now)
	l.wantPending(requests, later, 2, stray, yesterday)
	l.wantPending(requests, later.Add(oneDay), 10, stray, yesterday, backlog, now, young)

	l.close(yesterday)
	l.wantPending(requests, later.Add(oneDay), 10, stray, backlog, now, young)
	l.apply()
	l.wantPending(requests, later.Add(oneDay), 10, stray, now, young)
	l.wantPending(NewRequestStore(l.db.reads), later.Add(oneDay), 10, stray, now, young)
}

// An id that was derived from a key does not carry the time of acceptance.
func TestPendingDoesNotGoByTheID(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	r := l.add("T1", 1, "a").Request
	r.ID = trade.RequestID{0: 0, 6: 0x80, 8: 0x80, 15: 1}
	first := l.orphan(requests, "T0", time.Minute)
	l.wantPending(requests, testNow, 10, first)
	require.Nil(t, requests.Open(t.Context(), []*trade.Request{&r}))
	l.wantPending(requests, testNow.Add(time.Minute), 10, first, pendingOf(&r))
}

// byAge makes the scan find requests of long ago by their age, as if the tests ran then.
func (l *topicLog) byAge() { l.db.exec(l.t, `ALTER TABLE requests DISABLE TRIGGER late_request`) }

// A process scans no row twice, and a new process continues at the marks, one for each partition.
func TestPendingGoesOnFromItsMark(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.byAge()
	requests := NewRequestStore(l.db.reads)
	old, recent := l.orphan(requests, "T1", 10*oneDay), l.orphan(requests, "T2", time.Hour)
	require.NotEqual(t, old.Partition, recent.Partition)
	mark := func(partition int32) (at time.Time) {
		t.Helper()
		require.NoError(t, l.db.reads.QueryRow(t.Context(),
			`SELECT walked FROM orphan_marks WHERE partition = $1`, partition).Scan(&at))
		return at.UTC()
	}
	l.wantPending(requests, testNow, 10, old, recent)
	require.Equal(t, testNow, requests.scan.settledTo)
	require.Equal(t, old.AcceptedAt, mark(old.Partition))
	require.Equal(t, recent.AcceptedAt, mark(recent.Partition))
	l.close(old)
	l.wantPending(requests, testNow, 10, recent)
	require.Equal(t, testNow, mark(old.Partition))

	next := NewRequestStore(l.db.reads)
	require.NoError(t, next.scanPartitions(t.Context(), []int32{old.Partition}))
	require.Equal(t, testNow, next.scan.settledTo.UTC())
	require.NoError(t, next.scanPartitions(t.Context(), allPartitions))
	require.Equal(t, recent.AcceptedAt, next.scan.settledTo.UTC(), "the mark of a partition that came to it")
	l.wantPending(next, testNow, 10, recent)

	l.db.exec(t, `UPDATE orphan_marks SET walked = $1`, testNow.Add(time.Hour)) // another process is further
	l.wantPending(next, testNow.Add(time.Minute), 10, recent)
	require.Equal(t, testNow.Add(time.Hour), mark(old.Partition), "a mark does not go back")
}

// A failover to an asynchronous standby may take back an outcome, and the mark that passed its request.
func TestPendingAfterMarksWereTakenBack(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.byAge()
	requests := NewRequestStore(l.db.reads)
	r := l.orphan(requests, "T1", time.Hour)
	l.wantPending(requests, testNow, 10, r)
	l.close(r)
	l.wantPending(requests, testNow, 10)
	l.db.exec(t, `DELETE FROM journal WHERE request_id = $1`, r.ID)
	l.db.exec(t, `UPDATE orphan_marks SET walked = $1`, r.AcceptedAt)
	l.wantPending(requests, testNow, 10, r)
	l.db.exec(t, `DELETE FROM orphan_marks`)
	l.wantPending(requests, testNow, 10, r)
}

// A worker scans for the partitions that it holds. One that it loses is forgotten, and found by the next.
func TestPendingOfThePartitionsHeld(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.byAge()
	requests := NewRequestStore(l.db.reads)
	a, b := l.orphan(requests, "T1", time.Hour), l.orphan(requests, "T2", time.Hour)
	f := func(partitions []int32, want ...trade.PendingRequest) {
		t.Helper()
		got, err := requests.Pending(t.Context(), partitions, testNow, 10)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	f(nil)
	f([]int32{a.Partition}, a)
	f([]int32{b.Partition}, b)
	f(allPartitions, a, b)
	f([]int32{a.Partition}, a)
	f(nil)
}

// A request that lands behind the scan is found all the same: it is noted with its insert (rule R1).
func TestPendingFindsWhatLandsLate(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	l.wantPending(requests, testNow, 10)
	plain := l.orphan(requests, "T1", 2*time.Hour)
	keyed := l.add("T2", 1, "a").Request
	keyed.ID, keyed.AcceptedAt = trade.RequestID{0: 7, 6: 0x80, 8: 0x80, 15: 1}, testNow.Add(-time.Hour)
	require.Nil(t, requests.OpenKeyed(t.Context(), []*trade.KeyedRequest{{Request: &keyed, Nonce: trade.Nonce{1}}}))
	l.wantPending(requests, testNow, 10, plain, pendingOf(&keyed))
	l.wantPending(NewRequestStore(l.db.reads), testNow, 10, plain, pendingOf(&keyed))

	l.close(plain)
	l.wantPending(requests, testNow, 10, pendingOf(&keyed))
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM late_requests`), "one that is decided is forgotten")
}

// The insert itself is held in the network until the scan has passed, with a key and without (rule S3).
func TestPendingFindsAnInsertThatWasHeld(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.db.exec(t, `INSERT INTO orphan_marks SELECT DISTINCT partition, $1::timestamptz FROM ingest_offsets`,
		testNow.Add(-oneDay))
	p := newProxy(t, l.db.url)
	requests, held := NewRequestStore(l.db.reads), NewRequestStore(openPool(t, p.url, "held", Open))
	plain, keyed, first := l.add("T1", 1, "a").Request, l.add("HELD", 1, "a").Request, l.add("T3", 1, "a").Request
	f := func(statement string, open func(ctx context.Context) []error, want ...trade.PendingRequest) {
		t.Helper()
		land := p.hold(t, statement)
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		err := open(ctx)[0]
		require.Error(t, err)
		require.NotErrorIs(t, err, trade.ErrNotOpened)
		l.wantPending(requests, testNow.Add(time.Hour), 10, append([]trade.PendingRequest(nil), want[:len(want)-1]...)...)
		require.Equal(t, testNow.Add(time.Hour), requests.scan.settledTo.UTC())
		land()
		require.Eventually(t, func() bool {
			got, err := requests.Pending(t.Context(), allPartitions, testNow.Add(time.Hour), 10)
			require.NoError(t, err)
			return slices.Equal(want, got)
		}, 30*time.Second, 10*time.Millisecond)
	}
	f("COPY requests", func(ctx context.Context) []error {
		return held.Open(ctx, []*trade.Request{&plain})
	}, pendingOf(&plain))
	require.Nil(t, held.OpenKeyed(t.Context(), []*trade.KeyedRequest{{Request: &first}})) // prepares the statement
	_, err := l.store.Close(t.Context(), l.topic, first.Partition, 0, []trade.PendingRequest{pendingOf(&first)})
	require.NoError(t, err)
	f("HELD", func(ctx context.Context) []error {
		return held.OpenKeyed(ctx, []*trade.KeyedRequest{{Request: &keyed, Nonce: trade.Nonce{1}}})
	}, pendingOf(&plain), pendingOf(&keyed))
}

// The age is that of the insert, on the clock of the database: the constant is the one of the trigger.
func TestWhatCountsAsLate(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	f := func(age time.Duration, want int) {
		t.Helper()
		var now time.Time
		require.NoError(t, l.db.reads.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now))
		l.orphan(requests, "T1", age-now.Sub(testNow))
		require.Equal(t, want, l.db.count(t, `SELECT count(*) FROM late_requests`))
	}
	f(-time.Hour, 0)
	f(0, 0)
	f(lateAfter/2, 0) // the insert has the other half
	f(lateAfter, 1)
	f(time.Hour, 2)
}

// The marks stay behind a transaction that has looked at the age of its rows and is not committed. Others are found
// meanwhile.
func TestTheMarksWaitForWriters(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.byAge() // the row is not noted: it was young when its transaction looked
	requests := NewRequestStore(l.db.reads)
	start := testNow.Add(-2 * time.Hour)
	l.db.exec(t, `INSERT INTO orphan_marks SELECT DISTINCT partition, $1::timestamptz FROM ingest_offsets`, start)
	writer, err := l.db.reads.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = writer.Rollback(context.WithoutCancel(t.Context())) }()
	late := l.seen(l.add("T1", 1, "a").Request, time.Hour)
	_, err = writer.Exec(t.Context(), `INSERT INTO requests (accepted_at, accepted_on, partition, version, request_id,
		trade_id, correlation_id) VALUES ($1, $2, $3, 1, $4, 'T1', 'call of T1')`,
		late.AcceptedAt, trade.DateOf(late.AcceptedAt).Time(), late.Partition, [16]byte(late.ID))
	require.NoError(t, err)
	other := l.orphan(requests, "T2", time.Minute)
	l.wantPending(requests, testNow, 10, other)
	require.Equal(t, start, requests.scan.settledTo.UTC())
	require.NoError(t, writer.Commit(t.Context()))
	l.wantPending(requests, testNow, 10, late, other)
	require.Equal(t, testNow, requests.scan.settledTo.UTC())
}

// seen returns what Pending says of a request that was accepted some time before testNow.
func (l *topicLog) seen(r trade.Request, age time.Duration) trade.PendingRequest {
	r.AcceptedAt, r.CorrelationID = testNow.Add(-age), "call of "+r.Trade.TradeID
	return pendingOf(&r)
}

// A clock that is ahead must not move the scan past requests that are still to come.
func TestPendingKeepsToTheClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	var now time.Time
	require.NoError(t, l.db.reads.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now))
	for range 2 {
		l.wantPending(requests, now.AddDate(1, 0, 0), 10)
	}
	require.WithinRange(t, requests.scan.settledTo, now.Add(-oneDay), now.Add(-lateAfter))
	require.NoError(t, l.db.reads.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now))
	require.WithinRange(t, requests.scan.scannedTo, requests.scan.settledTo, now)
}

// While too many are undecided, the scan waits; all are found in the end.
func TestPendingIsBounded(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	l.byAge()
	requests := NewRequestStore(l.db.reads)
	for i := range 10 { // the first step of the scan that finds any finds six, then each finds two
		l.orphan(requests, "T1", time.Hour+time.Duration(min(i/2, 2))*2*oneDay)
	}
	for range 10 {
		found, err := requests.Pending(t.Context(), allPartitions, testNow, 3)
		require.NoError(t, err)
		require.NotEmpty(t, found)
		require.LessOrEqual(t, len(requests.scan.undecided), 3)
		l.close(found[0])
	}
	l.wantPending(requests, testNow, 3)
	require.Equal(t, testNow, requests.scan.settledTo)
}

// Rows that are put back when their day is dropped are noted as late.
func TestPendingFindsWhatTheSweepPutBack(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	m, requests := NewMaintainer(l.db.reads), NewRequestStore(l.db.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	l.byAge()
	late := l.orphan(requests, "T1", time.Hour)
	l.db.exec(t, `ALTER TABLE requests ENABLE TRIGGER late_request`)
	_, err := m.Sweep(t.Context(), testNow.Add(9*oneDay), week)
	require.NoError(t, err)
	l.db.exec(t, `INSERT INTO orphan_marks SELECT DISTINCT partition, $1::timestamptz FROM ingest_offsets`,
		testNow.Add(oneDay))
	l.wantPending(requests, testNow.Add(9*oneDay), 10, late)

	// The journal has dropped its day, and with it an outcome that it may have had: nothing is decided.
	outcomes, err := l.store.Close(t.Context(), l.topic, late.Partition, 0, []trade.PendingRequest{late})
	require.NoError(t, err)
	require.Empty(t, outcomes)
	l.wantPending(requests, testNow.Add(9*oneDay), 10, late)

	// Once it is ended by an operator, entry and journal row go together, after the retention.
	l.db.exec(t, `INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, request_id, outcome)
		VALUES ($1, $2, $3, 1, $4, $5, 'FAILED')`, late.AcceptedAt, testNow, trade.DateOf(late.AcceptedAt).Time(),
		late.Partition, [16]byte(late.ID))
	swept, err := m.Sweep(t.Context(), testNow.Add(9*oneDay), week)
	require.NoError(t, err)
	require.Equal(t, trade.Swept{JournalRows: 1, PendingRows: 1}, swept)
	require.Zero(t, l.db.count(t, `SELECT count(*) FROM requests`))
}

// The plans must not read a day from end to end, even while nothing is known about the tables.
func TestPendingPlans(t *testing.T) {
	t.Parallel()
	d := newDatabase(t)
	require.NoError(t, NewMaintainer(d.reads).MakeDays(t.Context(), testNow))
	scan := d.explain(t, undecidedRows, testNow.Add(-time.Minute), testNow, allPartitions, 10)
	require.Contains(t, scan, "Bitmap Index Scan on requests_20260304_accepted_at_idx")
	require.Contains(t, scan, "SubPlan", "a probe for each row")
	again := d.explain(t, decidedSince, [][16]byte{{1}}, []time.Time{testNow})
	for _, p := range []string{scan, again} {
		require.NotContains(t, p, "Seq Scan")
		require.NotContains(t, p, "Hash")
		require.Contains(t, p, "journal_20260304_pkey")
	}
}

func TestCloseWhatWasNeverDelivered(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	l.open(requests, "T1", 1, "a")
	l.apply()
	p := l.orphan(requests, "T1", time.Minute)
	at := l.next[p.Partition]

	got := l.close(p)
	want := trade.Decision{
		RequestState: trade.RequestState{ID: p.ID, Status: trade.Failed, TradeID: "T1", Version: 1,
			Reason: trade.NotDelivered, Detail: got.Detail, AcceptedAt: p.AcceptedAt, DecidedAt: testNow.Add(time.Second)},
		Generation: 1, Partition: p.Partition, Offset: trade.NoOffset, CorrelationID: "call of T1",
	}
	require.Equal(t, want, got)
	require.Contains(t, got.Detail, "was applied up to offset 1 without it")
	require.Equal(t, int64(1), at)
	state, err := requests.Get(t.Context(), p.ID)
	require.NoError(t, err)
	require.Equal(t, want.RequestState, state)

	// Again, or by another worker: the outcome stands.
	require.Equal(t, want, l.close(p))
	outcomes, err := l.store.Decisions(t.Context(), []trade.PendingRequest{p, l.orphan(requests, "T2", oneDay)})
	require.NoError(t, err)
	require.Equal(t, []trade.Decision{want}, outcomes)
	require.Equal(t, 2, l.db.count(t, `SELECT count(*) FROM journal`))

	// The projector walks records, and has nothing to do with it.
	unprojected, err := l.store.Unprojected(t.Context(), allPartitions, 10)
	require.NoError(t, err)
	require.Len(t, unprojected, 1)
}

// What the log has wins, and the same call closes the others (rule R4).
func TestCloseKeepsOutcomes(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	stored := l.open(requests, "T1", 2, "a")
	stale := l.open(requests, "T1", 1, "a")
	l.apply()
	orphan := l.orphan(requests, "T1", oneDay)
	before := l.db.contents(t)
	pending := []trade.PendingRequest{pendingOf(&stored.Request), orphan, pendingOf(&stale.Request), orphan}
	outcomes, err := l.store.Close(t.Context(), l.topic, orphan.Partition, 2, pending)
	require.NoError(t, err)
	reasons := map[trade.RequestID]trade.Code{}
	for _, o := range outcomes {
		reasons[o.ID] = o.Reason
	}
	want := map[trade.RequestID]trade.Code{stored.ID: "", stale.ID: trade.StaleVersion, orphan.ID: trade.NotDelivered}
	require.Equal(t, want, reasons)
	require.Len(t, l.db.contents(t), len(before)+1)
}

// A request of a day that the journal has dropped may have had an outcome. The others of the call are closed.
func TestCloseLeavesWhatTheJournalHasDropped(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests, m := NewRequestStore(l.db.reads), NewMaintainer(l.db.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))
	decided := l.open(requests, "T1", 1, "a")
	l.apply()
	require.NoError(t, l.store.Pass(t.Context(), allPartitions))
	require.NoError(t, m.MakeDays(t.Context(), testNow.Add(9*oneDay)))
	_, err := m.Sweep(t.Context(), testNow.Add(9*oneDay), week)
	require.NoError(t, err)
	fresh := l.orphan(requests, "T1", -9*oneDay)
	pending := []trade.PendingRequest{pendingOf(&decided.Request), fresh}
	outcomes, err := l.store.Close(t.Context(), l.topic, fresh.Partition, 1, pending)
	require.NoError(t, err)
	require.Len(t, outcomes, 1)
	require.Equal(t, fresh.ID, outcomes[0].ID)
	require.Equal(t, 1, l.db.count(t, `SELECT count(*) FROM journal`))
}

func TestCloseRefuses(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	p := l.orphan(requests, "T1", time.Minute)
	before := l.db.contents(t)
	f := func(ctx context.Context, topic trade.TopicID, end int64, want trade.Class) {
		t.Helper()
		_, err := l.store.Close(ctx, topic, p.Partition, end, []trade.PendingRequest{p})
		require.Error(t, err)
		require.Equal(t, want, trade.ClassOf(err), "%v", err)
		require.Equal(t, before, l.db.contents(t))
	}
	f(t.Context(), l.topic, 1, trade.Fenced)
	f(t.Context(), trade.TopicID{9}, 0, trade.Broken)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	f(over, l.topic, 0, trade.Unavailable)
}

// The record of a closed request lands after all: it is dropped, whatever it would have replaced (rule R5).
func TestALateRecordOfAClosedRequestChangesNothing(t *testing.T) {
	t.Parallel()
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	l.open(requests, "T1", 1, "b")
	l.apply()
	p := l.orphan(requests, "T1", time.Hour)
	l.close(p)
	before := l.db.contents(t)
	late := trade.Request{ID: p.ID, Trade: newTrade("T1", 1, "late"), AcceptedAt: p.AcceptedAt, Partition: p.Partition}
	l.append(trade.Record{Request: late})
	require.Equal(t, trade.Applied{Duplicates: 1}, l.apply())
	require.Equal(t, "b", l.db.book(t, "T1", 1))
	require.Len(t, l.db.contents(t), len(before))
	state, err := requests.Get(t.Context(), p.ID)
	require.NoError(t, err)
	require.Equal(t, trade.NotDelivered, state.Reason)
}

// Worker and orphan reaper decide the same request at the same time: one of them does, and the other sees it.
func TestCloseAndApplyRace(t *testing.T) {
	t.Parallel()
	rounds := 200
	if stack.Long {
		rounds = 10_000
	}
	l := newTopicLog(t)
	requests := NewRequestStore(l.db.reads)
	won := map[trade.Code]int{}
	for i := range rounds {
		r := l.open(requests, "T1", 1, "a")
		end := l.applied[r.Partition]
		batch := l.batch()
		var both sync.WaitGroup
		var applied trade.Applied
		var outcomes []trade.Decision
		var applyErr, closeErr error
		apply := func() { applied, applyErr = l.store.Apply(t.Context(), batch) }
		shut := func() {
			pending := []trade.PendingRequest{pendingOf(&r.Request)}
			outcomes, closeErr = l.store.Close(t.Context(), l.topic, r.Partition, end, pending)
		}
		if i%2 == 0 {
			apply, shut = shut, apply
		}
		both.Go(apply)
		both.Go(shut)
		both.Wait()
		require.NoError(t, applyErr)
		require.NoError(t, closeErr)
		require.Len(t, outcomes, 1)
		reason := outcomes[0].Reason
		won[reason]++
		require.Equal(t, reason == trade.NotDelivered, applied.Duplicates == 1)
		require.Equal(t, reason == "", applied.Rows == 1)
		state, err := requests.Get(t.Context(), r.ID)
		require.NoError(t, err)
		require.Equal(t, outcomes[0].RequestState, state)
	}
	require.Equal(t, rounds, l.db.count(t, `SELECT count(*) FROM journal`))
	t.Logf("%d decided by the worker, %d by the orphan reaper", won[""], won[trade.NotDelivered])
}
