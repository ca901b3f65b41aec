package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/proc"
	"tradestore/test/stack"
)

func TestMain(m *testing.M) { stack.Main(m) }

// parse returns the settings that a command line gives.
func parse(t *testing.T, args ...string) Config {
	t.Helper()
	var cfg Config
	parser, err := kong.New(&cfg, kong.ExplicitGroups(nil))
	require.NoError(t, err)
	_, err = parser.Parse(args)
	require.NoError(t, err)
	return cfg
}

// dataDir is a folder that PostgreSQL can use whoever runs the tests.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := stack.Dir()
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, Remove(context.Background(), dir))
		_ = os.RemoveAll(dir) // what a test put there itself
	})
	return dir
}

func configure(t *testing.T, dir string, args ...string) Config {
	t.Helper()
	base := []string{"--data-dir", dir, "--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0"}
	return parse(t, append(base, args...)...)
}

// run is a stack in this process.
type run struct {
	note map[string]string
	out  *output
	stop context.CancelFunc
	end  chan error
}

type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func start(t *testing.T, cfg Config) *run {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &run{out: new(output), stop: cancel, end: make(chan error, 1)}
	log := zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	go func() {
		err := Run(ctx, cfg, r.out, log)
		r.end <- err
		close(r.end)
	}()
	t.Cleanup(func() { cancel(); <-r.end })
	require.Eventually(t, func() bool {
		select {
		case err := <-r.end:
			t.Fatalf("ended: %v", err)
		default:
		}
		return strings.Contains(r.out.String(), "Ctrl-C")
	}, 5*time.Minute, 10*time.Millisecond)
	text, err := os.ReadFile(filepath.Join(cfg.DataDir, noteName))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &r.note))
	return r
}

func (r *run) drain(t *testing.T) {
	t.Helper()
	r.stop()
	require.NoError(t, <-r.end)
}

func call(t *testing.T, method, url, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var answer map[string]any
	require.NoError(t, json.Unmarshal(text, &answer), string(text))
	return resp.StatusCode, answer
}

var printedCurl = regexp.MustCompile(`curl -i (http\S+) -H '([^']+)' -d '([^']+)'`)

// The printed command stores a trade, and the next start on the folder finds it, on the same ports.
func TestFromNothingToAStoredTrade(t *testing.T) {
	dir := dataDir(t)
	t.Setenv("PGSERVICE", "a server of the user, which is not this one")
	t.Setenv("PGOPTIONS", "-c default_transaction_read_only=on")
	t.Setenv("PGTARGETSESSIONATTRS", "standby")
	r := start(t, configure(t, dir))
	curl := printedCurl.FindStringSubmatch(r.out.String())
	require.NotNil(t, curl, r.out.String())
	require.Equal(t, "Content-Type: application/json", curl[2])
	code, accepted := call(t, http.MethodPost, curl[1], curl[3])
	require.Equal(t, http.StatusAccepted, code, accepted)
	require.Eventually(t, func() bool {
		_, state := call(t, http.MethodGet, r.note["api"]+"/api/v1/requests/"+accepted["request_id"].(string), "")
		return state["status"] == "SUCCESS"
	}, time.Minute, 10*time.Millisecond)
	for _, text := range []string{r.note["api"], r.note["worker"], r.note["kafka"], "16.", dir, "not for production"} {
		require.Contains(t, r.out.String(), text)
	}
	require.NotContains(t, r.out.String(), password(t, r), "the banner may be shown around")
	info, err := os.Stat(filepath.Join(dir, noteName))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	before := r.note
	r.drain(t)

	r = start(t, configure(t, dir))
	require.Equal(t, before["kafka"], r.note["kafka"])
	require.Equal(t, before["database"], r.note["database"])
	_, stored := call(t, http.MethodGet, r.note["api"]+"/api/v1/trades/T1", "")
	require.Len(t, stored["items"], 1)
	r.drain(t)
}

func password(t *testing.T, r *run) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(r.note["database"])
	require.NoError(t, err)
	return cfg.Password
}

// A database that dies is started again, and readiness says what is wrong in between.
func TestDatabaseDies(t *testing.T) {
	dir := dataDir(t)
	r := start(t, configure(t, dir))
	data := filepath.Join(dir, "postgres", "data")
	text, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.SplitN(string(text), "\n", 2)[0])
	require.NoError(t, err)
	control := filepath.Join(data, "global", "pg_control")
	require.NoError(t, os.Rename(control, control+".away")) // it can't come back at once
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	health := func() (int, string) {
		code, answer := call(t, http.MethodGet, r.note["api"]+"/api/v1/health", "")
		check, ok := answer["checks"].(map[string]any)["embedded_postgres"].(map[string]any)
		require.True(t, ok)
		return code, check["status"].(string)
	}
	require.Eventually(t, func() bool {
		code, status := health()
		return code == http.StatusServiceUnavailable && status != "ok"
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, os.Rename(control+".away", control))
	require.Eventually(t, func() bool {
		code, status := health()
		return code == http.StatusOK && status == "ok"
	}, time.Minute, 20*time.Millisecond)
	code, _ := call(t, http.MethodPost, r.note["api"]+"/api/v1/trades", printedCurl.FindStringSubmatch(r.out.String())[3])
	require.Equal(t, http.StatusAccepted, code)
	r.drain(t)
}

func TestUsersMistakes(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer ln.Close()
	taken := ln.Addr().String()
	_, takenPort, err := net.SplitHostPort(taken)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	foreign := dataDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(foreign, "postgres", "data", "mine"), 0o700))
	used := dataDir(t)
	unlock, err := proc.Lock(filepath.Join(used, "lock"))
	require.NoError(t, err)
	defer unlock()

	f := func(want string, cfg Config) {
		t.Helper()
		err := Run(t.Context(), cfg, io.Discard, zerolog.Nop())
		if assert.ErrorContains(t, err, want) {
			assert.NotContains(t, err.Error(), "\n")
		}
	}
	f("choose another folder with --data-dir", configure(t, used))
	f("choose another folder with --data-dir", configure(t, used, "--remove"))
	f("choose another with --data-dir", configure(t, file))
	f("choose another with --data-dir", configure(t, filepath.Join(file, "below")))
	f("choose another with --listen", configure(t, dataDir(t), "--listen", taken))
	f("(--listen)", configure(t, dataDir(t), "--listen", "192.0.2.1:80"))
	f("choose another with --worker-listen", configure(t, dataDir(t), "--worker-listen", taken))
	f("choose another with --kafka-port", configure(t, dataDir(t), "--kafka-port", takenPort))
	f("choose another with --postgres-port", configure(t, dataDir(t), "--postgres-port", takenPort))
	f("--data-dir chooses another folder", configure(t, foreign))
	require.DirExists(t, filepath.Join(foreign, "postgres", "data", "mine"))
	require.NoError(t, os.RemoveAll(filepath.Join(foreign, "postgres")))
}

func TestOwnDatabase(t *testing.T) {
	dir := dataDir(t)
	url := stack.Database(t)
	r := start(t, configure(t, dir, "--database-url", url))
	require.Equal(t, url, r.note["database"])
	require.Contains(t, r.out.String(), "yours")
	require.NotContains(t, r.out.String(), password(t, r))
	require.NoDirExists(t, filepath.Join(dir, "postgres"))
	code, _ := call(t, http.MethodPost, r.note["api"]+"/api/v1/trades", printedCurl.FindStringSubmatch(r.out.String())[3])
	require.Equal(t, http.StatusAccepted, code)
	r.drain(t)

	err := Run(t.Context(), configure(t, dir, "--database-url", url, "--partitions", "3"), io.Discard, zerolog.Nop())
	require.ErrorContains(t, err, "12", "the topic has its partitions for good")
}

func TestStoppedWhileItStarts(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, Run(ctx, configure(t, dataDir(t), "--database-url", stack.Database(t)), io.Discard, zerolog.Nop()))
}

func TestRemoveLeavesWhatIsNotItsOwn(t *testing.T) {
	dir := dataDir(t)
	start(t, configure(t, dir, "--database-url", stack.Database(t))).drain(t)
	precious := filepath.Join(dir, "precious")
	require.NoError(t, os.WriteFile(precious, nil, 0o600))
	require.NoError(t, Run(t.Context(), configure(t, dir, "--remove"), io.Discard, zerolog.Nop()))
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{precious}, left)

	require.NoError(t, os.Remove(precious))
	require.NoError(t, Run(t.Context(), configure(t, dir, "--remove"), io.Discard, zerolog.Nop()))
	require.NoDirExists(t, dir)
	require.NoError(t, Run(t.Context(), configure(t, dir, "--remove"), io.Discard, zerolog.Nop()), "nothing there is fine")
	require.NoDirExists(t, dir)
}

func TestBaseURL(t *testing.T) {
	f := func(address, want string) {
		t.Helper()
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Skip(err) // no IPv6 here
		}
		defer ln.Close()
		assert.Equal(t, want+strconv.Itoa(ln.Addr().(*net.TCPAddr).Port), baseURL(ln))
	}
	f("127.0.0.1:0", "http://127.0.0.1:")
	f("0.0.0.0:0", "http://127.0.0.1:")
	f("[::1]:0", "http://[::1]:")
}
