package loadtest

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// Finality is the time from one accepted request to its outcome.
type Finality struct {
	Seq   uint64
	Final time.Duration // from the due time to the read that showed the outcome, or to the last read if none did
	State State         // shown by that read
}

const (
	followTick     = 2 * time.Millisecond // between two passes over the results
	minFollowPause = 5 * time.Millisecond // after the 202 was noticed, and the shortest pause between two reads
	maxFollowPause = time.Second          // the longest one
	maxFollowed    = 128                  // requests followed at once; further samples are missed
)

// Follower polls a sample of the accepted requests until their outcome. It reads young requests often and old ones less
// often: a time is at most an eighth too long and never too short, and polling does not make a backlog longer.
type Follower struct {
	api     *API
	plan    *Plan
	results *Results

	stopSampling chan struct{} // closed when sampling ends
	cancel       context.CancelFunc
	ctx          context.Context // ends when Wait gives up
	running      sync.WaitGroup  // the sample loop and the followers
	slots        chan struct{}   // one for each follower

	mu       sync.Mutex // protects what follows
	finished []Finality
	missed   uint64
}

// Follow starts to follow perSecond of the operations that must be accepted. It chooses them before they are sent, so
// slow ones are as likely as fast ones. It ends with Wait or with ctx.
func Follow(ctx context.Context, api *API, p *Plan, into *Results, perSecond float64) *Follower {
	f := &Follower{api: api, plan: p, results: into, stopSampling: make(chan struct{}),
		slots: make(chan struct{}, maxFollowed)}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.running.Go(func() { f.sampleLoop(perSecond) })
	return f
}

// Wait ends the sampling and waits up to limit for the outcomes. It returns all samples by number, also those without
// an outcome. missed counts samples that were not followed because too many were followed already.
func (f *Follower) Wait(limit time.Duration) (ended []Finality, missed uint64) {
	close(f.stopSampling)
	patience := time.AfterFunc(limit, f.cancel)
	defer patience.Stop()
	f.running.Wait()
	f.cancel()
	f.mu.Lock()
	defer f.mu.Unlock()
	slices.SortFunc(f.finished, func(a, b Finality) int { return cmp.Compare(a.Seq, b.Seq) })
	return f.finished, f.missed
}

// sampleLoop picks operations that are about to be sent, and starts to follow each when it is accepted.
func (f *Follower) sampleLoop(perSecond float64) {
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	var chosen []uint64    // not answered yet
	var sent, ahead uint64 // at the last choice: sent, and the end of what was chosen from
	due, last := 0.0, time.Now()
	for {
		select {
		case <-tick.C:
		case <-f.ctx.Done():
			return
		case <-f.stopSampling:
			f.followAccepted(chosen)
			return
		}
		now := time.Now()
		due += perSecond * now.Sub(last).Seconds()
		last = now
		next := f.results.live.sent.Load() // it expects as many until the next choice as since the last
		if from, to := max(next, ahead), 2*next-sent; due >= 1 && from < to {
			chosen = f.sample(chosen, from, to, min(uint64(due), to-from))
			due, sent, ahead = due-float64(uint64(due)), next, to
		}
		chosen = f.followAccepted(chosen)
	}
}

// sample appends one of each n-th part of the operations from begin to before end: one that has to be accepted.
func (f *Follower) sample(chosen []uint64, begin, end, n uint64) []uint64 {
	for i := range n {
		from, to := begin+(end-begin)*i/n, begin+(end-begin)*(i+1)/n
		at, _ := bits.Mul64(scramble(from), to-from)
		for j := range to - from {
			seq := from + (at+j)%(to-from)
			if k := f.plan.Kind(seq); k == New || k == Higher || k == Replace {
				chosen = append(chosen, seq)
				break
			}
		}
	}
	return chosen
}

// followAccepted starts to follow the accepted ones and returns those without an answer yet.
func (f *Follower) followAccepted(chosen []uint64) []uint64 {
	return slices.DeleteFunc(chosen, func(seq uint64) bool {
		result, ok := f.results.Get(seq)
		if !ok {
			return false
		}
		if result.Verdict() == Accepted && !result.Request.IsZero() {
			select {
			case f.slots <- struct{}{}:
				f.running.Go(func() { f.follow(&result); <-f.slots })
			default:
				f.mu.Lock()
				f.missed++
				f.mu.Unlock()
			}
		}
		return true
	})
}

// follow polls a request until its outcome, or until Wait gives up.
func (f *Follower) follow(result *Result) {
	it := Finality{Seq: result.Seq}
	for wait := minFollowPause; Sleep(f.ctx, wait); {
		s, _, asked, err := f.api.describe(f.ctx, result.Request)
		if err == nil {
			it.State = s // of a 404 the zero value: Reconcile tells what that means
		}
		if it.State.Status.Terminal() {
			break
		}
		age := f.results.Now() - result.Done
		wait = max(minFollowPause, min(age/8, maxFollowPause), asked)
	}
	it.Final = f.results.Now() - result.Due
	f.mu.Lock()
	defer f.mu.Unlock()
	f.finished = append(f.finished, it)
}
