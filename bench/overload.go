package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tradestore/loadtest"
)

const (
	storeBytes  = 400 << 10 // per second to PostgreSQL: enough to accept about 1,500 trades
	peakConns   = 256       // of the closed loop that finds the peak
	overConns   = 8000      // of the overload, at most: with fewer the generator would wait for the server
	overBy      = 5.0       // times the peak
	atRest      = 0.5       // times the peak, before the overload and after it
	steadyFor   = 3         // seconds of normal latency until a recovery counts
	quickAgain  = 2.0       // times the p99 before the overload
	storedLooks = time.Second

	goodputGoal  = 0.9 // of the peak
	recoveryGoal = 10  // seconds
)

// overload sends several times the capacity of a slow store: how much of the peak is still accepted, how soon the
// latency recovers, and whether everything accepted is stored in the end.
func overload(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	o, err := h.newOverloadTest(ctx)
	if err != nil {
		return err
	}
	peak, err := o.peak(ctx)
	if err != nil {
		return err
	}
	rest := atRest * peak.median
	h.say("at rest: %s/s", thousands(rest))
	before := h.newLoad(rest, 2*h.hold)
	if err := o.send(ctx, before, overConns); err != nil {
		return err
	}
	h.say("overload: %s/s", thousands(overBy*peak.median))
	flood, after, err := o.flood(ctx, overBy*peak.median, rest)
	if err != nil {
		return err
	}
	h.say("waiting until everything accepted is stored")
	lost, err := o.countMissing(ctx)
	if err != nil {
		return err
	}
	for _, g := range o.goals(peak, flood, before, after, lost) {
		r.addGoal(g)
	}
	return nil
}

// overloadTest is a stack with a slow store.
type overloadTest struct {
	*harness
	target
	database string // its URL, past the proxy

	mu       sync.Mutex // protects accepted: two loads overlap
	accepted []string   // trade ids
}

// newOverloadTest starts a stack whose server and worker reach PostgreSQL through a slow proxy.
func (h *harness) newOverloadTest(ctx context.Context) (*overloadTest, error) {
	o := &overloadTest{harness: h}
	var err error
	if o.database, err = h.database(ctx, "overload"); err != nil {
		return nil, err
	}
	at, err := url.Parse(o.database)
	if err != nil {
		return nil, errors.New("cannot read the URL of the database") // the error would quote the password
	}
	proxy, err := startSlowProxy(at.Host, storeBytes)
	if err != nil {
		return nil, err
	}
	h.onStop(proxy.stop)
	slow, err := proxy.before(o.database)
	if err != nil {
		return nil, err
	}
	// The generator is one client address that represents many clients.
	o.target, err = h.startRoles(ctx, "overload", slow, fmt.Sprintf("TRADESTORE_MAX_CONNS_PER_ADDR=%d", 2*overConns))
	return o, err
}

// peak measures the highest rate of a closed loop. The first round is a warm-up.
func (o *overloadTest) peak(ctx context.Context) (figure, error) {
	var rates []float64
	for round := range o.rounds + 1 {
		o.say("peak: round %d of %d", round, o.rounds)
		plan, results := o.plan(), loadtest.NewResults(time.Now())
		loadtest.Light{Connections: peakConns}.Closed(ctx, o.url(), plan, o.hold, results)
		got, err := summary(results)
		if err != nil {
			return figure{}, fmt.Errorf("%s: %w", o.name, err)
		}
		if round > 0 {
			rates = append(rates, got.rate)
		}
		o.recordAccepted(plan, results)
		if _, err := o.countMissing(ctx); err != nil {
			return figure{}, err
		}
	}
	return figureOf(rates), nil
}

// flood sends far too much and then, while answers are still outstanding, little.
func (o *overloadTest) flood(ctx context.Context, much, little float64) (flood, after *load, err error) {
	hold := 4 * o.hold
	during, end := context.WithTimeout(ctx, hold)
	defer end()
	flood = o.newLoad(much, hold)
	done := make(chan error, 1)
	go func() { done <- o.send(during, flood, overConns) }()
	<-during.Done() // operations without a connection are never sent
	o.say("after it: %s/s", thousands(little))
	after = o.newLoad(little, 3*o.hold)
	err = o.send(ctx, after, overConns)
	if late := <-done; late != nil && !errors.Is(late, context.DeadlineExceeded) {
		err = errors.Join(err, late)
	}
	return flood, after, err
}

func (o *overloadTest) send(ctx context.Context, l *load, connections int) error {
	defer o.recordAccepted(l.plan, l.results)
	return l.send(ctx, o.target, connections)
}

// recordAccepted records the accepted trade ids.
func (o *overloadTest) recordAccepted(plan *loadtest.Plan, results *loadtest.Results) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for r := range results.All() {
		if r.Status == http.StatusAccepted {
			o.accepted = append(o.accepted, plan.TradeID(r.Seq))
		}
	}
}

// countMissing waits until every accepted trade is stored, up to storedLimit. It returns how many are missing.
func (o *overloadTest) countMissing(ctx context.Context) (missing int, err error) {
	conn, hangUp, err := connect(ctx, o.database)
	if err != nil {
		return 0, err
	}
	defer hangUp()
	look := time.NewTicker(storedLooks)
	defer look.Stop()
	for limit := time.Now().Add(storedLimit); ; {
		const count = "SELECT count(*) FROM unnest($1::text[]) AS id WHERE NOT EXISTS (SELECT FROM trades WHERE " +
			"trade_id = id)"
		if err := conn.QueryRow(ctx, count, o.accepted).Scan(&missing); err != nil {
			return 0, fmt.Errorf("cannot count what is stored of %d trades: %w", len(o.accepted), err)
		}
		if missing == 0 || time.Now().After(limit) {
			return missing, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// goals evaluates the loads.
func (o *overloadTest) goals(peak figure, flood, before, after *load, lost int) []goal {
	hold := flood.schedule.Length()
	good := 0
	for r := range flood.results.All() {
		if r.Status == http.StatusAccepted && r.Done <= hold {
			good++
		}
	}
	goodput := float64(good) / hold.Seconds()
	quick := before.findings().Accept.P99
	took, back := recovery(after.findings().Timeline, quick)
	recovered := fmt.Sprintf("%.0f s", took.Seconds())
	if !back {
		recovered = fmt.Sprintf("not within %.0f s", took.Seconds())
	}
	const measured = "overload"
	return []goal{
		{fmt.Sprintf("goodput at %.0f times the peak, slow store", overBy),
			fmt.Sprintf("at least %.2f x the peak", goodputGoal),
			fmt.Sprintf("%s x: %s/s against %s/s; %s", digits(goodput/peak.median), thousands(goodput), peak.perSecond(""),
				flood.shares()),
			goodput >= goodputGoal*peak.median, measured},
		{"recovery from it", fmt.Sprintf("under %d s until the accept p99 of a second is at most %.0f times what it was",
			recoveryGoal, quickAgain),
			fmt.Sprintf("%s; the p99 at %s/s was %.0f ms", recovered, thousands(before.schedule.Max()), 1000*quick),
			back && took < recoveryGoal*time.Second, measured},
		{"accepted under overload and not stored", "none", fmt.Sprintf("%d of %s", lost, thousands(float64(len(o.accepted)))),
			lost == 0, measured},
	}
}

// shares describes how much of a load was sent and its answers.
func (l *load) shares() string {
	all := l.findings().Answers[0]
	var shares []string
	for _, name := range slices.Sorted(maps.Keys(all.Counts)) {
		shares = append(shares, fmt.Sprintf("%.1f %% %s", 100*float64(all.Counts[name])/float64(all.Sent), name))
	}
	return fmt.Sprintf("of %s/s %s/s found a connection, and of those got %s", thousands(l.schedule.Max()),
		thousands(float64(all.Sent)/l.schedule.Length().Seconds()), strings.Join(shares, ", "))
}

// recovery returns after what time nothing is refused and the p99 is near that before the overload, for steadyFor
// seconds. Otherwise it returns the length of the timeline and false.
func recovery(timeline []loadtest.Second, before float64) (took time.Duration, back bool) {
	well := 0
	for i, second := range timeline {
		well++
		if second.Errors > 0 || second.P99 > quickAgain*before {
			well = 0
		}
		if well == steadyFor {
			return time.Duration(i+1-steadyFor) * time.Second, true
		}
	}
	return time.Duration(len(timeline)) * time.Second, false
}
