package main

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Names of processes that a table tells apart.
const (
	wholeChain = "server, worker, broker"
	inPostgres = "PostgreSQL"
)

// variants are the chain as it is, the same with one store replaced, and what is left without any.
var variants = []struct {
	name, lacks string
	chain
}{
	{"as it is", "", chain{broker: onDisk}},
	{"without version look-up", "the version look-up", chain{broker: onDisk, replaced: []string{lookUp}}},
	{"without request store", "the request store", chain{broker: onDisk, replaced: []string{requestStore}}},
	{"without apply", "the apply transaction", chain{broker: onDisk, replaced: []string{apply}}},
	{"without the broker's disk", "the disk of the embedded broker", chain{broker: inMemory}},
	{"without Kafka, so nothing to apply", "", chain{broker: blackhole}},
	{"accept path alone: no store at all", "", chain{broker: blackhole, replaced: []string{lookUp, requestStore, apply}}},
}

// accept measures the accept path and the whole chain with each store replaced by one that does nothing, in turn: what
// is gained without a store is what it costs, and the store whose absence gains most is what binds.
func accept(ctx context.Context, l *harness, r *results) error {
	s := stage{title: "HTTP: the accept path", unit: "trades", limit: l.series(l.limit)}
	l.say("starting %d chains", len(variants))
	targets := make([]target, len(variants))
	starting, inner := errgroup.WithContext(ctx)
	for i, v := range variants {
		starting.Go(func() (err error) {
			targets[i], err = l.chain(inner, i, v.name, v.chain)
			return err
		})
	}
	if err := starting.Wait(); err != nil {
		return err
	}
	for i, v := range variants {
		one := l.series(targets[i])
		one.lacks = v.lacks
		s.ours = append(s.ours, one)
	}
	if err := l.measure(ctx, true, s); err != nil {
		return err
	}
	r.addTurn(s)
	return nil
}

// chain starts one as a child, with a database of its own if it needs one.
func (l *harness) chain(ctx context.Context, number int, name string, c chain) (target, error) {
	var env []string
	if c.needsDatabase() {
		url, err := l.database(ctx, "chain_"+strconv.Itoa(number))
		if err != nil {
			return target{}, err
		}
		env = append(env, databaseVar+"="+url)
	}
	dir := filepath.Join(l.dir, "chain-"+strconv.Itoa(number))
	p, at, err := l.self(ctx, "the chain "+name, env, "chain", dir, c.broker, strings.Join(c.replaced, ","))
	if err != nil {
		return target{}, err
	}
	t := target{name: name, api: at.API, worker: at.Worker, watched: []watched{{name: wholeChain, pid: p.PID()}}}
	if c.needsDatabase() {
		t.watched = append(t.watched, watched{name: inPostgres, pid: l.postgres.PID(), scope: both})
	}
	if err := t.ready(ctx); err != nil {
		return target{}, err
	}
	if c.broker == blackhole {
		t.worker = "" // what is acknowledged never reaches it
	}
	return t, nil
}
