package postgres

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/trade"
)

// dayQuery is a statement on one day, the parameter $1. %[1]s stands for its table of the journal, %[2]s for that of
// requests. It is one statement, so it sees both in one snapshot.
type dayQuery string

func (q dayQuery) on(journal, requests string) string {
	return fmt.Sprintf(string(q), journal, requests)
}

// onDay runs a query on the two tables of a day. Named through the partitioned tables it would lock every day: a cached
// plan does not know the day. A day may have no tables of its own, because its rows strayed or because it was dropped,
// perhaps during the call. Then the query runs on the partitioned tables, which have every row. (Rows of a day that has
// a table are never in the default partition: PostgreSQL refuses to attach the table.)
func (s *RequestStore) onDay(
	ctx context.Context, q dayQuery, day trade.Date, args []any, collect func(pgx.Rows) error,
) error {
	args = append([]any{day.Time()}, args...)
	read := func(journal, requests string) error {
		rows, err := s.read.Query(ctx, q.on(journal, requests), args...)
		if err != nil {
			return err
		}
		return collect(rows)
	}
	if s.days.has(ctx, s.read, day) {
		err := read(dayTable("journal", day), dayTable("requests", day))
		if sqlState(err) != undefinedTable {
			return err
		}
		s.days.forget(day)
	}
	return read("journal", "requests")
}

// daysOf groups requests by their day. A version 7 id carries it. Any other id was derived from an idempotency key, and
// the row of the key has the day; without that row there is no such request, or none any more, and it is left out.
func (s *RequestStore) daysOf(ctx context.Context, ids ...trade.RequestID) (days []dayIDs, err error) {
	var derived [][16]byte
	for _, id := range ids {
		if day, ok := id.Day(); ok {
			days = addID(days, day, id)
		} else {
			derived = append(derived, id)
		}
	}
	if len(derived) == 0 {
		return days, nil
	}
	rows, err := s.read.Query(ctx, `
		SELECT accepted_on, request_id FROM idempotency WHERE request_id = ANY($1::uuid[])`, derived)
	if err != nil {
		return nil, err
	}
	var day time.Time
	var id trade.RequestID
	_, err = pgx.ForEachRow(rows, []any{&day, (*[16]byte)(&id)}, func() error {
		days = addID(days, trade.DateOf(day), id)
		return nil
	})
	return days, err
}

// dayReload is the least time between two looks which days have tables. Ids are made up by clients, too: without a
// limit each id of a day that does not exist would cost a look.
const dayReload = 10 * time.Second

// knownDays remembers which days have a table of their own both in the journal and in requests. A day that is missing
// here costs a read more locks, never its result. Its methods may be called concurrently.
type knownDays struct {
	mu     sync.RWMutex
	days   []trade.Date
	loaded time.Time
}

// has says whether a day is known to have tables. If not, one caller looks in the database first, once in a while.
func (k *knownDays) has(ctx context.Context, pool readPool, day trade.Date) bool {
	k.mu.RLock()
	has, due := slices.Contains(k.days, day), time.Since(k.loaded) > dayReload
	k.mu.RUnlock()
	if has || !due {
		return has
	}
	k.mu.Lock()
	due = time.Since(k.loaded) > dayReload
	k.loaded = time.Now()
	k.mu.Unlock()
	if !due { // another caller is looking
		return false
	}
	journal, err := partitions(ctx, pool, "journal")
	if err != nil {
		return false // the read meets the same error, and reports it
	}
	requests, err := partitions(ctx, pool, "requests")
	if err != nil {
		return false
	}
	both := slices.DeleteFunc(journal, func(d trade.Date) bool { return !slices.Contains(requests, d) })
	k.mu.Lock()
	defer k.mu.Unlock()
	k.days = both
	return slices.Contains(both, day)
}

func (k *knownDays) forget(day trade.Date) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.days = slices.DeleteFunc(slices.Clone(k.days), func(d trade.Date) bool { return d == day })
}
