package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// stacks compares the product as users run it with the no-op HTTP server: all in one process, and server and worker
// with Apache Kafka and PostgreSQL.
func stacks(ctx context.Context, h *harness, r *results) error {
	s := stage{title: "Whole chain", unit: "trades", limit: h.attackSeries(h.limit)}
	dev, err := h.startDev(ctx)
	if err != nil {
		return err
	}
	s.ours = append(s.ours, h.attackSeries(dev))
	if h.kafka != nil {
		split, _, err := h.newRoles(ctx, "stacks")
		if err != nil {
			return err
		}
		s.ours = append(s.ours, h.attackSeries(split))
	}
	if err := h.measure(ctx, true, s); err != nil {
		return err
	}
	r.addStacks(s)
	return nil
}

// startDev starts `tradestore dev` on a new data folder.
func (h *harness) startDev(ctx context.Context) (target, error) {
	h.say("starting tradestore dev")
	api, worker, err := twoAddresses()
	if err != nil {
		return target{}, err
	}
	data := filepath.Join(h.dir, "dev")
	c, err := h.start("tradestore dev", h.program, nil, "dev", "--listen", api, "--worker-listen", worker, "--data-dir",
		data, "--log-level", "warn", "--log-format", "json")
	if err != nil {
		return target{}, err
	}
	pid := c.PID()
	t := target{name: "tradestore dev, embedded stores", api: api, worker: worker, watched: []watched{
		{name: wholeChain, pid: pid}, {name: inPostgres, pid: pid, scope: below}}}
	if err := c.awaitReady(ctx, api, worker); err != nil {
		return target{}, err
	}
	return t, t.ready(ctx)
}

// newRoles starts roles with a topic and a database of this name.
func (h *harness) newRoles(ctx context.Context, name string, settings ...string) (t target,
	database string, err error) {
	if database, err = h.database(ctx, name); err == nil {
		t, err = h.startRoles(ctx, name, database, settings...)
	}
	return t, database, err
}

// startRoles starts one server and one worker as processes, on a new topic of the shared Apache Kafka and an empty
// database. settings are further TRADESTORE_ variables.
func (h *harness) startRoles(ctx context.Context, topic, database string, settings ...string) (target, error) {
	h.say("starting tradestore server and tradestore worker")
	api, metrics, err := twoAddresses()
	if err != nil {
		return target{}, err
	}
	env, err := h.migrate(ctx, topic, database, settings...)
	if err != nil {
		return target{}, err
	}
	worker, err := h.start("tradestore worker", h.program, env, "worker", "--listen", metrics)
	if err != nil {
		return target{}, err
	}
	server, err := h.start("tradestore server", h.program, env, "server", "--listen", api)
	if err != nil {
		return target{}, err
	}
	if err := worker.awaitReady(ctx, metrics); err != nil {
		return target{}, err
	}
	if err := server.awaitReady(ctx, api); err != nil {
		return target{}, err
	}
	t := target{name: "server and worker, Apache Kafka", api: api, worker: metrics, watched: []watched{
		{name: "server", pid: server.PID()}, {name: "worker", pid: worker.PID()},
		{name: "Kafka", pid: h.kafka.PID(), scope: both}, {name: inPostgres, pid: h.postgres.PID(), scope: both}}}
	return t, t.ready(ctx)
}

// migrate creates a topic on the shared Apache Kafka and the tables of an empty database, and returns the environment
// of their roles.
func (h *harness) migrate(ctx context.Context, topic, database string, settings ...string) ([]string, error) {
	env := append([]string{"TRADESTORE_DATABASE_URL=" + database,
		"TRADESTORE_KAFKA_BROKERS=" + strings.Join(h.kafka.Addrs(), ","),
		"TRADESTORE_TOPIC=" + topic, "TRADESTORE_KAFKA_GROUP=" + topic,
		"TRADESTORE_PROFILE=single", "TRADESTORE_LOG_LEVEL=warn", "TRADESTORE_LOG_FORMAT=json"}, settings...)
	cmd := exec.CommandContext(ctx, h.program, "migrate")
	cmd.Env = environment(env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("cannot run tradestore migrate: %w: %s", err, out)
	}
	return env, nil
}

func twoAddresses() (a, b string, err error) {
	if a, err = freeAddress(); err == nil {
		b, err = freeAddress()
	}
	return a, b, err
}
