package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/kafka"
	"tradestore/trade"
)

const (
	mediaEvents    = "text/event-stream"
	reconnectAfter = "1000" // milliseconds that a browser waits before it reconnects
)

// events is one open stream of server-sent events (WHATWG HTML, section 9.2).
type events struct {
	srv  *Server
	conn *conn // nil in tests without a connection
	w    *bufio.Writer
	buf  []byte
}

// getRequestEvents answers GET /api/v1/requests/{request_id}/events: "pending" unless the request has ended, then its
// outcome, then the end of the stream. The id of an event is its type, so a client that reconnects misses no event and
// gets none twice. A client that knows the outcome gets 204, which tells a browser to stop.
func (s *Server) getRequestEvents(c *call, _ query) {
	state, ok := s.requested(c)
	if !ok {
		return
	}
	last := c.head.lastEventID
	switch last {
	case "", eventType(trade.Pending):
	case eventType(trade.Success), eventType(trade.Failed):
		c.ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	default:
		c.refuse(badEventID)
		return
	}
	s.stream(c, func(e *events) {
		if !state.Status.Terminal() {
			if last == "" && !e.state(eventType(state.Status), &state) {
				return
			}
			w := s.outcomes.enter(state.ID)
			defer s.outcomes.leave(w)
			if !await(e, w.ended, func() {}, func(ended trade.RequestState) bool { state = ended; return false }) {
				return
			}
		}
		e.state(eventType(state.Status), &state)
	})
}

var errNoPosition = errors.New("the store has no position of the partition of the trade")

// badEventID refuses a Last-Event-ID that this stream has not sent.
var badEventID = problem{code: InvalidCursor, detail: "Last-Event-ID: the id of an event of this stream, or none; " +
	"positions of the current and the previous topic are known"}

// getTradeEvents answers GET /api/v1/events?trade_id=: the outcomes of all requests of a trade in the order of the log,
// from now on, or from Last-Event-ID on if the journal still has it. An id is the position behind its event.
func (s *Server) getTradeEvents(c *call, q query) {
	tradeID := q[paramTradeID]
	if !isTradeID(tradeID) {
		const detail = "trade_id: required, 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
		c.refuse(problem{code: InvalidQuery, detail: detail})
		return
	}
	c.tradeID = tradeID
	ctx, cancel := s.storeContext()
	defer cancel()
	at, err := s.positionOf(ctx, tradeID)
	if err != nil {
		c.refuseRead(err, "")
		return
	}
	f := &follower{tradeID: tradeID, at: at, current: at, news: make(chan []trade.Decision, 1)}
	f.current.NextOffset = 0
	if c.head.lastEventID != "" {
		from, ok := parsePosition(c.head.lastEventID, tradeID)
		if !ok || !resumable(&from, &at) {
			c.refuse(badEventID)
			return
		}
		f.at = from
	}
	s.stream(c, func(e *events) {
		e.id(positionID(&f.at, tradeID)) // a client that is cut before the first event goes on from here
		_, _ = e.w.WriteString("\n")
		if !e.flush() {
			return
		}
		s.follower.enter(f) // from here on journalFollower owns the position
		defer s.follower.leave(f)
		await(e, f.news, func() {
			if at := s.follower.position(f); len(f.news) == 0 { // all rows before it are written, or are of other trades
				e.id(positionID(&at, tradeID))
			}
		}, func(news []trade.Decision) bool {
			for i := range news {
				row := &news[i]
				behind := trade.Position{Generation: row.Generation, Partition: row.Partition, NextOffset: row.Offset + 1}
				if !e.state(string(positionID(&behind, tradeID)), &row.RequestState) {
					return false
				}
			}
			notify(s.follower.joined)
			return true
		})
	})
}

// resumable says whether a stream can go on from a position, when the partition of the trade is applied up to current.
func resumable(from, current *trade.Position) bool {
	if from.Generation == current.Generation {
		return from.Partition == current.Partition && from.NextOffset <= current.NextOffset
	}
	return from.Generation == current.Generation-1
}

// positionOf returns how far the partition of a trade is applied.
func (s *Server) positionOf(ctx context.Context, tradeID string) (trade.Position, error) {
	positions, err := s.journal.Positions(ctx)
	if err != nil {
		return trade.Position{}, err
	}
	partition := kafka.Partition(tradeID, s.cfg.Partitions)
	for _, p := range positions {
		if p.Partition == partition {
			return trade.Position{Generation: p.Generation, Partition: p.Partition, NextOffset: p.NextOffset}, nil
		}
	}
	return trade.Position{}, errNoPosition
}

// stream answers with what write writes, and closes the connection when write returns. Each write has WriteTimeout: a
// client that reads too slowly is cut, and goes on with Last-Event-ID.
func (s *Server) stream(c *call, write func(*events)) {
	if !s.streams.acquire() {
		c.refuse(problem{code: TooManyStreams, detail: fmt.Sprintf("at most %d streams of events at once", s.cfg.MaxStreams)})
		return
	}
	c.ctx.SetContentType(mediaEvents)
	if c.ctx.IsHead() {
		s.streams.release()
		return
	}
	c.ctx.SetConnectionClose()
	e := &events{srv: s}
	if open, ok := c.ctx.Conn().(*conn); ok {
		e.conn = open
		open.writeLimit.Store(int64(s.cfg.WriteTimeout))
	}
	c.ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
		defer s.streams.release()
		defer func() {
			if cause := recover(); cause != nil {
				s.observe.panicked()
				s.panics.Error().Interface("panic", cause).Bytes("stack", debug.Stack()).Msg("panic in a stream of events")
			}
		}()
		e.w = w
		_, _ = w.WriteString("retry: " + reconnectAfter + "\n\n")
		if e.flush() {
			write(e)
		}
	})
}

// await calls each with what comes on news until each returns false; then it returns true. It returns false in a drain
// and when the client is gone. Comments keep the connection alive meanwhile; mark may add to each.
func await[T any](e *events, news <-chan T, mark func(), each func(T) bool) bool {
	beat := time.NewTicker(e.srv.cfg.heartbeat)
	defer beat.Stop()
	check := time.NewTicker(peerCheck)
	defer check.Stop()
	for {
		select {
		case n := <-news:
			if !each(n) {
				return true
			}
		case <-beat.C:
			_, _ = e.w.WriteString(":\n")
			mark()
			_, _ = e.w.WriteString("\n")
			if !e.flush() {
				return false
			}
		case <-check.C:
			if e.conn != nil && e.conn.peerClosed() {
				return false
			}
		case <-e.srv.waitsOver:
			return false
		}
	}
}

// id sends an id without an event. The client takes it over with the next empty line.
func (e *events) id(id []byte) {
	_, _ = e.w.WriteString("id: ")
	_, _ = e.w.Write(id)
	_, _ = e.w.WriteString("\n")
}

// state writes one event and says whether the client can be written to.
func (e *events) state(id string, state *trade.RequestState) bool {
	e.buf = append(append(append(e.buf[:0], "event: "...), eventType(state.Status)...), "\nid: "...)
	e.buf = append(append(e.buf, id...), "\ndata: "...)
	e.buf = append(appendState(e.buf, state), "}\n\n"...)
	_, _ = e.w.Write(e.buf)
	e.srv.m.events.Inc()
	return e.flush()
}

func (e *events) flush() bool { return e.w.Flush() == nil }

func eventType(s trade.Status) string { return strings.ToLower(string(s)) }

// positionID returns a position in the journal as the id of an event of the trade.
func positionID(p *trade.Position, tradeID string) []byte {
	var room [16]byte
	raw := binary.BigEndian.AppendUint32(room[:0], uint32(p.Generation))
	raw = binary.BigEndian.AppendUint32(raw, uint32(p.Partition))
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.NextOffset))
	return appendCursor(nil, cursorOfEvents, tradeID, raw)
}

// parsePosition parses what positionID wrote for the same trade, and nothing else.
func parsePosition(s, tradeID string) (p trade.Position, ok bool) {
	raw, err := parseCursor(s, cursorOfEvents, tradeID)
	if err != nil || len(raw) != 16 {
		return p, false
	}
	p.Generation, p.Partition = int32(binary.BigEndian.Uint32(raw)), int32(binary.BigEndian.Uint32(raw[4:]))
	p.NextOffset = int64(binary.BigEndian.Uint64(raw[8:]))
	return p, p.Generation > 0 && p.Partition >= 0 && p.NextOffset >= 0
}
