package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

// mediaCSV is one media type of exports; mediaNDJSON is the other.
const mediaCSV = "text/csv"

// exportPage is how many trades an export reads and holds at once.
const exportPage = 1000

var (
	errExportSlow = errors.New("the client does not take the export fast enough")
	errDraining   = errors.New("the process ends")

	errExportPanic = errors.New("a fault in the service")
)

// Values of the result label of exports.
const (
	exportWhole  = "whole"
	exportSlow   = "slow"   // the client did not take it fast enough
	exportLeft   = "left"   // the client hung up
	exportFailed = "failed" // a store did not answer, or the process ends
)

// preferred returns the offered media type that the value of Accept prefers (RFC 9110, section 12.5.1). The first one
// wins a tie, and also answers an Accept without any of them: an answer is better than a 406.
func preferred(accept string, offered ...string) string {
	best, bestWeight := offered[0], 0.0
	for _, media := range offered {
		if weight := weightOf(accept, media); weight > bestWeight {
			best, bestWeight = media, weight
		}
	}
	return best
}

// weightOf returns the weight of a media type in Accept, 0 to 1. The most specific range that covers it decides.
func weightOf(accept, media string) (weight float64) {
	kind, _, _ := strings.Cut(media, "/")
	highest := 0
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		specific := map[string]int{media: 3, kind + "/*": 2, "*/*": 1}[strings.ToLower(strings.TrimSpace(name))]
		if specific <= highest {
			continue
		}
		highest, weight = specific, 1
		for param := range strings.SplitSeq(params, ";") {
			if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); ok {
				weight, _ = strconv.ParseFloat(q, 64) // 0 if it is not a number
			}
		}
	}
	return weight
}

// exportTrades answers GET /api/v1/trades with all trades that match, as a stream. An error before the first byte is a
// problem document. After it the connection is cut within the chunked coding, so that no client takes a part for the
// whole.
func (s *Server) exportTrades(c *call, filter trade.Filter, today trade.Date, media string) {
	if !s.exports.acquire() {
		c.refuse(problem{code: TooManyExports, detail: fmt.Sprintf("at most %d exports at once", s.cfg.MaxExports)})
		return
	}
	e := &export{
		s: s, conn: c.ctx.Conn(), filter: filter, today: today, csv: media == mediaCSV, correlationID: c.correlationID,
		deadline: c.start.Add(s.cfg.ExportSlack), result: exportLeft,
	}
	if e.csv {
		e.left = []byte("trade_id,version,counterparty_id,book_id,maturity_date,created_date,expired\r\n")
		media += "; charset=utf-8; header=present"
	}
	streams := false
	defer func() { // also after a panic
		if !streams {
			_ = e.Close()
		}
	}()
	if err := e.fetch(); err != nil {
		c.refuseRead(err, "")
		return
	}
	c.ctx.SetContentType(media)
	if streams = !c.ctx.IsHead(); streams { // of a HEAD, fasthttp would write the end of the chunked coding
		c.ctx.Response.SetBodyStream(e, -1)
	} else {
		e.result = exportWhole
	}
}

// export is the body of the answer. It reads the next page when the one before is written: its memory is one page.
type export struct {
	s      *Server
	conn   net.Conn
	filter trade.Filter
	today  trade.Date
	csv    bool

	correlationID string
	deadline      time.Time // when the client must have taken what is fetched
	result        string    // how it ended, if it ends now

	left   []byte // not written yet
	page   []byte // the buffer of left
	next   trade.Key
	ended  bool // no page is left
	closed sync.Once
}

// Read returns what is left of the page, or fetches the next one. An error other than io.EOF cuts the connection. A
// panic is such an error: fasthttp would catch it as well, but say nothing and not close the export.
func (e *export) Read(p []byte) (n int, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			e.s.observe.panicked()
			e.s.panics.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).
				Str("correlation_id", e.correlationID).Msg("panic in an export")
			err = errExportPanic
		}
	}()
	for len(e.left) == 0 {
		if e.ended {
			e.result = exportWhole
			return 0, io.EOF
		}
		if err := e.fetch(); err != nil {
			e.s.failures.Warn().Err(err).Str("correlation_id", e.correlationID).Msg("cannot finish an export")
			return 0, err
		}
	}
	n = copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

// fetch reads a page, and gives the client another ExportPace to take it, beside the time that the store took. A client
// that was faster saves no more than ExportSlack for later. A drain does not wait for exports.
func (e *export) fetch() error {
	start := time.Now()
	switch {
	case start.After(e.deadline):
		e.result = exportSlow
		return errExportSlow
	case e.s.draining.Load():
		e.result = exportFailed
		return errDraining
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.s.cfg.StoreTimeout)
	defer cancel()
	trades, next, err := e.s.trades.List(ctx, e.filter, e.next, exportPage)
	if err != nil {
		e.result = exportFailed
		return err
	}
	now := time.Now()
	e.deadline = e.deadline.Add(now.Sub(start) + e.s.cfg.ExportPace)
	if most := now.Add(e.s.cfg.ExportSlack); e.deadline.After(most) {
		e.deadline = most
	}
	e.next, e.ended = next, next == (trade.Key{})
	e.page = append(e.page[:0], e.left...)
	for i := range trades {
		if e.csv {
			e.page = appendCSV(e.page, &trades[i], e.today)
		} else {
			e.page = append(appendStoredTrade(e.page, &trades[i], e.today), '\n')
		}
	}
	e.left = e.page
	return e.conn.SetWriteDeadline(e.deadline)
}

// Close frees the slot. The server calls it in every case, also when a write took too long.
func (e *export) Close() error {
	e.closed.Do(func() {
		if open, ok := e.conn.(*conn); ok && e.result == exportLeft && open.late.Load() {
			e.result = exportSlow
		}
		e.s.m.exports[e.result].Inc()
		e.s.exports.release()
	})
	return nil
}

// appendCSV writes one row (RFC 4180). No value needs quotes, and none is a formula to a spreadsheet: a stored
// identifier has passed the decoder, so it holds letters, digits, ".", "_" and "-", and starts with a letter or digit.
func appendCSV(dst []byte, t *trade.Trade, today trade.Date) []byte {
	dst = append(append(dst, t.TradeID...), ',')
	dst = append(strconv.AppendInt(dst, int64(t.Version), 10), ',')
	dst = append(append(dst, t.CounterpartyID...), ',')
	dst = append(append(dst, t.BookID...), ',')
	dst = append(t.MaturityDate.Append(dst), ',')
	dst = append(t.CreatedDate.Append(dst), ',')
	return append(strconv.AppendBool(dst, t.Expired(today)), "\r\n"...)
}

// varyByAccept tells caches that the answer depends on Accept.
func (c *call) varyByAccept() { c.ctx.Response.Header.Set(fasthttp.HeaderVary, fasthttp.HeaderAccept) }
