package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// Reader reads stored trades, always by key. Its methods may be called concurrently.
type Reader struct {
	pool readPool
}

// NewReader returns a Reader on a pool of Open. The pool must lead to the writer, not to a replica.
func NewReader(pool *pgxpool.Pool) *Reader { return &Reader{readPool{pool}} }

// maxVersions finds the highest version of each id by one backward probe of the primary key, however many versions
// there are. It returns the place of the id in the array, which costs less than the id.
const maxVersions = `
	SELECT (id.place - 1)::integer, newest.version
	FROM unnest($1::text[]) WITH ORDINALITY AS id(trade_id, place)
	CROSS JOIN LATERAL (
		SELECT version FROM trades WHERE trades.trade_id = id.trade_id ORDER BY version DESC LIMIT 1) AS newest`

// scanMaxVersions reads the rows of maxVersions for ids.
func scanMaxVersions(rows pgx.Rows, ids []string, into map[string]int32) error {
	var place, version int32
	_, err := pgx.ForEachRow(rows, []any{&place, &version}, func() error {
		into[ids[place]] = version
		return nil
	})
	return err
}

// MaxVersions returns the highest committed version of each trade id that is stored; ids without one are absent.
func (r *Reader) MaxVersions(ctx context.Context, tradeIDs []string) (map[string]int32, error) {
	found := make(map[string]int32, len(tradeIDs))
	rows, err := r.pool.Query(ctx, maxVersions, tradeIDs)
	if err == nil {
		err = scanMaxVersions(rows, tradeIDs, found)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the versions of %d trades: %w", len(tradeIDs), err)
	}
	return found, nil
}

// newestVersions is maxVersions with the request that stored the version: it reads the rows as well as the index.
const newestVersions = `
	SELECT (id.place - 1)::integer, newest.version, newest.request_id
	FROM unnest($1::text[]) WITH ORDINALITY AS id(trade_id, place)
	CROSS JOIN LATERAL (
		SELECT version, request_id FROM trades WHERE trades.trade_id = id.trade_id ORDER BY version DESC LIMIT 1) AS newest`

// Newest returns the highest committed version of each trade id that is stored, and the request that stored it.
func (r *Reader) Newest(ctx context.Context, tradeIDs []string) (map[string]trade.Stored, error) {
	found := make(map[string]trade.Stored, len(tradeIDs))
	rows, err := r.pool.Query(ctx, newestVersions, tradeIDs)
	if err == nil {
		var place int32
		var stored trade.Stored
		_, err = pgx.ForEachRow(rows, []any{&place, &stored.Version, (*[16]byte)(&stored.RequestID)}, func() error {
			found[tradeIDs[place]] = stored
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the newest versions of %d trades: %w", len(tradeIDs), err)
	}
	return found, nil
}

// tradeColumns has dates as days since 1970-01-01, which is what trade.Date is.
const tradeColumns = `trade_id, version, counterparty_id, book_id,
	maturity_date - DATE '1970-01-01', created_date - DATE '1970-01-01'`

const versions = `
	SELECT ` + tradeColumns + ` FROM trades WHERE trade_id = $1 AND version > $2 ORDER BY version LIMIT $3`

// Versions returns up to limit stored versions of one trade after the given one, ascending; none for an unknown trade.
// next is the version to continue after, zero if there are no more.
func (r *Reader) Versions(ctx context.Context, tradeID string, after int32, limit int) (
	page []trade.Trade, next int32, err error,
) {
	rows, err := r.pool.Query(ctx, versions, tradeID, after, limit+1) // one more tells whether there is another page
	if err == nil {
		page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t trade.Trade, err error) {
			err = row.Scan(&t.TradeID, &t.Version, &t.CounterpartyID, &t.BookID, &t.MaturityDate, &t.CreatedDate)
			return t, err
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read the versions of a trade: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		next = page[limit-1].Version
	}
	return page, next, nil
}
