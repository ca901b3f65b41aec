package app

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
	"tradestore/test/stack"
	"tradestore/trade"
)

func (s deployment) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.database)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.Background()) }()
	_, err = conn.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
}

// allow lets a role of a test have other times than the rest: short ones, or long ones on a slow machine. Those that
// were allowed last stay allowed.
func (s deployment) allow(t *testing.T, f PromiseFlags) {
	t.Helper()
	for _, p := range f.promises() {
		s.exec(t, `UPDATE promises SET value = coalesce(old, value), old = $2
			WHERE name = $1 AND value <> $2 AND old IS DISTINCT FROM $2`, p.Name, p.Value)
	}
}

// Each role stops at once when one of its settings is not the one on which all agree, and names both values and the way
// out (rule T12).
func TestASettingThatOthersDoNotHaveStopsTheRole(t *testing.T) {
	t.Parallel()
	s := newDeployment(t)
	run := func(name, want string, role func(context.Context, Env) error) {
		t.Helper()
		r := start(t, role)
		select {
		case <-r.ended:
			require.ErrorIs(t, r.err, checks.ErrWrong, name)
			require.Equal(t, trade.Broken, trade.ClassOf(r.err), name)
			require.ErrorContains(t, r.err, want, name)
		case <-time.After(patience):
			require.Fail(t, "still running: "+name, r.log.String())
		}
	}
	server := func(change func(*ServerConfig), want string) {
		t.Helper()
		c := s.serverConfig(t)
		change(&c)
		run("server", want, func(ctx context.Context, env Env) error { return RunServer(ctx, c, env) })
	}
	worker := func(change func(*WorkerConfig), want string) {
		t.Helper()
		c := s.workerConfig(t)
		change(&c)
		run("worker", want, func(ctx context.Context, env Env) error { return RunWorker(ctx, c, env) })
	}
	wayOut := func(setting, value, expected string) string {
		return "T12 --" + setting + ": expected " + expected + ", seen: " + value + ": start with the expected value, " +
			"or run 'tradestore migrate --set " + setting + "=" + value + "'"
	}
	server(func(c *ServerConfig) { c.Promise.AcceptDeadline = 4 * time.Second }, wayOut("accept-deadline", "4s", "3s"))
	worker(func(c *WorkerConfig) { c.Promise.AcceptDeadline = 4 * time.Second }, wayOut("accept-deadline", "4s", "3s"))
	server(func(c *ServerConfig) { c.Promise.DeliveryTimeout = 9 * time.Second }, wayOut("delivery-timeout", "9s", "10s"))
	worker(func(c *WorkerConfig) { c.Promise.DeliveryTimeout = 9 * time.Second }, wayOut("delivery-timeout", "9s", "10s"))
	server(func(c *ServerConfig) { c.Promise.OrphanAfter = 30 * time.Second }, wayOut("orphan-after", "30s", "1m0s"))
	worker(func(c *WorkerConfig) { c.Promise.OrphanAfter = 30 * time.Second }, wayOut("orphan-after", "30s", "1m0s"))
	onOther := RequestStoreFlags{Kind: onDynamoDB, Table: "mine", Endpoint: "http://127.0.0.1:1"}
	server(func(c *ServerConfig) { c.RequestStore = onOther }, wayOut("request-store", "dynamodb", "postgres"))
	worker(func(c *WorkerConfig) { c.RequestStore = onOther }, wayOut("request-store", "dynamodb", "postgres"))
	worker(func(c *WorkerConfig) { c.Worker.OutcomeRetention = 72 * time.Hour },
		wayOut("outcome-retention", "72h0m0s", "168h0m0s"))
	server(func(c *ServerConfig) { c.Kafka.Partitions = 4 }, "T2 ")
	worker(func(c *WorkerConfig) { c.Kafka.Partitions = 4 }, "T2 ")

	s.exec(t, "UPDATE promises SET value = 'dynamodb' WHERE name = 'request-store'")
	s.exec(t, "INSERT INTO promises (name, value) VALUES ('dynamodb-table', 'other')")
	server(func(c *ServerConfig) { c.RequestStore = onOther }, wayOut("dynamodb-table", "mine", "other"))
	worker(func(c *WorkerConfig) { c.RequestStore = onOther }, wayOut("dynamodb-table", "mine", "other"))
	s.exec(t, "DELETE FROM promises")
	server(func(*ServerConfig) {},
		"T12 --accept-deadline: expected stored in the database, seen: not there: run tradestore migrate")
	worker(func(*WorkerConfig) {}, "T12 --outcome-retention: expected stored in the database, seen: not there")
}

// A change of a promise: old and new are right until the old one is retired, in every combination that meets R2.
func TestAPromiseIsChangedWhileTheRolesRun(t *testing.T) {
	t.Parallel()
	s := deployment{stack.Database(t), stack.Kafka(t)}
	migrate := func(change func(*MigrateConfig), want string) {
		t.Helper()
		c := s.migrateConfig(t)
		change(&c)
		err := Migrate(t.Context(), c, zerolog.Nop())
		if want == "" {
			require.NoError(t, err)
			return
		}
		require.ErrorContains(t, err, want)
	}
	set := func(change string) func(*MigrateConfig) { return func(c *MigrateConfig) { c.Set = change } }
	retire := func(name string) func(*MigrateConfig) { return func(c *MigrateConfig) { c.Retire = name } }
	migrate(func(*MigrateConfig) {}, "")
	migrate(retire("lanes"), `--retire: "lanes" is not a setting that is stored`)
	migrate(retire("orphan-after"), "") // nothing to retire
	migrate(func(c *MigrateConfig) { c.Promise.OrphanAfter = 90 * time.Second },
		"--orphan-after: expected 1m0s, as every process has it, seen: 1m30s; "+
			"'tradestore migrate --set orphan-after=1m30s' changes it")
	judge := func(f PromiseFlags, want checks.Status) {
		t.Helper()
		c := *defaults[CheckConfig](t)
		c.StoreFlags, c.Promise, c.Timeout = s.migrateConfig(t).StoreFlags, f, patience
		list, err := Check(t.Context(), c)
		require.NoError(t, err)
		worst := checks.OK
		for _, row := range list {
			if row.ID == "T12" && row.Status != checks.OK {
				worst = row.Status
			}
		}
		require.Equal(t, want, worst, list)
	}
	promise := func(deadline, after time.Duration) PromiseFlags {
		return PromiseFlags{DeadlineFlags{deadline}, 10 * time.Second, after}
	}
	usual := promise(3*time.Second, time.Minute)
	judge(usual, checks.OK)
	judge(promise(3*time.Second, 90*time.Second), checks.Failed)

	c := s.workerConfig(t)
	c.Process.CheckInterval = time.Second
	worker := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, c, env) })
	worker.awaitReady(t)
	migrate(set("orphan-after=90s"), "")
	migrate(set("orphan-after=90s"), "") // again
	judge(usual, checks.OK)
	judge(promise(3*time.Second, 90*time.Second), checks.OK)
	judge(promise(3*time.Second, 2*time.Minute), checks.Failed)
	migrate(set("orphan-after=2m"), "--orphan-after changes from 1m0s to 1m30s already: "+
		"'tradestore migrate --retire orphan-after' ends that first")
	// 90 s would do for this deadline. The old 60 s would not, and count until they are retired.
	long := func(c *MigrateConfig) { c.Set, c.Promise.OrphanAfter = "accept-deadline=25s", 90*time.Second }
	migrate(long, "--orphan-after: 1m0s is less than 1m10s, twice the sum of --accept-deadline 25s")
	migrate(retire("orphan-after"), "--retire: this command itself has the old value 1m0s of --orphan-after")
	migrate(func(c *MigrateConfig) { c.Retire, c.Promise.OrphanAfter = "orphan-after", 90*time.Second }, "")
	select {
	case <-worker.ended:
		require.ErrorContains(t, worker.err, "T12 --orphan-after: expected 1m30s, seen: 1m0s")
	case <-time.After(patience):
		require.Fail(t, "still running", worker.log.String())
	}
	migrate(long, "")
	judge(promise(3*time.Second, 90*time.Second), checks.OK)
	judge(promise(25*time.Second, 90*time.Second), checks.OK)
	migrate(func(c *MigrateConfig) { c.Set = "orphan-after=60s" },
		"--orphan-after: 1m0s is less than 1m10s, twice the sum of --accept-deadline 25s")
	migrate(func(c *MigrateConfig) { c.Set, c.Promise.OrphanAfter = "accept-deadline=3s", 90*time.Second }, "") // and back
	migrate(func(c *MigrateConfig) { c.Retire, c.Promise.OrphanAfter = "accept-deadline", 90*time.Second }, "")
	judge(promise(25*time.Second, 90*time.Second), checks.Failed)
	judge(promise(3*time.Second, 90*time.Second), checks.OK)
}

// Requests in one store would get no outcome from workers of the other one, so there is no time with both.
func TestTheRequestStoreIsChangedAtOnce(t *testing.T) {
	s := newDynamoStack(t)
	c := s.migrateConfig(t)
	require.NoError(t, Migrate(t.Context(), c, zerolog.Nop()))
	worker := s.workerConfig(t)
	worker.Process.CheckInterval = time.Second
	running := start(t, func(ctx context.Context, env Env) error { return RunWorker(ctx, worker, env) })
	running.awaitReady(t)
	c.RequestStore = s.requests
	require.ErrorContains(t, Migrate(t.Context(), c, zerolog.Nop()),
		"--request-store: expected postgres, as every process has it, seen: dynamodb; "+
			"'tradestore migrate --set request-store=dynamodb' changes it")
	c.Set = "request-store=dynamodb"
	require.NoError(t, Migrate(t.Context(), c, zerolog.Nop()))
	select {
	case <-running.ended:
		require.ErrorContains(t, running.err, "T12 --request-store: expected dynamodb, seen: postgres")
	case <-time.After(patience):
		require.Fail(t, "still running", running.log.String())
	}
	s.worker(t).awaitReady(t)
}

// A process that is alone, as dev is, takes its own settings whatever was stored.
func TestDevTakesItsOwnSettings(t *testing.T) {
	t.Parallel()
	s := newDeployment(t)
	c := s.migrateConfig(t)
	c.Adopt, c.Promise = true, PromiseFlags{DeadlineFlags{time.Minute}, time.Minute, 4 * time.Minute}
	require.NoError(t, Migrate(t.Context(), c, zerolog.Nop()))
	c.Adopt = false
	require.NoError(t, Migrate(t.Context(), c, zerolog.Nop()))
}
