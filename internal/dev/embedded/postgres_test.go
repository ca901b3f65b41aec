package embedded

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/internal/proc"
	_ "tradestore/test/cleanenv"
)

// holdVar makes this test binary start what is embedded, in the folder named, and hold it until it is killed.
const holdVar = "EMBEDDED_TEST_HOLD"

func TestMain(m *testing.M) {
	MaybeHelper()
	if dir := os.Getenv(holdVar); dir != "" {
		hold(dir)
	}
	os.Exit(m.Run())
}

func hold(dir string) {
	p, err := Start(context.Background(),
		Config{Dir: filepath.Join(dir, "postgres"), SharedBuffers: "16MB", Scratch: true})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	k, err := StartKafka(KafkaConfig{Dir: filepath.Join(dir, "kafka")})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready", p.PID(), k.Addrs()[0])
	select {}
}

// holder is a process of its own with a server and a broker.
type holder struct {
	cmd    *exec.Cmd
	server int // its pid
	broker string
}

func startHolder(t *testing.T, dir string) holder {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), holdVar+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	h := holder{cmd: cmd}
	_, err = fmt.Sscanf(line, "ready %d %s", &h.server, &h.broker)
	require.NoError(t, err, line)
	return h
}

func (h holder) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, h.cmd.Process.Kill())
	_ = h.cmd.Wait()
}

// openDir is a temporary folder that any user may enter, as t.TempDir is not.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "tradestore-embedded-")
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return dir
}

func start(t *testing.T, cfg Config) (*Postgres, error) {
	t.Helper()
	cfg.SharedBuffers = "16MB"
	cfg.Scratch = true
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	p, err := Start(ctx, cfg)
	if err == nil {
		t.Cleanup(p.Stop)
	}
	return p, err
}

func mustStart(t *testing.T, dir string) *Postgres {
	t.Helper()
	p, err := start(t, Config{Dir: dir})
	if err != nil && os.Getenv("CI") != "true" && strings.Contains(err.Error(), "no PostgreSQL") {
		t.Skip(err)
	}
	require.NoError(t, err)
	return p
}

func query(t *testing.T, p *Postgres, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL())
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var s string
	if strings.HasPrefix(sql, "SELECT") {
		require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&s))
		return s
	}
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
	return ""
}

func alive(pid int) bool {
	return !strings.Contains("|"+proc.CommandLine(pid)+"|", "||")
}

func TestDataStaysOverARestart(t *testing.T) {
	dir := openDir(t)
	p := mustStart(t, dir)
	require.NoError(t, p.State())
	query(t, p, "CREATE TABLE kept AS SELECT 'yes'::text AS answer")
	url := p.URL()
	p.Stop()
	p.Stop() // again does no harm
	<-p.Done()
	require.ErrorContains(t, p.State(), "stopped")
	require.False(t, alive(p.PID()))

	p = mustStart(t, dir)
	require.Equal(t, url, p.URL(), "password and port are kept")
	require.Equal(t, "yes", query(t, p, "SELECT answer FROM kept"))
	for _, secret := range []string{"password", "postgres.log", "port"} {
		info, err := os.Stat(filepath.Join(p.Dir(), secret))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), secret)
	}
}

func TestPasswordIsNeeded(t *testing.T) {
	p := mustStart(t, openDir(t))
	_, err := pgx.Connect(t.Context(), strings.Replace(p.URL(), p.password, "guess", 1))
	require.ErrorContains(t, err, "password authentication failed")
}

func TestServerThatDiesIsRestarted(t *testing.T) {
	p := mustStart(t, openDir(t))
	query(t, p, "CREATE TABLE kept AS SELECT 'yes'::text AS answer")
	first := p.PID()
	require.NoError(t, syscall.Kill(first, syscall.SIGKILL))
	require.Eventually(t, func() bool { return p.PID() != first && p.PID() != 0 && p.State() == nil }, time.Minute,
		time.Millisecond)
	require.Equal(t, "yes", query(t, p, "SELECT answer FROM kept"))
	select {
	case <-p.Done():
		t.Fatal("done, but not stopped")
	default:
	}
}

func TestStateNamesTheReasonOfARestart(t *testing.T) {
	p := mustStart(t, openDir(t))
	require.NoError(t, os.Rename(filepath.Join(p.Dir(), "data", "global", "pg_control"),
		filepath.Join(p.Dir(), "pg_control")))
	require.NoError(t, syscall.Kill(p.PID(), syscall.SIGKILL))
	require.Eventually(t, func() bool {
		err := p.State()
		return err != nil && strings.Contains(err.Error(), "could not find the database system")
	}, time.Minute, time.Millisecond)
	require.NoError(t, os.Rename(filepath.Join(p.Dir(), "pg_control"),
		filepath.Join(p.Dir(), "data", "global", "pg_control")))
	require.Eventually(t, func() bool { return p.State() == nil }, time.Minute, time.Millisecond)
}

func TestStartGivesUpWithTheReason(t *testing.T) {
	p := mustStart(t, openDir(t))
	p.Stop()
	require.NoError(t, os.Remove(filepath.Join(p.Dir(), "data", "global", "pg_control")))
	_, err := start(t, Config{Dir: p.cfg.Dir})
	require.ErrorContains(t, err, "could not find the database system")
	require.ErrorContains(t, err, "postgres.log")
}

func TestStartStopsWithItsContext(t *testing.T) {
	p := mustStart(t, openDir(t))
	p.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Start(ctx, Config{Dir: p.cfg.Dir})
	require.ErrorIs(t, err, context.Canceled)
	mustStart(t, p.cfg.Dir) // neither locked nor running
}

func TestKilledProcessLeavesNoServerForLong(t *testing.T) {
	dir := openDir(t)
	mustStart(t, filepath.Join(dir, "postgres")).Stop()
	h := startHolder(t, dir)
	h.kill(t)
	p := mustStart(t, filepath.Join(dir, "postgres")) // whether the old one is still stopping or not
	require.False(t, alive(h.server))
	require.NotEqual(t, h.server, p.PID())
}

func TestOrphanIsStopped(t *testing.T) {
	p := mustStart(t, openDir(t))
	p.Stop()
	orphan := p.home.command(p.bin.tool("postgres"), append(p.args, "-p", strconv.Itoa(p.Port()))...)
	require.NoError(t, orphan.Start())
	exit := make(chan error, 1)
	go func() { exit <- orphan.Wait() }()
	require.Eventually(t, func() bool { return p.home.status(orphan.Process.Pid) == "ready" }, time.Minute,
		time.Millisecond)

	next := mustStart(t, p.cfg.Dir)
	require.NoError(t, <-exit, "a fast shutdown, not a kill")
	require.Equal(t, p.Port(), next.Port(), "the orphan's port is free again")
	require.Equal(t, "1", query(t, next, "SELECT 1::text"))
}

func TestDeadServersNoteIsRemoved(t *testing.T) {
	p := mustStart(t, openDir(t))
	p.Stop()
	note := filepath.Join(p.Dir(), "data", "postmaster.pid")
	require.NoError(t, os.WriteFile(note, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)) // the pid is somebody else's now
	require.NoError(t, p.home.as.own(note))
	mustStart(t, p.cfg.Dir)
}

func TestHalfMadeDatabaseIsMadeAgain(t *testing.T) {
	dir := openDir(t)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data.new", "base"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.new", "PG_VERSION"), []byte("16\n"), 0o600))
	p := mustStart(t, dir)
	require.Equal(t, "1", query(t, p, "SELECT 1::text"))
	require.NoDirExists(t, filepath.Join(dir, "data.new"))
}

func TestForeignDataIsNeverTouched(t *testing.T) {
	f := func(version, want string) {
		t.Helper()
		dir := openDir(t)
		data := filepath.Join(dir, "data")
		require.NoError(t, os.Mkdir(data, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(data, "precious"), nil, 0o600))
		if version != "" {
			require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(version), 0o600))
		}
		_, err := start(t, Config{Dir: dir})
		assert.ErrorContains(t, err, want)
		assert.FileExists(t, filepath.Join(data, "precious"))
	}
	f("", "is not a PostgreSQL data folder")
	f("9.6\n", "cannot read the version")
	f("11\n", "data is of PostgreSQL 11")
}

func TestFolderInUse(t *testing.T) {
	p := mustStart(t, openDir(t))
	_, err := start(t, Config{Dir: p.cfg.Dir})
	require.ErrorIs(t, err, proc.ErrLocked)
	require.ErrorIs(t, Remove(t.Context(), p.cfg.Dir), proc.ErrLocked)
	require.NoError(t, p.State(), "the running one is left alone")
}

func TestFolderCannotBeMade(t *testing.T) {
	file := filepath.Join(openDir(t), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := start(t, Config{Dir: filepath.Join(file, "dir")})
	require.ErrorContains(t, err, "cannot make folder")
}

func TestFastGivesUpDurability(t *testing.T) {
	f := func(cfg Config, want string) {
		t.Helper()
		cfg.Dir = openDir(t)
		p, err := start(t, cfg)
		require.NoError(t, err)
		require.Equal(t, want, query(t, p, "SELECT current_setting('fsync')"))
	}
	f(Config{}, "on")
	f(Config{Fast: true}, "off")
}

func TestLogMakesRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, make([]byte, maxLog+1), 0o600))
	log, err := openLog(path)
	require.NoError(t, err)
	defer log.Close()
	info, err := log.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size())
	require.FileExists(t, path+".old")
	_, err = openLog(filepath.Join(path, "below"))
	require.ErrorContains(t, err, "cannot open log")
}

// A server that ignores polite requests is ended all the same.
func TestShutdownLosesPatience(t *testing.T) {
	before := shutdownSteps
	defer func() { shutdownSteps = before }()
	for i := range before {
		shutdownSteps = append(shutdownSteps[:i:i], before[i])
		shutdownSteps[i].limit = time.Millisecond
	}
	cmd := exec.Command("/bin/sh", "-c", "trap '' INT QUIT; echo up; while :; do read -r line; done")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer in.Close()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	server, err := proc.Start(cmd, syscall.SIGKILL)
	require.NoError(t, err)
	_, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	shutdown(server)
	require.False(t, server.State().Success())
}

// listen takes a port.
func listen(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { ln.Close() })
	return ln.Addr().(*net.TCPAddr).Port
}

func TestPortTaken(t *testing.T) {
	p := mustStart(t, openDir(t))
	p.Stop()
	_, err := start(t, Config{Dir: p.cfg.Dir, Port: listen(t)})
	require.ErrorIs(t, err, proc.ErrPortTaken)
	_, err = StartKafka(KafkaConfig{Dir: t.TempDir(), Port: listen(t)})
	require.ErrorIs(t, err, proc.ErrPortTaken)
}
