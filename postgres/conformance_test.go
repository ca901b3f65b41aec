package postgres

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/test/conformance"
	"tradestore/trade"
)

// decider decides requests by applying their records. Every call appends new copies of the records, so a repeat is a
// duplicate in the topic.
type decider struct {
	store *Store
}

func (d decider) decide(ctx context.Context, ends []conformance.End) error {
	for {
		positions, err := d.store.Positions(ctx)
		if err != nil {
			return err
		}
		_, err = d.store.Apply(ctx, batchOf(positions, ends))
		switch trade.ClassOf(err) {
		case trade.Fenced, trade.Repeatable: // another was faster; the worker drops and loads, or repeats
			continue
		default:
			return err
		}
	}
}

func batchOf(positions []trade.Position, ends []conformance.End) *trade.Batch {
	records := make(map[int32][]trade.Record)
	for _, e := range ends {
		p := e.Request.Partition
		if e.Reason == trade.StaleVersion {
			higher := conformance.NewRequest(e.Request.Trade.TradeID, e.Request.Trade.Version+1, p)
			records[p] = append(records[p], trade.Record{Request: *higher})
		}
		r := trade.Record{Request: *e.Request, Value: []byte("as it lies in the log")}
		if e.Reason == trade.InvalidRecord {
			r.Fault = "unreadable"
		}
		records[p] = append(records[p], r)
	}
	b := &trade.Batch{TopicID: positions[0].TopicID, Generation: positions[0].Generation}
	for _, p := range slices.Sorted(maps.Keys(records)) {
		from := positions[p].NextOffset
		for i := range records[p] {
			records[p][i].Offset = from + int64(i)
		}
		b.Spans = append(b.Spans, trade.Span{Partition: p, From: from, Next: from + int64(len(records[p])), LeaderEpoch: 1})
		b.Records = append(b.Records, records[p]...)
	}
	return b
}

// cuts has, for each method, the message at which the connection is cut: the request, and the server's reply.
var cuts = map[string][2]string{
	"Open":      {"COPY requests", "COPY 60\x00"},
	"Get":       {"", ""},
	"Ended":     {"", ""},
	"OpenKeyed": {"WITH batch", "SELECT 59\x00"},
	"GetKeyed":  {"", ""},
	"Decide":    {"Q\x00\x00\x00\x0bcommit\x00", "COMMIT\x00"},
}

func TestRequestStoreConformance(t *testing.T) {
	t.Parallel()
	conformance.RequestStore(t, func(t *testing.T) conformance.RequestStoreSubject {
		d := newDatabase(t)
		p := newProxy(t, d.url)
		return conformance.RequestStoreSubject{
			Store:  NewRequestStore(openPool(t, p.url, "reads", Open)),
			Decide: decider{newStore(&testDatabase{writer: openPool(t, p.url, "writer", OpenWriter)})}.decide,
			Hurt:   func(_ *testing.T, method string, when conformance.When) { p.cut(cuts[method], when) },
		}
	})
}

func TestKeyedRequestStoreConformance(t *testing.T) {
	t.Parallel()
	conformance.KeyedRequestStore(t, func(t *testing.T) conformance.KeyedSubject {
		d := newDatabase(t)
		p := newProxy(t, d.url)
		// Without prepared statements each call has the text of its statement, which the proxy looks for.
		reads := openPool(t, p.url+"&default_query_exec_mode=cache_describe", "reads", Open)
		return conformance.KeyedSubject{
			Store:  NewRequestStore(reads),
			Decide: decider{newStore(&testDatabase{writer: openPool(t, p.url, "writer", OpenWriter)})}.decide,
			Hurt:   func(_ *testing.T, method string, when conformance.When) { p.cut(cuts[method], when) },
		}
	})
}

func (p *proxy) cut(messages [2]string, when conformance.When) {
	if when == conformance.Before {
		p.cutRequest(messages[0])
	} else {
		p.cutReply(messages[1])
	}
}

func TestTradeStoreConformance(t *testing.T) {
	t.Parallel()
	conformance.TradeStore(t, func(t *testing.T) conformance.StoreSubject {
		d := newDatabase(t)
		p := newProxy(t, d.url)
		return conformance.StoreSubject{
			Store:  newStore(&testDatabase{writer: openPool(t, p.url, "writer", OpenWriter)}),
			Trades: d.trades,
			Hurt:   func(_ *testing.T, when conformance.When) { p.cut(cuts["Decide"], when) },
		}
	})
}

// trades returns every row, page by page.
func (d *testDatabase) trades(t *testing.T) map[trade.Key]trade.Trade {
	t.Helper()
	all := make(map[trade.Key]trade.Trade)
	for after := (trade.Key{}); ; {
		page, _, err := NewReader(d.reads).List(t.Context(), trade.AllTrades(), after, 7)
		require.NoError(t, err)
		for _, row := range page {
			after = row.Key()
			all[after] = row
		}
		if len(page) == 0 {
			return all
		}
	}
}
