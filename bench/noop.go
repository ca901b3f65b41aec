package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// noopStore answers at once and keeps nothing. It implements every store interface of server and worker except
// worker.TradeStore: see positionStore.
type noopStore struct{}

func (noopStore) Open(context.Context, []*trade.Request) []error { return nil }

func (noopStore) OpenKeyed(context.Context, []*trade.KeyedRequest) []error { return nil }

func (noopStore) Get(context.Context, trade.RequestID) (trade.RequestState, error) {
	return trade.RequestState{}, trade.ErrNotFound
}

func (noopStore) Ended(context.Context, []trade.RequestID) ([]trade.RequestState, error) {
	return nil, nil
}

func (noopStore) GetKeyed(context.Context, []trade.RequestID) (map[trade.RequestID]trade.KeyedState, error) {
	return nil, nil
}

func (noopStore) MaxVersions(context.Context, []string) (map[string]int32, error) { return nil, nil }

func (noopStore) Versions(context.Context, string, int32, int) ([]trade.Trade, int32, error) {
	return nil, 0, nil
}

func (noopStore) PendingOf(context.Context, string, int) ([]trade.PendingRequest, error) {
	return nil, nil
}

func (noopStore) AsOf(context.Context, string, time.Time, int32, int) ([]trade.Trade, int32, error) {
	return nil, 0, nil
}

func (noopStore) History(context.Context, string, trade.HistoryPosition, int) (
	[]trade.HistoryEntry, trade.HistoryPosition, error,
) {
	return nil, trade.HistoryPosition{}, nil
}

func (noopStore) Newest(context.Context, []string) (map[string]trade.Stored, error) { return nil, nil }

func (noopStore) List(context.Context, trade.Filter, trade.Key, int) ([]trade.Trade, trade.Key, error) {
	return nil, trade.Key{}, nil
}

func (noopStore) Positions(context.Context) ([]trade.Position, error) { return nil, nil }

func (noopStore) After(context.Context, []trade.Position, int) ([]trade.Decision, error) {
	return nil, nil
}

func (noopStore) Unprojected(context.Context, []int32, int) ([]trade.Decision, error) {
	return nil, nil
}

func (noopStore) Projected(context.Context, []trade.Decision) error { return nil }

func (noopStore) Pass(context.Context, []int32) error { return nil }

func (noopStore) Decisions(context.Context, []trade.PendingRequest) ([]trade.Decision, error) {
	return nil, nil
}

func (noopStore) Close(context.Context, trade.TopicID, int32, int64, []trade.PendingRequest) ([]trade.Decision, error) {
	return nil, nil
}

func (noopStore) Pending(context.Context, []int32, time.Time, int) ([]trade.PendingRequest, error) {
	return nil, nil
}

func (noopStore) Project(context.Context, []trade.Decision) error { return nil }

func (noopStore) Clock(context.Context) (time.Time, error) { return time.Now(), nil }

func (noopStore) MakeDays(context.Context, time.Time) error { return nil }

func (noopStore) Summarize(context.Context) (int, error) { return 0, nil }

func (noopStore) Sweep(context.Context, time.Time, trade.Retention) (trade.Swept, error) {
	return trade.Swept{}, nil
}

// positionStore is a worker.TradeStore that keeps only the positions.
type positionStore struct {
	mu  sync.Mutex // guards all
	all []trade.Position
}

// newPositionStore starts every partition of a topic at offset 0.
func newPositionStore(topic trade.TopicID, partitions int) *positionStore {
	s := &positionStore{}
	for p := range partitions {
		s.all = append(s.all, trade.Position{TopicID: topic, Generation: 1, Partition: int32(p), LeaderEpoch: -1})
	}
	return s
}

// Positions implements worker.TradeStore.
func (s *positionStore) Positions(context.Context) ([]trade.Position, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]trade.Position(nil), s.all...), nil
}

// Apply moves the positions past the batch.
func (s *positionStore) Apply(_ context.Context, batch *trade.Batch) (trade.Applied, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range batch.Spans {
		p := &s.all[span.Partition]
		if p.NextOffset != span.From {
			return trade.Applied{}, trade.Classed(trade.Fenced, "partition %d is at %d, not at %d", span.Partition, p.NextOffset,
				span.From)
		}
		p.NextOffset, p.LeaderEpoch = span.Next, span.LeaderEpoch
	}
	return trade.Applied{Rows: len(batch.Records)}, nil
}

// serveNoop answers every request with a 202 of the usual size: the limit of HTTP alone. It runs until the parent ends
// it.
func serveNoop() error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	body := []byte(`{"request_id":"019e7c1a-5b7e-7c40-9f4e-3a1f0c2d4b6a","status":"PENDING",` +
		`"trade_id":"noop-255-12345","version":1}`)
	server := &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		ctx.SetContentType("application/json")
		ctx.SetBody(body)
	}}
	ctx, err := announce(endpoint{API: ln.Addr().String()})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { _ = ln.Close() })
	if err := server.Serve(ln); ctx.Err() == nil {
		return err
	}
	return nil
}
