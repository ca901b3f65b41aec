package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"runtime/debug"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"tradestore/kafka"
	"tradestore/trade"
)

const (
	mediaEvents    = "text/event-stream"
	reconnectAfter = "1000" // milliseconds: what a browser waits before it opens a stream anew
)

// events is one open stream of server-sent events (WHATWG HTML, section 9.2).
type events struct {
	srv  *Server
	conn *conn // nil in tests that have none
	w    *bufio.Writer
	line []byte
}

// getRequestEvents answers GET /api/v1/requests/{request_id}/events: pending unless it has ended, then its end, and the
// stream ends. The id of an event is its type, so a client that reconnects misses nothing and is told nothing twice; one
// that knows the end gets 204, which tells a browser to stop.
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
			if !await(e, w.ended, func() {}, func(end trade.RequestState) bool { state = end; return false }) {
				return
			}
		}
		e.state(eventType(state.Status), &state)
	})
}

var errNoPosition = errors.New("the store has no position of the partition of the trade")

// badEventID refuses a Last-Event-ID that this stream has not sent.
var badEventID = problem{code: InvalidCursor, detail: "Last-Event-ID: the id of an event of this very stream, or none; positions before the last change of the topic but one are forgotten"}

// getTradeEvents answers GET /api/v1/events?trade_id=: the outcomes of all requests of a trade from now on, or from
// Last-Event-ID on as far as the journal reaches, in the order of the log. An id is the position behind its event.
func (s *Server) getTradeEvents(c *call, q query) {
	tradeID := q[paramTradeID]
	if !isTradeID(tradeID) {
		c.refuse(problem{code: InvalidQuery, detail: "trade_id: required, 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"})
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
		now := from.Generation == at.Generation
		if !ok || now && (from.Partition != at.Partition || from.NextOffset > at.NextOffset) || !now && from.Generation != at.Generation-1 {
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
		s.follower.enter(f) // from here on the position is the tail's
		defer s.follower.leave(f)
		await(e, f.news, func() {
			if at := s.follower.position(f); len(f.news) == 0 { // all before it is written, or was of other trades
				e.id(positionID(&at, tradeID))
			}
		}, func(news []trade.Decision) bool {
			for i := range news {
				o := &news[i]
				behind := trade.Position{Generation: o.Generation, Partition: o.Partition, NextOffset: o.Offset + 1}
				if !e.state(string(positionID(&behind, tradeID)), &o.RequestState) {
					return false
				}
			}
			notify(s.follower.arrived)
			return true
		})
	})
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

// stream answers with what write writes until it returns, and closes the connection then. Each write has the time limit of
// an answer: a client that reads too slowly is cut, and goes on with Last-Event-ID.
func (s *Server) stream(c *call, write func(*events)) {
	if !s.streams.acquire() {
		c.refuse(problem{code: TooManyStreams, detail: "the setting max-streams limits open streams"})
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
				s.m.panics.Inc()
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

// await hands to each what comes on news until each returns false, and says whether that was how it ended. The other
// ends are a drain and a client that is gone. Meanwhile comments keep the connection alive; before each, mark may add to it.
func await[T any](e *events, news <-chan T, mark func(), each func(T) bool) bool {
	beat := time.NewTicker(e.srv.cfg.heartbeat)
	defer beat.Stop()
	look := time.NewTicker(peerCheck)
	defer look.Stop()
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
		case <-look.C:
			if e.conn != nil && e.conn.peerClosed() {
				return false
			}
		case <-e.srv.outcomes.closed:
			return false
		}
	}
}

// id tells the client where it is, with no event; it counts from the next empty line on.
func (e *events) id(id []byte) {
	_, _ = e.w.WriteString("id: ")
	_, _ = e.w.Write(id)
	_, _ = e.w.WriteString("\n")
}

// state writes one event and says whether the client can be written to.
func (e *events) state(id string, state *trade.RequestState) bool {
	e.line = append(append(append(e.line[:0], "event: "...), eventType(state.Status)...), "\nid: "...)
	e.line = append(append(e.line, id...), "\ndata: "...)
	e.line = append(appendState(e.line, state), "}\n\n"...)
	_, _ = e.w.Write(e.line)
	e.srv.m.events.Inc()
	return e.flush()
}

func (e *events) flush() bool {
	return e.w.Flush() == nil
}

func eventType(s trade.Status) string { return strings.ToLower(string(s)) }

// positionID returns a position in the journal as the id of an event of the trade.
func positionID(p *trade.Position, tradeID string) []byte {
	var room [16]byte
	raw := binary.BigEndian.AppendUint32(room[:0], uint32(p.Generation))
	raw = binary.BigEndian.AppendUint32(raw, uint32(p.Partition))
	raw = binary.BigEndian.AppendUint64(raw, uint64(p.NextOffset))
	return appendCursor(nil, cursorOfEvents, tradeID, raw)
}

// parsePosition reads what positionID wrote for the same trade, and nothing else.
func parsePosition(s, tradeID string) (p trade.Position, ok bool) {
	raw, err := parseCursor(s, cursorOfEvents, tradeID)
	if err != nil || len(raw) != 16 {
		return p, false
	}
	p.Generation, p.Partition = int32(binary.BigEndian.Uint32(raw)), int32(binary.BigEndian.Uint32(raw[4:]))
	p.NextOffset = int64(binary.BigEndian.Uint64(raw[8:]))
	return p, p.Generation > 0 && p.Partition >= 0 && p.NextOffset >= 0
}
