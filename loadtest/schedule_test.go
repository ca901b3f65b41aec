package loadtest

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	vegeta "github.com/tsenart/vegeta/v12/lib"
	"pgregory.net/rapid"
)

var _ vegeta.Pacer = Schedule{}

func TestParseStages(t *testing.T) {
	f := func(text string, want ...Stage) {
		t.Helper()
		stages, err := ParseStages(text)
		require.NoError(t, err)
		require.Equal(t, want, stages)
	}
	f("1000/30s", Stage{1000, 1000, 30 * time.Second})
	f("0.5/1m", Stage{0.5, 0.5, time.Minute})
	f("1000..2000/1m30s", Stage{1000, 2000, 90 * time.Second})
	f(" 10 / 1s , 10 .. 0 / 500ms,0/1s", Stage{10, 10, time.Second}, Stage{10, 0, 500 * time.Millisecond},
		Stage{0, 0, time.Second})
}

func TestParseStagesSaysWhatItWants(t *testing.T) {
	f := func(text, want string) {
		t.Helper()
		_, err := ParseStages(text)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, `like "1000/30s,1000..2000/30s"`)
	}
	f("", `stage "" has no duration`)
	f("1000", `stage "1000" has no duration`)
	f("1000/30s,", `stage "" has no duration`)
	f("fast/30s", `"fast" is no rate`)
	f("1..x/30s", `"1..x" is no rate`)
	f("-1/30s", `"-1" is no rate`)
	f("NaN/30s", `"NaN" is no rate`)
	f("inf/30s", `"inf" is no rate`)
	f("1000001/30s", `"1000001" is no rate, 0 to 1000000 per second`)
	f("1/30", `"30" is no duration`)
	f("1/0s", `"0s" is no duration`)
	f("1/-1s", `"-1s" is no duration`)
	f("1/25h", `"25h" is no duration up to 24h`)
	f("0/1s,0..0/1s", "send nothing")
}

func TestScheduleIsDueAtExactTimes(t *testing.T) {
	f := func(stages string, warmup time.Duration, seq uint64, want time.Duration) {
		t.Helper()
		require.Equal(t, want, schedule(t, stages, warmup).At(seq))
	}
	f("1000/60s", 0, 0, 0)
	f("1000/60s", 0, 1, time.Millisecond)
	f("1000/60s", 0, 59_999, 59_999*time.Millisecond)
	f("1000/60s", 0, 60_000, 60*time.Second)
	f("0.5/10s", 0, 4, 8*time.Second)
	f("100000/24h", 0, 8_639_999_999, 24*time.Hour-10*time.Microsecond)
	f("3/10s", 0, 1, 333_333_333)
	f("0..2/10s", 0, 1, 3_162_277_660)
	f("2..0/10s", 0, 9, 6_837_722_340)
	f("1000/1s,0/1s,1000/1s", 0, 999, 999*time.Millisecond)
	f("1000/1s,0/1s,1000/1s", 0, 1000, 2*time.Second)
	f("0/1s,10/1s", 0, 0, time.Second)
	f("10/1s", 2*time.Second, 16, 2*time.Second) // 5.5 in the first half, 10 in the second, and then a new one
	f("0..10/1s", 2*time.Second, 0, 2*time.Second)
}

func TestScheduleTotals(t *testing.T) {
	f := func(stages string, warmup time.Duration, total, warm uint64, length time.Duration, highest float64) {
		t.Helper()
		s := schedule(t, stages, warmup)
		ops, d := s.Warm()
		require.Equal(t, total, s.Total())
		require.Equal(t, warm, ops)
		require.Equal(t, warmup, d)
		require.Equal(t, length, s.Length())
		require.InDelta(t, highest, s.Max(), 0)
		require.Equal(t, stages, s.String())
	}
	f("1000/1m", 0, 60_000, 0, time.Minute, 1000)
	f("0.1/10s", 0, 1, 0, 10*time.Second, 0.1)
	f("0.1/1s,0.1/1s,0.1/1s,0.1/1s,0.1/1s,0.1/1s,0.1/1s,0.1/1s,0.1/1s,0.1/1s", 0, 1, 0, 10*time.Second, 0.1)
	f("0.5/3s", 0, 2, 0, 3*time.Second, 0.5)
	f("1000..2000/30s", 0, 45_000, 0, 30*time.Second, 2000)
	f("1000/1h0m10s", 5*time.Second, 3_610_000+1375+2500, 1375+2500, time.Hour+15*time.Second, 1000)
}

func TestScheduleRate(t *testing.T) {
	s := schedule(t, "100..200/10s,50/1h", 4*time.Second)
	f := func(at time.Duration, want float64) {
		t.Helper()
		require.InDelta(t, want, s.Rate(at), 1e-9)
	}
	f(-1, 0)
	f(0, 10)
	f(time.Second, 55)
	f(2*time.Second, 100)
	f(4*time.Second, 100)
	f(9*time.Second, 150)
	f(14*time.Second, 50)
	f(time.Hour+14*time.Second, 0)
}

// drawSchedule draws any schedule of up to some 10,000 operations.
func drawSchedule(t *rapid.T) Schedule {
	rate := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.01, 10), rapid.Float64Range(100, 100_000))
	stages := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Stage {
		stage := Stage{From: rate.Draw(t, "from"), To: rate.Draw(t, "to")}
		if rapid.Bool().Draw(t, "steady") {
			stage.To = stage.From
		}
		most := time.Duration(4000 / max(stage.From, stage.To, 1) * float64(time.Second))
		stage.For = time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(most)).Draw(t, "for"))
		return stage
	}), 1, 4).Draw(t, "stages")
	most := time.Duration(4000 / max(stages[0].From, 1) * float64(time.Second))
	warmup := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(int64(time.Millisecond), int64(most))).Draw(t, "warmup")
	return NewSchedule(time.Duration(warmup), stages)
}

func TestScheduleProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		warm, warmup := s.Warm()
		last := time.Duration(0)
		for seq := range s.Total() {
			at := s.At(seq)
			require.GreaterOrEqual(t, at, last, "operations are due in order")
			require.LessOrEqual(t, at, s.Length())
			if seq < warm {
				require.LessOrEqual(t, at, warmup)
			} else {
				require.GreaterOrEqual(t, at, warmup)
			}
			require.LessOrEqual(t, s.Before(at), seq)
			require.Greater(t, s.Before(at+1), seq)
			last = at
		}
	})
}

// The number of operations that are due by a time is the integral of the rate, taken here by adding up small steps.
func TestScheduleFollowsTheIntegral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		sum, from := 0.0, time.Duration(0)
		_, warmup := s.Warm()
		for _, p := range s.pieces {
			const steps = 64
			for i := range steps {
				to := p.begin + p.For*time.Duration(i+1)/steps
				if from == warmup {
					sum = math.Ceil(sum - tolerance) // the first stage begins with an operation of its own
				}
				sum += s.Rate(from+(to-from)/2) * (to - from).Seconds() // exact for straight lines, but for the nanosecond
				require.InDelta(t, sum, float64(s.Before(to)), 1.01)
				from = to
			}
		}
	})
}

// A sender that follows Pace sends each operation when it is due, never before, and stops at the end. Stalls are made
// up for at once, and move nothing that is due after them.
func TestPaceSendsEverythingDespiteStalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		stall := rapid.SliceOfN(rapid.Int64Range(0, int64(time.Second)), 1, 5).Draw(t, "stalls")
		now, hits := time.Duration(0), uint64(0)
		for {
			wait, stop := s.Pace(now, hits)
			if stop {
				break
			}
			late := now > s.At(hits)
			require.Equal(t, late || now == s.At(hits), wait == 0)
			now += wait
			if !late {
				require.Equal(t, s.At(hits), now)
			}
			hits++
			if hits%1000 == 0 {
				now += time.Duration(stall[hits/1000%uint64(len(stall))])
			}
		}
		require.Equal(t, s.Total(), hits)
	})
}

func TestStagesAreWrittenAsTheyAreRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSchedule(t)
		stages, err := ParseStages(s.String())
		if s.Max() == 0 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, s.stages, stages)
	})
	assert.Equal(t, "1/1h,1/1h5m,1/1m,1/10s,1/1h0m1s", schedule(t, "1/60m,1/65m,1/60s,1/10s,1/3601s", 0).String())
}

func schedule(t testing.TB, stages string, warmup time.Duration) Schedule {
	t.Helper()
	parsed, err := ParseStages(stages)
	require.NoError(t, err)
	return NewSchedule(warmup, parsed)
}

func BenchmarkScheduleAt(b *testing.B) {
	s := schedule(b, "1000..2000/30s,2000/60s,500/10s", 5*time.Second)
	for i := 0; b.Loop(); i++ {
		s.At(uint64(i) % s.Total())
	}
}
