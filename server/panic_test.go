package server

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"tradestore/trade"
)

// Wherever a panic strikes on the way of a trade, its client has an answer and its room is free (C7).
func TestAPanicLosesNoPost(t *testing.T) {
	f := func(name string, faulty func(*Server) (repair func())) {
		t.Run(name, func(t *testing.T) {
			a := start(t, func(cfg *Config, _ *Deps) { cfg.Flushes = 1 })
			repair := faulty(a.srv)
			a.post(tradeJSON("T1", 1)).problem(t, 500, Internal)
			eventually(t, func() bool { return a.srv.queue.snapshot() == queueLoad{} }, "its room is taken for ever")
			counted(t, 1, a.srv.m.panics)
			repair()
			a.post(tradeJSON("T2", 1)).accepted(t)
		})
	}
	f("before the look-up", func(s *Server) func() {
		sizes := s.m.batchSize
		s.m.batchSize = nil
		return func() { s.m.batchSize = sizes }
	})
	f("when it is opened", func(s *Server) func() {
		stores := s.requests.(*fake)
		stores.set(func() { stores.onOpen = func(context.Context, []*trade.Request) []error { panic("bug") } })
		return func() { stores.set(func() { stores.onOpen = nil }) }
	})
	f("between the hand-over and the producer", func(s *Server) func() {
		s.flusher.client = (*kgo.Client)(nil)
		return func() { s.flusher.client = s.kafka }
	})
	f("in the delivery callback", func(s *Server) func() {
		delivered := s.m.delivered
		s.m.delivered = nil
		return func() { s.m.delivered = delivered }
	})
}

// A panic while an export is read frees its slot, before the first byte and after it.
func TestAPanicLosesNoExport(t *testing.T) {
	t.Parallel()
	a, get := exported(t, func(cfg *Config, _ *Deps) { cfg.MaxExports = 1 })
	for page := range 3 {
		reads := 0
		a.stores.set(func() {
			a.stores.onList = func() error {
				if reads++; reads > page {
					panic("bug")
				}
				return nil
			}
		})
		resp := get(mediaCSV)
		if page == 0 {
			require.Equal(t, http.StatusInternalServerError, read(resp).status)
		} else {
			require.Error(t, read(resp).err, "a part must not look like the whole")
		}
		eventually(t, func() bool { return a.srv.exports.count() == 0 }, "the slot is taken for ever")
		counted(t, float64(page+1), a.srv.m.panics)
	}
	assert.Contains(t, a.log.String(), "panic in a handler")
	assert.Contains(t, a.log.String(), "panic in an export")
}
