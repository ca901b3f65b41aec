package server

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// nothing is a pair of stores that answer at once, so that a benchmark measures the server.
type nothing struct{}

func (nothing) Open(context.Context, []*trade.Request) []error { return nil }

func (nothing) Get(context.Context, trade.RequestID) (trade.RequestState, error) {
	return trade.RequestState{}, trade.ErrNotFound
}

func (nothing) Ended(context.Context, []trade.RequestID) ([]trade.RequestState, error) {
	return nil, nil
}

func (nothing) MaxVersions(context.Context, []string) (map[string]int32, error) { return nil, nil }

func (nothing) Versions(context.Context, string, int32, int) ([]trade.Trade, int32, error) {
	return nil, 0, nil
}

func (nothing) PendingOf(context.Context, string, int) ([]trade.PendingRequest, error) {
	return nil, nil
}

func (nothing) AsOf(context.Context, string, time.Time, int32, int) ([]trade.Trade, int32, error) {
	return nil, 0, nil
}

func (nothing) History(context.Context, string, trade.HistoryPosition, int) (
	[]trade.HistoryEntry, trade.HistoryPosition, error,
) {
	return nil, trade.HistoryPosition{}, nil
}

func (nothing) Newest(context.Context, []string) (map[string]trade.Stored, error) { return nil, nil }

func (nothing) List(context.Context, trade.Filter, trade.Key, int) ([]trade.Trade, trade.Key, error) {
	return nil, trade.Key{}, nil
}

// requestOf makes the context that the HTTP parser would hand to the handler.
func requestOf(b *testing.B, body string) *fasthttp.RequestCtx {
	b.Helper()
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&fasthttp.Request{}, nil, nil)
	head := message("POST /api/v1/trades HTTP/1.1\n"+jsonType+"\nX-Correlation-ID: c-1", "")
	if err := ctx.Request.Header.Read(bufio.NewReader(strings.NewReader(head))); err != nil {
		b.Fatal(err)
	}
	ctx.Request.SetBodyString(body)
	return ctx
}

// BenchmarkAccept is the whole accept path but the socket: stores that do nothing, a real producer, an embedded broker.
func BenchmarkAccept(b *testing.B) {
	a := start(b, func(_ *Config, deps *Deps) {
		deps.Requests, deps.LookUp, deps.Now = nothing{}, nothing{}, time.Now
		deps.Log = zerolog.New(io.Discard).Level(zerolog.InfoLevel)
	})
	body := string(tradeFarAhead())
	b.ReportAllocs()
	b.SetParallelism(256)
	b.RunParallel(func(pb *testing.PB) {
		ctx := requestOf(b, body)
		for pb.Next() {
			ctx.Response.Reset()
			a.srv.handle(ctx)
			if ctx.Response.StatusCode() != fasthttp.StatusAccepted {
				b.Errorf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "trades/s")
}

// BenchmarkAcceptBulk is the same with a hundred trades in a request.
func BenchmarkAcceptBulk(b *testing.B) {
	const each = 100
	a := start(b, func(_ *Config, deps *Deps) {
		deps.Requests, deps.LookUp, deps.Now = nothing{}, nothing{}, time.Now
		deps.Log = zerolog.New(io.Discard).Level(zerolog.InfoLevel)
	})
	body := strings.Repeat(string(tradeFarAhead())+"\n", each)
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		ctx := requestOf(b, body)
		ctx.Request.Header.SetRequestURI(bulkPath)
		for pb.Next() {
			ctx.Request.SetBodyString(body) // the answer took the buffer of the last one
			ctx.Response.Reset()
			c := a.srv.newCall(ctx)
			c.head.contentType = mediaNDJSON
			a.srv.acceptBulk(c)
			c.finish()
			if n := bytes.Count(ctx.Response.Body(), []byte(`"status":202`)); n != each {
				b.Errorf("%d %.300s", n, ctx.Response.Body())
				return
			}
		}
	})
	b.ReportMetric(float64(each*b.N)/b.Elapsed().Seconds(), "trades/s")
}

// BenchmarkRefuse is what an invalid trade costs.
func BenchmarkRefuse(b *testing.B) {
	a := start(b, func(_ *Config, deps *Deps) {
		deps.Requests, deps.LookUp = nothing{}, nothing{}
		deps.Log = zerolog.New(io.Discard).Level(zerolog.WarnLevel)
	})
	ctx := requestOf(b, `{"trade_id":"T1","version":0}`)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		a.srv.handle(ctx)
	}
}

func tradeFarAhead() []byte {
	t := trade.Trade{TradeID: "T-2026-000001", Version: 1, CounterpartyID: "CP-17", BookID: "BOOK-3",
		MaturityDate: trade.DateOf(testNow) + 100_000, CreatedDate: trade.DateOf(testNow)}
	return trade.AppendJSON(nil, &t)
}
