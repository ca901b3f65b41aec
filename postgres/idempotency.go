package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tradestore/trade"
)

// nonceSet is the set of the nonces of the requests that a call has opened.
type nonceSet map[trade.Nonce]struct{}

// keyedTries is how often one call of OpenKeyed may send its statement. The time limit of the caller usually comes
// first.
const keyedTries = 3

// openKeyed inserts keys and opens the requests of the keys that were free, in one statement. Keys are inserted in
// order, so calls with the same keys wait for each other without a deadlock. The nonce picks one of several requests of
// the call that have the same key.
const openKeyed = `
	WITH batch AS (
		SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::timestamptz[], $5::date[], $6::integer[],
			$7::integer[], $8::text[], $9::text[])
			AS b(request_id, nonce, payload_hash, accepted_at, accepted_on, partition, version, trade_id, correlation_id)
	), taken AS (
		INSERT INTO idempotency (accepted_on, request_id, nonce, payload_hash)
		SELECT accepted_on, request_id, nonce, payload_hash FROM batch ORDER BY request_id
		ON CONFLICT (request_id) DO NOTHING RETURNING request_id, nonce
	), opened AS (
		INSERT INTO requests (accepted_at, accepted_on, partition, version, request_id, trade_id, correlation_id)
		SELECT accepted_at, accepted_on, partition, version, request_id, trade_id, nullif(correlation_id, '')
		FROM batch JOIN taken USING (request_id, nonce)
	)
	SELECT nonce FROM taken`

// openedByCall selects those of the given keys whose row has the given nonce.
const openedByCall = `
	SELECT k.nonce FROM unnest($1::uuid[], $2::uuid[]) AS u(id, nonce)
	JOIN LATERAL (SELECT nonce FROM idempotency WHERE request_id = u.id OFFSET 0) AS k ON k.nonce = u.nonce`

// OpenKeyed stores a PENDING entry for each request whose key is free, with one statement (rule K1). A nil result means
// that every entry is durable. Otherwise it has one error per request: nil for an entry that is durable,
// trade.ErrKeyTaken if another call has taken the key, trade.ErrNotOpened if nothing was stored, any other error if the
// entry may be stored.
//
// A statement without an answer is sent again. That is safe: a key that has an entry is not changed. The nonce tells
// the repeat which entries its first copy made, even if that copy arrives late.
func (s *RequestStore) OpenKeyed(ctx context.Context, batch []*trade.KeyedRequest) []error {
	if len(batch) == 0 {
		return nil
	}
	opened := make(nonceSet, len(batch))
	err := s.openKeyed(ctx, batch, opened)
	if err == nil && len(opened) == len(batch) {
		return nil
	}
	errs := make([]error, len(batch))
	for i, r := range batch {
		if _, ok := opened[r.Nonce]; ok {
			continue
		}
		if errs[i] = err; err == nil {
			errs[i] = fmt.Errorf("request %s: %w", r.ID, trade.ErrKeyTaken)
		}
	}
	return errs
}

// openKeyed adds the nonces of the requests that it opened to opened. If it returns nil, the other keys are taken.
func (s *RequestStore) openKeyed(ctx context.Context, batch []*trade.KeyedRequest, opened nonceSet) error {
	unknown := false // an earlier copy may have stored entries, or may still do so
	var err error
	for range keyedTries {
		var sent bool
		if sent, err = s.tryOpenKeyed(ctx, batch, opened); err == nil {
			if unknown {
				err = s.findOpened(ctx, batch, opened)
			}
			break
		}
		unknown = unknown || sent && !refused(err)
		if !unknown || ctx.Err() != nil {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case unknown:
		return fmt.Errorf("no answer to opening %d requests under keys: %w", len(batch), err)
	}
	return fmt.Errorf("cannot open %d requests under keys: %w: %w", len(batch), trade.ErrNotOpened, err)
}

// tryOpenKeyed sends the statement once. sent is false if the server certainly has not received it.
func (s *RequestStore) tryOpenKeyed(
	ctx context.Context, batch []*trade.KeyedRequest, opened nonceSet,
) (sent bool, err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	if err := checkUsable(ctx, conn.Conn()); err != nil {
		return false, err
	}
	return true, collectNonces(ctx, conn, opened, openKeyed, columnsOf(batch)...)
}

// columnsOf returns the parameters of openKeyed: one array per column.
func columnsOf(batch []*trade.KeyedRequest) []any {
	n := len(batch)
	uuids, hashes := make([][16]byte, 2*n), make([][]byte, n)
	ids, nonces := uuids[:n], uuids[n:]
	at, on := make([]time.Time, n), make([]time.Time, n)
	partitions, versions := make([]int32, n), make([]int32, n)
	tradeIDs, correlationIDs := make([]string, n), make([]string, n)
	for i, r := range batch {
		ids[i], nonces[i], hashes[i] = r.ID, r.Nonce, r.Hash[:]
		at[i], on[i] = r.AcceptedAt, r.AcceptedOn().Time()
		partitions[i], versions[i] = r.Partition, r.Trade.Version
		tradeIDs[i], correlationIDs[i] = r.Trade.TradeID, r.CorrelationID
	}
	return []any{ids, nonces, hashes, at, on, partitions, versions, tradeIDs, correlationIDs}
}

// findOpened adds the nonces of the entries that an earlier copy of the statement made.
func (s *RequestStore) findOpened(ctx context.Context, batch []*trade.KeyedRequest, opened nonceSet) error {
	ids, nonces := make([][16]byte, len(batch)), make([][16]byte, len(batch))
	for i, r := range batch {
		ids[i], nonces[i] = r.ID, r.Nonce
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return collectNonces(ctx, conn, opened, openedByCall, ids, nonces)
}

func collectNonces(
	ctx context.Context, conn *pgxpool.Conn, into nonceSet, query string, args ...any,
) error {
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	var n trade.Nonce
	_, err = pgx.ForEachRow(rows, []any{(*[16]byte)(&n)}, func() error {
		into[n] = struct{}{}
		return nil
	})
	return err
}

// readKeyed reads keys of one day and the outcomes of their requests. OFFSET 0 makes each a probe, however many there
// are.
const readKeyed dayQuery = `
	SELECT k.request_id, k.payload_hash, s.outcome, s.reason
	FROM unnest($2::uuid[]) AS u(id)
	CROSS JOIN LATERAL (SELECT * FROM idempotency WHERE request_id = u.id OFFSET 0) AS k
	LEFT JOIN LATERAL (
		SELECT outcome, reason FROM %[1]s WHERE accepted_on = $1 AND request_id = k.request_id OFFSET 0
	) AS s ON true
	WHERE k.accepted_on = $1`

// GetKeyed returns the states of those of the given requests that have an entry under their key. It sees every
// OpenKeyed and every committed outcome before the call. Any error means that the database can't answer now.
func (s *RequestStore) GetKeyed(
	ctx context.Context, ids []trade.RequestID,
) (map[trade.RequestID]trade.KeyedState, error) {
	states := make(map[trade.RequestID]trade.KeyedState)
	// A key that is deleted between the two statements, with its outcome, is free again: it is not in the result.
	days, err := s.daysOf(ctx, ids...)
	for _, day := range days {
		if err == nil {
			err = s.onDay(ctx, readKeyed, day.date, []any{day.ids}, func(rows pgx.Rows) error {
				return scanKeyed(rows, states)
			})
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %d idempotency keys: %w", len(ids), err)
	}
	return states, nil
}

func scanKeyed(rows pgx.Rows, into map[trade.RequestID]trade.KeyedState) error {
	var id [16]byte
	var hash []byte
	var outcome, reason *string
	_, err := pgx.ForEachRow(rows, []any{&id, &hash, &outcome, &reason}, func() error {
		state := trade.KeyedState{Status: trade.Pending, Reason: trade.Code(value(reason)), Hash: trade.PayloadHash(hash)}
		if outcome != nil {
			state.Status = trade.Status(*outcome)
		}
		into[id] = state
		return nil
	})
	return err
}
