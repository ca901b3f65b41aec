package loadtest

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade"
)

func TestResultsKeepTheOrderOfOperations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seqs := rapid.SliceOfNDistinct(rapid.Uint64Max(5*pageSize), 0, 50, rapid.ID).Draw(t, "seqs")
		r := NewResults(time.Now())
		for _, seq := range seqs {
			r.Add(Result{Seq: seq, Done: time.Duration(seq)})
			got, ok := r.Get(seq)
			require.True(t, ok)
			require.Equal(t, time.Duration(seq), got.Done)
		}
		slices.Sort(seqs)
		i := 0
		for result := range r.All() {
			require.Equal(t, seqs[i], result.Seq)
			i++
		}
		require.Equal(t, len(seqs), i)
		for range r.All() {
			break // stops where it is told
		}
		_, ok := r.Get(6 * pageSize)
		require.False(t, ok)
		_, there := slices.BinarySearch(seqs, 77)
		_, ok = r.Get(77)
		require.Equal(t, there, ok)
	})
}

// Readers that look while results are added see whole results only.
func TestResultsAtOnce(t *testing.T) {
	const n, writers = 3 * pageSize, 4
	r := NewResults(time.Now())
	var wg sync.WaitGroup
	for w := range uint64(writers) {
		wg.Go(func() {
			for seq := w; seq < n; seq += writers {
				r.Sending()
				id := trade.RequestID{0: 1, 15: byte(seq)}
				r.Add(Result{Seq: seq, Status: 202, Request: id})
				if got, ok := r.Request(seq); !ok || got != id {
					t.Errorf("request of %d: %v %v", seq, got, ok)
				}
			}
		})
	}
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for c := r.Count(); c.Answered < n; c = r.Count() {
			for result := range r.All() {
				if result.Request[15] != byte(result.Seq) {
					t.Errorf("half a result: %+v", result)
				}
			}
		}
	})
	wg.Wait()
	<-stop
	c := r.Count()
	require.Equal(t, []uint64{n, n, n, 0, 0}, []uint64{c.Sent, c.Answered, c.Accepted, c.InFlight, c.Errors})
}

func TestRequestToRead(t *testing.T) {
	r := NewResults(time.Now())
	f := func(of uint64, want byte, known bool) {
		t.Helper()
		id, ok := r.Request(of)
		require.Equal(t, known, ok)
		require.Equal(t, want, id[0])
	}
	f(0, 0, false)
	r.Add(Result{Seq: 0, Status: 503, Request: trade.RequestID{9}})
	f(0, 0, false)
	r.Add(Result{Seq: 5, Status: 202, Request: trade.RequestID{5}})
	f(0, 5, true) // it has none that can be read for certain: another one
	r.Add(Result{Seq: 3, Status: 202, Request: trade.RequestID{3}})
	f(5, 5, true)
	f(3, 3, true)
	f(1e12, 3, true)
}

func TestCountsOfTheLastSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewResults(time.Now())
		require.Equal(t, Counts{Status: map[uint16]uint64{}}, r.Count())
		seq := uint64(0)
		add := func(n int, status uint16, took time.Duration) {
			for range n {
				r.Sending()
				r.Add(Result{Seq: seq, Status: status, Done: took})
				seq++
			}
		}
		r.Sending() // and no answer yet
		time.Sleep(500 * time.Millisecond)
		add(99, 202, time.Millisecond)
		add(1, 202, time.Second)
		c := r.Count()
		require.EqualValues(t, 101, c.Sent)
		require.EqualValues(t, 1, c.InFlight)
		require.InDelta(t, 202, c.SentPerSecond, 1e-9)
		require.InDelta(t, 200, c.AcceptedPerSecond, 1e-9)
		require.InEpsilon(t, time.Millisecond, c.P50, 0.04)
		require.InEpsilon(t, time.Millisecond, c.P99, 0.04)

		time.Sleep(time.Second)
		add(10, 503, time.Minute)
		add(10, 0, time.Minute)
		add(10, 999, time.Minute)
		add(10, 400, time.Minute)
		add(8, 202, 2*time.Millisecond)
		add(2, 202, 2*time.Second)
		c = r.Count()
		require.Equal(t, map[uint16]uint64{202: 110, 503: 10, 400: 10, 0: 20}, c.Status)
		require.EqualValues(t, 30, c.Errors)
		require.InDelta(t, 50, c.SentPerSecond, 1e-9)
		require.InDelta(t, 10, c.AcceptedPerSecond, 1e-9)
		require.InEpsilon(t, 2*time.Millisecond, c.P50, 0.04)
		require.InEpsilon(t, 2*time.Second, c.P99, 0.04)

		for range 30 { // asked often, it still looks back a second
			time.Sleep(100 * time.Millisecond)
			add(100, 202, 3*time.Millisecond)
			c = r.Count()
		}
		require.InDelta(t, 1000, c.SentPerSecond, 1e-6)
		require.InEpsilon(t, 3*time.Millisecond, c.P99, 0.04)
		require.LessOrEqual(t, len(r.live.marks), 12)
		time.Sleep(time.Minute)
		require.Zero(t, r.Count().AcceptedPerSecond)
		time.Sleep(time.Second)
		require.Zero(t, r.Count().P99)
	})
}

// A bucket holds what lies up to its bound and above that of the bucket before it, within 1/32 of it.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(19*time.Hour)).Draw(t, "d"))
		if rapid.Bool().Draw(t, "short") {
			d %= 10 * time.Millisecond
		}
		b := bucket(d)
		require.Less(t, d, bound(b))
		if b > 0 {
			require.GreaterOrEqual(t, d, bound(b-1))
			require.LessOrEqual(t, bound(b)-bound(b-1), max(time.Microsecond, bound(b-1)/32))
		}
	})
	require.Zero(t, bucket(-time.Second))
	require.Equal(t, buckets-1, bucket(1<<62))
}

func BenchmarkResultsAdd(b *testing.B) {
	r := NewResults(time.Now())
	for i := 0; b.Loop(); i++ {
		r.Sending()
		r.Add(Result{Seq: uint64(i % (1 << 20)), Status: 202, Done: time.Millisecond})
	}
}
