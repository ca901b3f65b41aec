package loadtest

import (
	"math"
	"math/rand/v2"
	"time"
)

// sampleReport is a report with everything in it, of a load that lasts so many seconds.
func sampleReport(length int) *Report {
	rng := rand.New(rand.NewPCG(1, 2))
	about := func(v float64) float64 { return v * (0.8 + 0.4*rng.Float64()) }
	curve := func(p50, tail float64) Latency {
		at := func(q float64) float64 { return p50 * math.Pow(1/(1-q)/2, tail) }
		l := Latency{Count: 49_873, Mean: at(0.6), P50: at(0.5), P90: at(0.9), P95: at(0.95), P99: at(0.99), P999: at(0.999),
			Max: at(0.99998)}
		for _, q := range []float64{0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999} {
			l.Curve = append(l.Curve, Quant{q, at(q)})
		}
		l.Curve = append(l.Curve, Quant{1, l.Max})
		return l
	}
	r := &Report{
		Schema: 1, Verdict: Pass, Run: "k3m9q2", Seed: 8_731_224_991,
		Started: time.Date(2026, 11, 23, 3, 30, 12, 0, time.UTC), Took: 71.84,
		Target: "http://127.0.0.1:41873", Stack: "tradestore dev: embedded Kafka, PostgreSQL 16.13",
		Machine: Machine{Host: "bench-1", CPU: "AMD EPYC 9R14", Cores: 2, OS: "linux 6.1 amd64"},
		Build: Build{Version: "v0.5.0-12-g959c0fe", Commit: "959c0fe3a1b2c3d4e5f60718293a4b5c6d7e8f90", Go: "go1.26.8",
			Server: "v0.5.0-12-g959c0fe"},
		Settings: []Setting{{"rate", "1000"}, {"duration", "1m0s"}, {"warmup", "5s"},
			{"mix", "new=70,higher=5,replace=5,stale=3,past=1,bad=1,read-trade=10,read-request=5"}, {"seed", "0"},
			{"database-url", "postgres://tradestore:***@127.0.0.1:5432/tradestore"}, {"max-accept-p99", "100ms"},
			{"max-final-p99", "1s"}},
		Load: Load{Generator: "vegeta", Schedule: "1000/1m0s", Warmup: 5, Asked: 60_000, Sent: 60_000, Attained: 1,
			Rate: 999.98, Accepted: 831.2, Errors: 0, DelayP99: 0.00084, CPU: 0.31},
		Accept: curve(0.0031, 0.45), Sent: curve(0.0029, 0.43), Final: curve(0.021, 0.3),
		Answers: []KindAnswers{
			{"new", 42_110, 0, map[string]uint64{"202": 42_110}}, {"higher", 3_004, 0, map[string]uint64{"202": 3_004}},
			{"replace", 2_970, 0, map[string]uint64{"202": 2_970}}, {"stale", 1_790, 0,
				map[string]uint64{"400 STALE_VERSION": 1_788, "202": 2}},
			{"past", 611, 0, map[string]uint64{"400 MATURITY_IN_PAST": 611}},
			{"bad", 587, 0, map[string]uint64{"400 MALFORMED_JSON": 230, "400 INVALID_TRADE": 250, "413 BODY_TOO_LARGE": 57,
				"415 UNSUPPORTED_MEDIA_TYPE": 50}},
			{"read-trade", 5_960, 0, map[string]uint64{"200": 5_950, "404": 10}},
			{"read-request", 2_968, 0, map[string]uint64{"200": 2_968}},
		},
		Objectives: []Objective{
			{"accept p99", "--max-accept-p99", "100 ms", "18.0 ms", true},
			{"final status p99", "--max-final-p99", "1 s", "67.9 ms", true},
			{"errors", "--max-error-rate", "0.1 %", "0 %", true}, {"wrong answers", "", "0", "0", true},
			{"lost", "", "0", "0", true},
			{"doubled", "", "0", "0", true}, {"stuck", "", "0", "0", true}, {"rate attained", "", "99 %", "100 %", true},
		},
		Reconciliation: Reconciliation{By: "HTTP and SQL", Accepted: 52_006, Success: 51_998, Failed: 8, Rows: 48_770,
			Drain: 0.21, Took: 2.35},
	}
	series := map[string]*Series{}
	add := func(group, name, unit string, at, v float64) {
		if series[name] == nil {
			series[name] = &Series{Name: name, Group: group, Unit: unit}
		}
		series[name].Points = append(series[name].Points, Sample{at + rng.Float64()/10, v})
	}
	names := []string{"dev CPU", "PostgreSQL CPU", "generator CPU", "machine CPU", "dev memory", "PostgreSQL memory",
		"generator memory", "worker lag", "accept queue", "in flight"}
	for s := range length {
		at := float64(s)
		rate := min(1, (at+1)/5) * 1000
		r.Timeline = append(r.Timeline, Second{at, rate, rate, rate * 0.83, 0, about(0.003), about(0.018), about(0.06)})
		if s == length/2 && length > 10 {
			r.Timeline[s].Max, r.Timeline[s].P99 = 0.4, 0.21
		}
		for i, n := range names {
			switch {
			case i < 4:
				add("CPU", n, "cores", at, about([]float64{0.7, 0.4, 0.3, 1.5}[i]))
			case i < 7:
				add("Memory", n, "bytes", at, about([]float64{180e6, 320e6, 90e6}[i-4]))
			case i < 8:
				add("Lag", n, "records", at, float64(int(about(12))))
			default:
				add("Queue", n, "items", at, float64(int(about(4))))
			}
		}
	}
	for _, n := range names {
		if s := series[n]; s != nil {
			r.Series = append(r.Series, *s)
		}
	}
	return r
}

// sampleCapacity is the result of a search.
func sampleCapacity() *Capacity {
	cpu := func(f float64) []Usage {
		return []Usage{{"dev", 1.1 * f}, {"PostgreSQL", 0.4 * f}, {"generator", 0.5 * f}}
	}
	return &Capacity{
		Knee: 4_250, Beyond: 4_460, Saturated: "CPU of the machine: 1.97 of 2 cores at 4,250/s, of which dev 1.1",
		Steps: []Step{
			{Rate: 1000, Sustained: true, Accepted: 830, AcceptP99: 0.012, FinalP99: 0.05, LagGrowth: 0.1, CPU: cpu(0.3),
				Attained: 1, DrainedTook: 0.1},
			{Rate: 2000, Sustained: true, Accepted: 1_660, AcceptP99: 0.018, FinalP99: 0.07, LagGrowth: -0.2, CPU: cpu(0.5),
				Attained: 1, DrainedTook: 0.1},
			{Rate: 4000, Sustained: true, Accepted: 3_320, AcceptP99: 0.05, FinalP99: 0.2, LagGrowth: 1.5, CPU: cpu(0.9),
				Attained: 0.9996, DrainedTook: 0.4},
			{Rate: 8000, Why: []string{"accept p99 was 1.8 s, above 100 ms", "lag grew by 800 records a second"},
				Accepted: 3_900, AcceptP99: 1.8, FinalP99: 6, LagGrowth: 812, CPU: cpu(1), Attained: 0.991, DrainedTook: 12},
			{Rate: 4_460, Why: []string{"accept p99 was 180 ms, above 100 ms"}, Accepted: 3_650, AcceptP99: 0.18, FinalP99: 0.8,
				LagGrowth: 12, CPU: cpu(0.97), Attained: 0.999, DrainedTook: 1.1},
			{Rate: 4_250, Sustained: true, Accepted: 3_530, AcceptP99: 0.08, FinalP99: 0.31, LagGrowth: 2.5, CPU: cpu(0.95),
				Attained: 0.9995, DrainedTook: 0.5},
		},
		Overload: Overload{Rate: 8_500, Goodput: 3_800, Shed: 0.51, Recovery: 2.4},
	}
}
