package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// farFuture is a maturity that no run of the tests sees pass.
var farFuture = mustDate("2099-12-31")

func mustDate(s string) trade.Date {
	d, ok := trade.ParseDate(s)
	if !ok {
		panic("not a date: " + s)
	}
	return d
}

// newTrade returns a good trade that no other post of the ledger equals.
func (l *Ledger) newTrade(id string, version int32) trade.Trade {
	return trade.Trade{TradeID: id, Version: version, CounterpartyID: l.Tag(), BookID: "B-1", MaturityDate: farFuture,
		CreatedDate: mustDate("2026-01-15")}
}

// load is many clients that post at once, each one post after the other.
type load struct {
	clients int
	posts   int64  // in total, without a pause; 0: until the context ends, with short ones, to spare the machine
	hot     int    // trade ids that all clients fight for; half of the posts go to them, the other half to new ones
	seed    uint64 // logged, for running the same mix again
}

// background starts the load and returns a function that ends it and waits for the clients.
func (s *deployment) background(t *testing.T, l load) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.run(ctx, t, l)
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// run posts until the load is through or ctx ends. A post under way is never cut off by ctx: its answer counts.
func (s *deployment) run(ctx context.Context, t *testing.T, l load) {
	t.Helper()
	if l.seed == 0 {
		l.seed = rand.Uint64()
	}
	t.Logf("load: %d clients, seed %d", l.clients, l.seed)
	var posted atomic.Int64
	var clients sync.WaitGroup
	for c := range l.clients {
		clients.Go(func() {
			dice := rand.New(rand.NewPCG(l.seed, uint64(c)))
			for ctx.Err() == nil && (l.posts == 0 || posted.Add(1) <= l.posts) {
				s.postOne(ctx, t, l, dice)
			}
		})
	}
	clients.Wait()
}

// postOne posts one trade and often reads its status at once: a 404 right after a 202 looks like loss (P5).
func (s *deployment) postOne(ctx context.Context, t *testing.T, l load, dice *rand.Rand) {
	t.Helper()
	tr := s.ledger.newTrade(fmt.Sprintf("HOT-%03d", dice.IntN(l.hot)), dice.Int32N(20)+1)
	if dice.IntN(2) == 0 {
		tr.TradeID, tr.Version = "T-"+tr.CounterpartyID, 1
	}
	p := s.client.Submit(context.WithoutCancel(ctx), tr)
	switch {
	case p.Status == 0 || p.Status == http.StatusServiceUnavailable: // down or full: a client that behaves stands back
		pause(ctx, dice, 200*time.Millisecond)
	case p.Verdict() == Accepted && dice.IntN(8) == 0:
		_, found, err := s.client.Status(context.WithoutCancel(ctx), p.RequestID)
		if err == nil && !found {
			t.Errorf("request %s was answered 202, GET answers 404", p.RequestID)
		}
		if err != nil && !errors.Is(err, ErrNoAnswer) {
			t.Logf("status read while the stack was disturbed: %v", err)
		}
	}
	if l.posts == 0 {
		pause(ctx, dice, 30*time.Millisecond)
	}
}

// pause waits for a random time of up to the longest given, or until ctx ends.
func pause(ctx context.Context, dice *rand.Rand, longest time.Duration) {
	select {
	case <-time.After(time.Duration(dice.Int64N(int64(longest)))):
	case <-ctx.Done():
	}
}

// accepted waits until n more posts than at the call have been answered 202.
func (s *deployment) accepted(t *testing.T, n int) {
	t.Helper()
	want := s.ledger.Count()[http.StatusAccepted] + n
	require.True(t, poll(t, drainLimit, func() bool { return s.ledger.Count()[http.StatusAccepted] >= want }),
		"posts are no longer accepted: %v", s.ledger.Count())
}
