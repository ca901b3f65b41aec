package loadtest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"tradestore/trade"
)

const noopServer = "LOADTEST_NOOP_SERVER"

// TestNoopServer is no test: it is the server of BenchmarkGenerators, in a process of its own so that its CPU is not
// the generator's. It accepts every trade and ends with its standard input.
func TestNoopServer(t *testing.T) {
	if os.Getenv(noopServer) == "" {
		t.Skip("it is started by BenchmarkGenerators")
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the benchmark is gone
		os.Exit(0)
	}()
	answer := fmt.Appendf(nil, `{"request_id":"%s","status":"PENDING","trade_id":"T1","version":10}`,
		trade.NewRequestID(time.Now()))
	fmt.Println("serving " + ln.Addr().String())
	require.NoError(t, fasthttp.Serve(ln, func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
		ctx.SetContentType(contentJSON)
		ctx.SetBody(answer)
	}))
}

func startNoopServer(b *testing.B) string {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestNoopServer$", "-test.v")
	cmd.Env = append(os.Environ(), noopServer+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var address string
		if n, _ := fmt.Sscanf(lines.Text(), "serving %s", &address); n == 1 {
			return "http://" + address
		}
	}
	b.Fatal("the server does not start")
	return ""
}

// BenchmarkGenerators measures what one operation costs the generator, in CPU of this process, at a steady rate and as
// fast as it goes.
func BenchmarkGenerators(b *testing.B) {
	target := parseURL(b, startNoopServer(b))
	f := func(g Generator, rate int) {
		b.Run(fmt.Sprintf("%s/%d", g.Name(), rate), func(b *testing.B) {
			s := NewSchedule(0, []Stage{{float64(rate), float64(rate), time.Duration(b.N) * time.Second / time.Duration(rate)}})
			measure(b, func(p *Plan, into *Results) { require.NoError(b, g.Attack(b.Context(), target, p, s, into)) })
		})
	}
	f(Vegeta{}, 2000)
	f(Light{}, 2000)
	f(Light{}, 20_000)
	b.Run("light/closed", func(b *testing.B) {
		measure(b, func(p *Plan, into *Results) {
			ctx, cancel := context.WithCancel(b.Context())
			go func() {
				for into.Count().Answered < uint64(b.N) {
					time.Sleep(time.Millisecond)
				}
				cancel()
			}()
			Light{Connections: 16}.Closed(ctx, target, p, time.Hour, into)
		})
	})
}

func measure(b *testing.B, attack func(*Plan, *Results)) {
	p := NewPlan("r1", 1, Mix{New: 1}, 1, 0)
	into := NewResults(time.Now())
	before := cpuTime(b)
	attack(p, into)
	c := into.Count()
	require.Zero(b, c.Errors)
	b.ReportMetric(float64(cpuTime(b)-before)/float64(c.Answered), "cpu-ns/op")
	b.ReportMetric(float64(c.Answered)/into.Now().Seconds(), "op/s")
	sent, done := late(into)
	b.ReportMetric(float64(sent.Nanoseconds()), "late-ns/p50")
	b.ReportMetric(float64(done.Nanoseconds()), "answered-ns/p50")
}

// late is how long after they were due half of the operations were sent, and half were answered.
func late(r *Results) (sent, done time.Duration) {
	var sents, dones []time.Duration
	for result := range r.All() {
		sents = append(sents, result.Sent-result.Due)
		dones = append(dones, result.Latency())
	}
	slices.Sort(sents)
	slices.Sort(dones)
	return sents[len(sents)/2], dones[len(dones)/2]
}

// cpuTime is what this process has used so far.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
