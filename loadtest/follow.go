package loadtest

import (
	"cmp"
	"context"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// Finality is how long one accepted request took to end.
type Finality struct {
	Seq   uint64
	Final time.Duration // from when it was due to the first look that showed its end; to the last look while State is not terminal
	State State         // shown by that look
}

const (
	followTick     = 2 * time.Millisecond // between two looks at the results
	minFollowPause = 5 * time.Millisecond // after the 202 was noticed, and the shortest pause between two looks
	maxFollowPause = time.Second          // the longest one
	maxFollowed    = 128                  // requests that are followed at once; beyond them a sample is missed
)

// Follower follows a sample of what is accepted to its end. It looks often at a young request and ever less often at an old
// one, so a time is up to an eighth too long, never too short, and a backlog is not made longer by asking about it.
type Follower struct {
	api     *API
	plan    *Plan
	results *Results

	stopSampling chan struct{} // closed when no more samples are chosen
	cancel       context.CancelFunc
	ctx          context.Context // ends with the patience of those who look
	running      sync.WaitGroup  // the one who chooses, and those who look
	slots        chan struct{}   // one for each who looks

	mu       sync.Mutex // protects what follows
	finished []Finality
	missed   uint64
}

// Follow starts following perSecond of the operations that are to be accepted, chosen before they are sent, so that slow
// ones are as likely to be chosen as fast ones. It ends with Wait, or with ctx.
func Follow(ctx context.Context, api *API, p *Plan, into *Results, perSecond float64) *Follower {
	f := &Follower{api: api, plan: p, results: into, stopSampling: make(chan struct{}), slots: make(chan struct{}, maxFollowed)}
	f.ctx, f.cancel = context.WithCancel(ctx)
	f.running.Go(func() { f.sampleLoop(perSecond) })
	return f
}

// Wait chooses no more samples, and waits until those chosen have ended, for limit at most. It returns them by their
// numbers; those that did not end are among them. Missed is how many could not be followed because too many were.
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

// choose picks operations that are about to be sent, and starts following each when it has been accepted.
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
		next := f.results.live.sent.Load() // so many come until the next choice as came since the last one
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

// pick starts following those of the chosen that have been accepted, and returns those that have no answer yet.
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

// follow looks at a request until it has ended, or patience has.
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
