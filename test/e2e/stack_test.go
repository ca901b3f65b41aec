package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/internal/apiclient"
	"tradestore/internal/proc"
	"tradestore/test/program"
	"tradestore/test/stack"
)

const (
	readyLimit = 3 * time.Minute // the first start of a run may download PostgreSQL
	drainLimit = 3 * time.Minute
	pollEvery  = 50 * time.Millisecond
	drainEvery = 250 * time.Millisecond // a look at the log and the tables is dear
	idleConns  = 256                    // that the client keeps open to a server
)

// deployment is a Trade Store in processes of its own: one that is everything, or some of each role. Tests see where it
// answers and can start, stop and kill its processes; they don't see which of the two it is.
type deployment struct {
	Endpoints
	ledger *Ledger
	client *Client
	group  string // of the workers
	build  builder
	path   string   // of the program that build made
	env    []string // of the next start
	roles  []*role  // in the order of the drain: servers first
	fresh  bool     // the stores are empty: migrate comes before the first start
	note   string   // file of `tradestore dev` that says where its stores are; empty: they are known
}

// role is one process of a stack, in one of its lives.
type role struct {
	name  string
	args  []string
	base  string   // where its API answers; empty: it has none
	ready []string // URLs that answer 200 when it is ready
	proc  *program.Process
}

// newDev returns a stack of one process, on a data folder of its own. Without databaseURL it runs its own PostgreSQL.
func newDev(t *testing.T, databaseURL string) *deployment {
	t.Helper()
	s := &deployment{build: program.Build, path: program.Build(t), ledger: NewLedger(), group: "tradestore-workers"}
	dir := dataDir(t)
	s.API, s.Worker, s.Topic = "http://"+freeAddress(t), "http://"+freeAddress(t), "trades-inbound"
	s.client = NewClient(s.ledger, idleConns, s.API)
	args := []string{
		"dev", "--listen", strings.TrimPrefix(s.API, "http://"), "--worker-listen", strings.TrimPrefix(s.Worker, "http://"),
		"--data-dir", dir, "--log-format", "json",
	}
	if databaseURL != "" {
		s.env = append(s.env, "TRADESTORE_DATABASE_URL="+databaseURL)
	}
	s.roles = []*role{{name: "dev", args: args, base: s.API, ready: []string{s.API + "/readyz", s.Worker + "/readyz"}}}
	s.note = filepath.Join(dir, "dev.json")
	return s
}

// learn takes the addresses of the stores from the note, once the stack is ready.
func (s *deployment) learn(t *testing.T) {
	t.Helper()
	if s.note == "" {
		return
	}
	text, err := os.ReadFile(s.note)
	require.NoError(t, err)
	info, err := os.Stat(s.note)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "%s holds a password", s.note)
	var note struct {
		Kafka    string `json:"kafka"`
		Database string `json:"database"`
	}
	require.NoError(t, json.Unmarshal(text, &note))
	s.Kafka, s.Database = strings.Split(note.Kafka, ","), note.Database
}

// dataDir returns a folder that the database's own user can reach when the tests run as root. At the end of the test
// the program removes it, as `make clean` does: also a database that outlived a killed process.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := stack.Dir()
	require.NoError(t, err)
	remove := exec.Command(program.Build(t), "dev", "--data-dir", dir, "--remove")
	remove.Env = program.Environment()
	t.Cleanup(func() {
		if said, err := remove.CombinedOutput(); err != nil {
			t.Errorf("cannot remove the data folder: %v: %s", err, said)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the data folder %s is still there", dir)
		}
	})
	return dir
}

// freeAddress returns an address that nobody listens on and that no other stack of this run has. It stays the same over
// restarts, as in production.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := proc.FreePort()
	require.NoError(t, err)
	return proc.Loopback(port)
}

// start starts what does not run, with more environment for this life alone, and waits until it is ready.
func (s *deployment) start(t *testing.T, env ...string) {
	t.Helper()
	for _, r := range s.launch(t, env...) {
		if !r.awaitReady(t) {
			require.FailNow(t, "process ended before it was ready", "%s: exit code %d\n%s", r.name, r.proc.Exit(t),
				r.proc.Tail())
		}
	}
	s.learn(t)
}

// launch starts what does not run and does not wait for it.
func (s *deployment) launch(t *testing.T, env ...string) (started []*role) {
	t.Helper()
	if s.fresh {
		migrate := launch(t, "migrate", s.path, append(env, s.env...), "migrate")
		require.Zero(t, migrate.Exit(t), migrate.Tail())
		s.fresh = false
	}
	for _, r := range s.roles {
		if r.proc == nil || !r.proc.Running() {
			r.proc = launch(t, r.name, s.path, append(env, s.env...), r.args...)
			started = append(started, r)
		}
	}
	return started
}

// awaitReady returns false when the process ends before it is ready.
func (r *role) awaitReady(t *testing.T) bool {
	t.Helper()
	limit := time.After(readyLimit)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	for {
		select {
		case <-r.proc.Done():
			return false
		case <-limit:
			require.FailNow(t, "process does not get ready", "%s\n%s", r.name, r.proc.Tail())
		case <-poll.C:
			if !slices.ContainsFunc(r.ready, func(url string) bool { return !answers(t, url) }) {
				return true
			}
		}
	}
}

// answers says whether a GET of url is answered 200.
func answers(t *testing.T, url string) bool {
	t.Helper()
	client := apiclient.New(url, apiclient.Options{Conns: 1, Timeout: 2 * time.Second})
	defer client.Close()
	answer, err := client.Do(t.Context(), http.MethodGet, "", nil, nil)
	return err == nil && answer.Status == http.StatusOK
}

// stop drains every process, servers first, and expects exit code 0 of each.
func (s *deployment) stop(t *testing.T) {
	t.Helper()
	for _, r := range s.roles {
		r.proc.Terminate(t)
	}
}

// kill ends the processes named, or all, as kill -9 does.
func (s *deployment) kill(names ...string) {
	for _, r := range s.roles {
		if len(names) == 0 || strings.Contains(strings.Join(names, " "), r.name) {
			r.proc.Kill()
		}
	}
}

// drained waits until everything in the log has been applied.
func (s *deployment) drained(t *testing.T) {
	t.Helper()
	var last error
	ok := pollEach(t, drainEvery, drainLimit, func() bool {
		last = Drained(t.Context(), s.Endpoints)
		return last == nil
	})
	require.True(t, ok, "%v", last)
}

// check waits for the drain and compares everything with everything.
func (s *deployment) check(t *testing.T) *Evidence {
	t.Helper()
	s.drained(t)
	ev, err := Gather(t.Context(), s.Endpoints, s.client)
	require.NoError(t, err)
	report := Check(s.ledger, ev, OrphansAllowed)
	require.Empty(t, report.Broken(), report)
	t.Logf("checked %s; answers %v", report.Summary, s.ledger.Count())
	return ev
}

// sql runs a statement on the stack's database.
func (s *deployment) sql(t *testing.T, statement string, args ...any) {
	t.Helper()
	conn := s.connect(t)
	_, err := conn.Exec(t.Context(), statement, args...)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

// connect opens a session on the stack's database that ends with the test.
func (s *deployment) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.Database)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// poll repeats f until it is true, or returns false after limit.
func poll(t *testing.T, limit time.Duration, f func() bool) bool {
	t.Helper()
	return pollEach(t, pollEvery, limit, f)
}

func pollEach(t *testing.T, every, limit time.Duration, f func() bool) bool {
	t.Helper()
	end := time.After(limit)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if f() {
			return true
		}
		select {
		case <-end:
			return false
		case <-t.Context().Done():
			return false
		case <-tick.C:
		}
	}
}
