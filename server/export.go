package server

import (
	"context"
	"errors"
	"io"
	"net"
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
	errExportLate = errors.New("the setting export-timeout limits the time of an export")
	errDraining   = errors.New("the process ends")
)

// wanted returns the media type among those offered that the value of Accept prefers (RFC 9110, section 12.5.1). The first
// one offered wins a tie, and what accepts none of them gets it too: an answer is better than a 406.
func wanted(accept string, offered ...string) string {
	best, bestWeight := offered[0], 0.0
	for _, media := range offered {
		if weight := weightOf(accept, media); weight > bestWeight {
			best, bestWeight = media, weight
		}
	}
	return best
}

// weightOf returns how much a media type is wanted, 0 to 1. The most specific range that covers it decides.
func weightOf(accept, media string) (weight float64) {
	kind, _, _ := strings.Cut(media, "/")
	most := 0
	for item := range strings.SplitSeq(accept, ",") {
		name, params, _ := strings.Cut(item, ";")
		specific := map[string]int{media: 3, kind + "/*": 2, "*/*": 1}[strings.ToLower(strings.TrimSpace(name))]
		if specific <= most {
			continue
		}
		most, weight = specific, 1
		for param := range strings.SplitSeq(params, ";") {
			if q, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); ok {
				weight, _ = strconv.ParseFloat(q, 64) // what can't be read is not wanted
			}
		}
	}
	return weight
}

// exportTrades answers GET /api/v1/trades with all trades that match, as a stream. A fault before the first byte is a
// problem document; after it the connection is cut within the chunked coding, so that nobody takes a part for the whole.
func (s *Server) exportTrades(c *call, filter trade.Filter, today trade.Date, media string) {
	if !s.exports.acquire() {
		c.refuse(problem{code: TooManyExports, detail: "the setting max-exports limits exports under way", retryAfter: 5 * retrySoon})
		return
	}
	e := &export{s: s, conn: c.ctx.Conn(), filter: filter, today: today, csv: media == mediaCSV, log: c.correlationID, until: c.start.Add(s.cfg.ExportTimeout)}
	if e.csv {
		e.left = []byte("trade_id,version,counterparty_id,book_id,maturity_date,created_date,expired\r\n")
		media += "; charset=utf-8; header=present"
	}
	if err := e.fetch(); err != nil {
		_ = e.Close()
		c.refuseRead(err, "")
		return
	}
	c.ctx.SetContentType(media)
	if c.ctx.IsHead() { // fasthttp would end the chunked coding of a body that it left out
		_ = e.Close()
		return
	}
	c.ctx.Response.SetBodyStream(e, -1)
}

// export is the body of the answer: it reads the next page when the one before is written, so its memory is that of a page.
type export struct {
	s      *Server
	conn   net.Conn
	filter trade.Filter
	today  trade.Date
	csv    bool
	log    string    // correlation id
	until  time.Time // when it is cut

	left   []byte // that is not written yet
	page   []byte // the room of left
	next   trade.Key
	ended  bool // nothing is left to fetch
	closed sync.Once
}

// Read gives what is left of the page, or fetches the next one. An error other than io.EOF cuts the connection.
func (e *export) Read(p []byte) (int, error) {
	for len(e.left) == 0 {
		if e.ended {
			return 0, io.EOF
		}
		if err := e.fetch(); err != nil {
			e.s.failures.Warn().Err(err).Str("correlation_id", e.log).Msg("cannot finish an export")
			return 0, err
		}
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

// fetch reads a page, and gives the client another write-timeout to take it. A drain does not wait for exports.
func (e *export) fetch() error {
	switch {
	case time.Now().After(e.until):
		return errExportLate
	case e.s.draining.Load():
		return errDraining
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.s.cfg.StoreTimeout)
	defer cancel()
	trades, next, err := e.s.trades.List(ctx, e.filter, e.next, exportPage)
	if err != nil {
		return err
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
	return e.conn.SetWriteDeadline(time.Now().Add(e.s.cfg.WriteTimeout))
}

// Close makes room for another export. The server calls it whatever became of the answer.
func (e *export) Close() error {
	e.closed.Do(e.s.exports.release)
	return nil
}

// appendCSV writes one line (RFC 4180). Nothing needs quotes, and nothing is a formula to a spreadsheet: what is stored
// passed the decoder, whose identifiers hold letters, digits, ".", "_" and "-", and begin with one of the first two.
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
