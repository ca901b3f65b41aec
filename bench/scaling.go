package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// axis is one setting that is varied while all others have their defaults.
type axis struct {
	title, unit string
	base        *series // all settings have their defaults
	cells       []setting
}

type setting struct {
	label string
	*series
}

// There are many drains in scaling, so they are short and their tables are small.
const (
	cellShare  = 2  // of -records, one in so many
	smallShare = 50 // of -table-rows
	largeShare = 5
)

// scaling measures how drain and accept rate change with settings, with the size of the tables and with the mix of
// trade ids.
func scaling(ctx context.Context, h *harness, r *results) error {
	if h.kafka == nil {
		return nil
	}
	drains, err := h.drainAxes(ctx)
	if err != nil {
		return err
	}
	accepts, err := h.acceptAxes(ctx)
	if err != nil {
		return err
	}
	return h.compare(ctx, slices.Concat(drains, accepts), r)
}

// compare measures axes together, after a warm-up of both kinds of load.
func (h *harness) compare(ctx context.Context, axes []axis, r *results) error {
	var stages []stage
	for _, a := range axes {
		s := stage{title: a.title, unit: a.unit, limit: a.base}
		for _, c := range a.cells {
			s.ours = append(s.ours, c.series)
		}
		stages = append(stages, s)
	}
	for _, base := range []*series{axes[0].base, axes[len(axes)-1].base} { // of drains, and of accepting
		h.say("warming up: %s", base.name)
		if _, err := base.run(ctx, h.hold); err != nil {
			return fmt.Errorf("cannot measure %s: %w", base.name, err)
		}
	}
	if err := h.measure(ctx, false, stages...); err != nil {
		return err
	}
	for _, a := range axes {
		r.scaling = append(r.scaling, a.rows()...)
	}
	return nil
}

// rows compares each setting with the base.
func (a axis) rows() (rows []row) {
	for _, c := range a.cells {
		rows = append(rows, row{stage: a.title, unit: a.unit, limit: "nothing varied", limitRate: a.base.of(rate),
			name: c.label, rate: c.of(rate), ratio: c.over(a.base, rate), chart: true})
	}
	return rows
}

// partitionCounts are the compared numbers of partitions.
var partitionCounts = []int{1, 4, partitions, 48}

// drainAxes are drains of new records. All axes share the base series.
func (h *harness) drainAxes(ctx context.Context) ([]axis, error) {
	fresh := scatteredIDs(storedVersion)
	one := func(name string, e *storeEnv, spec workers, trades tradeSource) *series {
		return h.newDrains("drain, "+name, e, spec, trades)
	}
	axes := []axis{{title: "Drain: partitions"}, {title: "Drain: rows in the tables"}}
	var defaultEnv *storeEnv
	var base *series
	for _, n := range partitionCounts {
		e, err := h.newEnv(ctx, fmt.Sprintf("drain_%d", n), n, h.records/cellShare)
		if err != nil {
			return nil, err
		}
		c := setting{thousands(float64(n)), one(fmt.Sprintf("%d partitions", n), e, workers{count: 1}, fresh)}
		if n == partitions {
			defaultEnv, base = e, c.series
			c.label += " (default)"
			base.name = "drain, nothing varied"
		}
		axes[0].cells = append(axes[0].cells, c)
	}
	axes[1].cells = []setting{{"0 (default)", base}}
	for _, share := range []int{smallShare, largeShare} {
		e, err := h.newEnv(ctx, fmt.Sprintf("drain_rows_%d", h.tableRows/share), partitions, h.records/cellShare)
		if err != nil {
			return nil, err
		}
		if _, err := h.fillTables(ctx, e, h.tableRows/share); err != nil {
			return nil, err
		}
		label := thousands(float64(h.tableRows / share))
		axes[1].cells = append(axes[1].cells, setting{label, one("tables of "+label+" rows", e, workers{count: 1}, fresh)})
	}
	flag := func(args ...string) *series { return one(strings.Join(args, " "), defaultEnv, workers{args, 1}, fresh) }
	mix := func(name string, trades tradeSource) *series { return one(name, defaultEnv, workers{count: 1}, trades) }
	axes = append(axes,
		axis{title: "Drain: --lanes", cells: []setting{{"1", flag("--lanes", "1")}, {"2 (default)", base},
			{"4", flag("--lanes", "4")}}},
		axis{title: "Drain: workers", cells: []setting{{"1 (default)", base},
			{"2", one("2 workers", defaultEnv, workers{count: 2}, fresh)}}},
		axis{title: "Drain: --max-poll-records", cells: []setting{{"250", flag("--max-poll-records", "250")},
			{"1,000", flag("--max-poll-records", "1000")},
			{"4,000", flag("--max-poll-records", "4000")}, {"10,000 (default)", base}}},
		axis{title: "Drain: trade ids", cells: []setting{{"all distinct (default)", base},
			{"10 hot ones, replaced", mix("10 hot ids", hotIDs)}}},
		axis{title: "Drain: versions of each trade", cells: []setting{{"1 (default)", base},
			{"10", mix("10 versions", tenVersions)}}})
	for i := range axes {
		axes[i].unit, axes[i].base = "records", base
	}
	return axes, nil
}

// hotIDs repeats the same ten trades.
func hotIDs(number int) (string, int32) { return fmt.Sprintf("TRH-%d", number%10), storedVersion }

// tenVersions are new trades, each in ten versions, one after the other.
func tenVersions(number int) (string, int32) {
	return fmt.Sprintf("TRV-%010d", scatter(number/10)), int32(number%10) + 1
}

// acceptAxes are loads on a server without a worker, so that only stores and generator compete with it.
func (h *harness) acceptAxes(ctx context.Context) ([]axis, error) {
	byPartitions := axis{title: "Accept: partitions"}
	var defaultEnv *storeEnv
	var base *series
	for _, n := range partitionCounts {
		e, err := h.newEnv(ctx, fmt.Sprintf("accept_%d", n), n, 0)
		if err != nil {
			return nil, err
		}
		if err := e.makeDays(ctx); err != nil {
			return nil, err
		}
		c := setting{thousands(float64(n)), h.serverAlone(fmt.Sprintf("%d partitions", n), e)}
		if n == partitions {
			defaultEnv, base = e, c.series
			c.label += " (default)"
			base.name = "accept, nothing varied"
		}
		byPartitions.cells = append(byPartitions.cells, c)
	}
	flag := func(args ...string) *series { return h.serverAlone(strings.Join(args, " "), defaultEnv, args...) }
	axes := []axis{byPartitions,
		{title: "Accept: --flushes", cells: []setting{{"1", flag("--flushes", "1")}, {"2 (default)", base},
			{"4", flag("--flushes", "4")}, {"8", flag("--flushes", "8")}}},
		{title: "Accept: --max-batch", cells: []setting{{"64", flag("--max-batch", "64")}, {"512 (default)", base},
			{"2,048", flag("--max-batch", "2048")}}}}
	for i := range axes {
		axes[i].unit, axes[i].base = "trades", base
	}
	return axes, nil
}

// serverAlone starts a server with these flags for each round, warms it up and attacks it.
func (h *harness) serverAlone(name string, e *storeEnv, args ...string) *series {
	return &series{name: "accept, " + name, run: func(ctx context.Context, hold time.Duration) (sample, error) {
		address, err := freeAddress()
		if err != nil {
			return sample{}, err
		}
		server, err := h.start("tradestore server", h.program, e.env,
			append([]string{"server", "--listen", address}, args...)...)
		if err != nil {
			return sample{}, err
		}
		defer server.stop()
		if err := server.awaitReady(ctx, address); err != nil {
			return sample{}, err
		}
		t := target{name: name, api: address}
		if _, err := h.attack(ctx, t, hold/5); err != nil {
			return sample{}, err
		}
		return h.attack(ctx, t, hold/2)
	}}
}
