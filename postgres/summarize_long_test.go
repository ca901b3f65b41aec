package postgres

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/stack"
	"tradestore/trade"
)

// The history of a trade in a large journal, over 8 days, that was filled as fast as the machine can while the worker's
// calls made the summaries. It reports the rate, the time of a call and that of a history. TRADESTORE_JOURNAL_ROWS says
// how large, 50 million without it.
func TestHistoryOfALargeJournal(t *testing.T) {
	stack.OnlyLong(t)
	rows, err := strconv.Atoi(cmp.Or(os.Getenv("TRADESTORE_JOURNAL_ROWS"), "50000000"))
	require.NoError(t, err)
	const days, step = 8, 100_000
	d := newDatabase(t)
	m, reader := NewMaintainer(d.writer), NewReader(d.reads)
	require.NoError(t, m.MakeDays(t.Context(), testNow))

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	made, longest, summarized := 0, time.Duration(0), make(chan error, 1)
	go func() { // as the worker does
		for {
			select {
			case <-ctx.Done():
				summarized <- nil
				return
			case <-time.After(5 * time.Second):
			}
			start := time.Now()
			n, err := m.Summarize(t.Context())
			if err != nil {
				summarized <- err
				return
			}
			made, longest = made+n, max(longest, time.Since(start))
		}
	}()
	start := time.Now()
	for from := 0; from < rows; from += step {
		day := testNow.Add(time.Duration(from*days/rows) * oneDay)
		d.exec(t, `INSERT INTO journal (accepted_at, decided_at, accepted_on, generation, partition, "offset", request_id,
				outcome, trade_id, version, counterparty_id, book_id, maturity_date, created_date, correlation_id,
				traceparent)
			SELECT $1, $1, $1::timestamptz::date, 1, i % 12, i / 12, ('0190' || lpad(to_hex(i), 28, '0'))::uuid,
				'SUCCESS', 'TRD-' || (i * 2654435761 % 100000000), 1, 'CP-1', 'BOOK-7', $1, $1, 'call-' || i,
				'00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
			FROM generate_series($2::bigint, $2::bigint + $3 - 1) AS i`, day, from, step)
	}
	filled := time.Since(start)
	cancel()
	require.NoError(t, <-summarized)
	t.Logf("%d rows, %.0f a second: %d ranges summarized meanwhile, longest call %v",
		rows, float64(rows)/filled.Seconds(), made, longest)
	require.Positive(t, made)
	require.Eventually(t, func() bool { // autovacuum may have the last table for a while
		_, err := m.Summarize(t.Context())
		require.NoError(t, err)
		return d.count(t, `SELECT sum(brin_summarize_new_values(inhrelid::regclass)) FROM pg_inherits
			WHERE inhparent = 'journal_by_trade'::regclass`) == 0
	}, 10*time.Minute, time.Second)

	var times []time.Duration
	for i := range 21 {
		tradeID := fmt.Sprintf("TRD-%d", rows/22*i*2654435761%100_000_000)
		start := time.Now()
		page, _, err := reader.History(t.Context(), tradeID, trade.HistoryPosition{}, 10)
		require.NoError(t, err)
		require.NotEmpty(t, page)
		times = append(times, time.Since(start).Round(100*time.Microsecond))
	}
	slices.Sort(times)
	t.Logf("history of a trade: median %v, longest %v", times[len(times)/2], times[len(times)-1])
}
