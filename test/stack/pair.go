package stack

import (
	"context"
	"errors"
	"fmt"

	"net/url"
	"os"
	osexec "os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tradestore/internal/dev/embedded"
	"tradestore/internal/proc"
)

// Pair is a PostgreSQL server that takes writes and a standby that follows it by streaming replication. Nothing
// restarts them: a server that is killed stays dead.
type Pair struct {
	Writer, Standby *Server
	t               testing.TB
}

// Server is one of them.
type Server struct {
	*proc.Child
	URL string // of this server alone, as a superuser
}

// pairLimit bounds each wait for a server of a pair.
const pairLimit = 2 * time.Minute

// NewPair starts a pair and stops it at the end of the test. With synchronous, a commit waits until the standby has it.
// Where no server can run the test is skipped, and with CI=true fails.
func NewPair(t testing.TB, synchronous bool) *Pair {
	t.Helper()
	// An embedded server makes the cluster and knows its programs and its password, and is stopped again.
	first := OwnPostgres(t)
	writer := cluster{password: password(t, first), port: freePort(t)}
	query(t, first.URL(), "SHOW data_directory", &writer.data)
	query(t, first.URL(), "SELECT setting FROM pg_config WHERE name = 'BINDIR'", &writer.programs)
	first.Stop()
	p := &Pair{t: t}
	p.Writer = writer.start(t, "wal_keep_size=1GB")
	standby := writer.backUp(t, p.Writer.URL)
	p.Standby = standby.start(t, "primary_conninfo="+fmt.Sprintf(
		"host=127.0.0.1 port=%d user=tradestore password=%s application_name=standby", writer.port, writer.password))
	if synchronous { // not in the settings of the standby: it has none after the failover
		exec(t, p.Writer.URL, "ALTER SYSTEM SET synchronous_standby_names = 'standby'")
		exec(t, p.Writer.URL, "SELECT pg_reload_conf()")
	}
	state := map[bool]string{false: "async", true: "sync"}[synchronous]
	eventually(t, "the standby follows", func() bool {
		var following bool
		query(t, p.Writer.URL, `SELECT EXISTS (SELECT FROM pg_stat_replication
			WHERE state = 'streaming' AND sync_state = '`+state+`')`, &following)
		return following
	})
	return p
}

// URL is that of both servers, as a client has it that looks for the one that takes writes.
func (p *Pair) URL() string {
	one, two := parse(p.t, p.Writer.URL), parse(p.t, p.Standby.URL)
	one.Host += "," + two.Host
	one.RawQuery += "&target_session_attrs=read-write"
	return one.String()
}

// Detach freezes the process that sends to the standby: what the writer commits from now on is lost with it.
func (p *Pair) Detach() {
	p.t.Helper()
	var sender int
	query(p.t, p.Writer.URL, "SELECT pid FROM pg_stat_replication", &sender)
	if err := syscall.Kill(sender, syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = syscall.Kill(sender, syscall.SIGKILL) }) // usually gone with the writer
}

// Promote makes the standby take writes.
func (p *Pair) Promote() {
	p.t.Helper()
	exec(p.t, p.Standby.URL, "SELECT pg_promote()")
}

// cluster is a data folder and what it takes to run a server on it.
type cluster struct {
	data, programs, password string
	port                     int
}

func (c cluster) url() string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("tradestore", c.password), Path: "tradestore",
		Host: proc.Loopback(c.port), RawQuery: "sslmode=disable",
	}
	return u.String()
}

// command runs a program as the owner of the data folder: PostgreSQL refuses root.
func (c cluster) command(t testing.TB, name string, args ...string) *osexec.Cmd {
	t.Helper()
	cmd := osexec.Command(name, args...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	info, err := os.Stat(c.data)
	if err != nil {
		t.Fatal(err)
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
	}
	return cmd
}

// start starts a server and returns when it answers.
func (c cluster) start(t testing.TB, settings ...string) *Server {
	t.Helper()
	args := []string{"-D", c.data, "-p", strconv.Itoa(c.port)}
	for _, setting := range append([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=200", "shared_buffers=64MB",
		"timezone=UTC", "log_timezone=UTC",
	}, settings...) {
		args = append(args, "-c", setting)
	}
	path := c.data + ".log"
	log, err := proc.OpenLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the server has its own copy
	cmd := c.command(t, filepath.Join(c.programs, "postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	child, err := proc.Start(cmd, syscall.SIGQUIT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Signal(syscall.SIGQUIT) // an immediate shutdown: the data is thrown away
		select {
		case <-child.Done():
		case <-time.After(pairLimit):
			child.Kill()
		}
		if t.Failed() {
			t.Log(proc.Tail(path, 20))
		}
	})
	eventually(t, "the server answers", func() bool {
		if !child.Running() {
			t.Fatal(proc.Tail(path, 20))
		}
		conn, err := pgx.Connect(context.Background(), c.url())
		if err == nil {
			_ = conn.Close(context.Background())
		}
		return err == nil
	})
	return &Server{Child: child, URL: c.url()}
}

// backUp copies the cluster while its server runs. The copy is a standby that is not started yet.
func (c cluster) backUp(t testing.TB, from string) cluster {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, from)
	if err == nil {
		_, err = conn.Exec(ctx, "SELECT pg_backup_start('standby', true)")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	into := cluster{data: c.data + "-standby", programs: c.programs, password: c.password, port: freePort(t)}
	if out, err := osexec.Command("cp", "-a", c.data, into.data).CombinedOutput(); err != nil &&
		!strings.Contains(string(out), "No such file") { // a file that went away meanwhile is in the log
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _ = os.RemoveAll(into.data) })
	var label string
	if err := conn.QueryRow(ctx, "SELECT labelfile FROM pg_backup_stop()").Scan(&label); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(into.data, "postmaster.pid"))
	old, _ := filepath.Glob(filepath.Join(into.data, "pg_wal", "0*")) // the standby asks the writer for the log
	for _, segment := range old {
		_ = os.Remove(segment)
	}
	err = errors.Join(os.WriteFile(filepath.Join(into.data, "backup_label"), []byte(label), 0o644),
		os.WriteFile(filepath.Join(into.data, "standby.signal"), nil, 0o644))
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		owner := c.data
		if out, err := osexec.Command("chown", "-R", "--reference="+owner, into.data).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return into
}

func password(t testing.TB, p *embedded.Postgres) string {
	t.Helper()
	password, _ := parse(t, p.URL()).User.Password()
	return password
}

func parse(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := proc.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// query reads one value.
func query(t testing.TB, server, statement string, into any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), pairLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, statement).Scan(into); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func eventually(t testing.TB, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(pairLimit); !reached(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain: " + what)
		}
	}
}
