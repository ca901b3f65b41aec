package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Names of processes in tables.
const (
	wholeChain = "server, worker, broker"
	inPostgres = "PostgreSQL"
)

// variants are the whole chain, the chain with one store replaced, and the chain without any store.
var variants = []struct {
	name, lacks string
	chainSpec
}{
	{"as it is", "", chainSpec{broker: onDisk}},
	{"without version look-up", "the version look-up", chainSpec{broker: onDisk, replaced: []string{lookUp}}},
	{"without request store", "the request store", chainSpec{broker: onDisk, replaced: []string{requestStore}}},
	{"without apply", "the apply transaction", chainSpec{broker: onDisk, replaced: []string{apply}}},
	{"without the broker's disk", "the disk of the embedded broker", chainSpec{broker: inMemory}},
	{"without Kafka, so nothing to apply", "", chainSpec{broker: blackhole}},
	{"accept path alone: no store at all", "", chainSpec{broker: blackhole,
		replaced: []string{lookUp, requestStore, apply}}},
}

// accept measures the accept path, and the whole chain with each store replaced in turn by one that does nothing. The
// gain without a store is its cost. The store with the largest gain is the bottleneck.
func accept(ctx context.Context, h *harness, r *results) error {
	s := stage{title: "HTTP: the accept path", unit: "trades", limit: h.attackSeries(h.limit)}
	h.say("starting %d chains", len(variants))
	targets := make([]target, len(variants))
	starting, inner := errgroup.WithContext(ctx)
	for i, v := range variants {
		starting.Go(func() (err error) {
			targets[i], err = h.chain(inner, i, v.name, v.chainSpec)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	for i, v := range variants {
		one := h.attackSeries(targets[i])
		one.lacks = v.lacks
		s.ours = append(s.ours, one)
	}
	if err := h.measure(ctx, true, s); err != nil {
		return err
	}
	r.addReplaced(s)
	return nil
}

// chain starts a chain as a child, with its own database if it needs one.
func (h *harness) chain(ctx context.Context, number int, name string, c chainSpec) (target, error) {
	var env []string
	if c.needsDatabase() {
		url, err := h.database(ctx, "chain_"+strconv.Itoa(number))
		if err != nil {
			return target{}, err
		}
		env = append(env, databaseVar+"="+url)
	}
	dir := filepath.Join(h.dir, "chain-"+strconv.Itoa(number))
	p, at, err := h.self(ctx, "the chain "+name, env, "chain", dir, c.broker, strings.Join(c.replaced, ","))
	if err != nil {
		return target{}, err
	}
	t := target{name: name, api: at.API, worker: at.Worker, watched: []watched{{name: wholeChain, pid: p.PID()}}}
	if c.needsDatabase() {
		t.watched = append(t.watched, watched{name: inPostgres, pid: h.postgres.PID(), scope: both})
	}
	if err := t.ready(ctx); err != nil {
		return target{}, err
	}
	if c.broker == blackhole {
		t.worker = "" // the records never reach it
	}
	return t, nil
}
