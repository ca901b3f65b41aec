package loadtest

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// followed sends n operations while they are followed; the rate of samples is so high that nearly each is one.
func followed(t *testing.T, s *tinyStore, n uint64) (*Follower, *Plan, *Results) {
	t.Helper()
	api := NewAPI(s.url, 4, 5*time.Second)
	t.Cleanup(api.Close)
	plan, results := NewPlan("follow", 3, DefaultMix, 40, 0), NewResults(time.Now())
	f := Follow(t.Context(), api, plan, results, 1e6)
	s.send(plan, results, 0, n)
	return f, plan, results
}

func TestFollowShowsTheEnd(t *testing.T) {
	s := newStore(t)
	f, _, results := followed(t, s, 400)
	ended, missed := f.Wait(time.Minute)
	require.NotEmpty(t, ended)
	require.LessOrEqual(t, uint64(len(ended))+missed, results.Count().Accepted)
	for i, it := range ended {
		result, ok := results.Get(it.Seq)
		require.True(t, ok)
		require.EqualValues(t, http.StatusAccepted, result.Status)
		require.Equal(t, s.requests[result.Request].shown.status, it.State.Status)
		require.Greater(t, it.Final, result.Latency(), "the first look comes after the answer")
		if i > 0 {
			require.Greater(t, it.Seq, ended[i-1].Seq)
		}
	}
}

// What does not end is in the sample all the same, with the time that it was waited for.
func TestFollowCountsWhatDoesNotEnd(t *testing.T) {
	s := newStore(t)
	s.waits = true
	f, _, results := followed(t, s, 400)
	ended, missed := f.Wait(50 * time.Millisecond)
	require.NotEmpty(t, ended)
	require.LessOrEqual(t, len(ended), maxFollowed)
	require.LessOrEqual(t, uint64(len(ended))+missed, results.Count().Accepted)
	for _, it := range ended {
		require.Contains(t, []trade.Status{trade.Pending, ""}, it.State.Status) // "" if there was no time for a look
		require.Positive(t, it.Final)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	api := NewAPI(s.url, 4, 5*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	f := Follow(ctx, api, NewPlan("follow", 3, DefaultMix, 40, 0), NewResults(time.Now()), 50)
	cancel()
	ended, missed := f.Wait(time.Hour)
	require.Empty(t, ended)
	require.Zero(t, missed)
}

// The sample is spread evenly over the operations to come, and has only such as must be accepted.
func TestSampleIsEven(t *testing.T) {
	f := &Follower{plan: NewPlan("follow", 3, DefaultMix, 40, 0)}
	const span, parts = 10_000, 100
	chosen := f.sample(nil, 5000, 5000+span, parts)
	require.Len(t, chosen, parts)
	for i, seq := range chosen {
		require.GreaterOrEqual(t, seq, uint64(5000+i*span/parts))
		require.Less(t, seq, uint64(5000+(i+1)*span/parts))
		require.Contains(t, []Kind{New, Higher, Replace}, f.plan.Kind(seq))
	}
	require.Empty(t, f.sample(nil, 0, 0, 0))
	reads := &Follower{plan: NewPlan("follow", 3, Mix{Bad: 1}, 40, 0)}
	require.Empty(t, reads.sample(nil, 0, 100, 10), "nothing in it is to be accepted")
}
