package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/loadtest"
	"tradestore/test/program"
	"tradestore/test/stack"
)

// The load test is not blind. Each of these binaries breaks one promise now and then; the run ends with 1, and names
// requests that are the right ones by what the tables say of them.
func TestLoadtestSeesInjectedFaults(t *testing.T) {
	t.Parallel()
	const bySQL, byHTTP = true, false
	f := func(fault string, sql bool, pick func(*loadtest.Reconciliation) loadtest.Offenders, guilty string) {
		t.Helper()
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newInjected(t, fault)
			s.start(t)
			report := s.await(t, s.loadtest(t, sql))
			require.Equal(t, loadtest.Fail, report.Verdict, report.Why)
			s.guilty(t, report, pick(&report.Reconciliation), guilty)
			s.stop(t)
		})
	}
	lost := func(r *loadtest.Reconciliation) loadtest.Offenders { return r.Lost }
	doubled := func(r *loadtest.Reconciliation) loadtest.Offenders { return r.Doubled }
	wrong := func(r *loadtest.Reconciliation) loadtest.Offenders { return r.Wrong }
	f("dropRecord:150", byHTTP, lost, `SELECT request_id FROM journal WHERE reason = 'NOT_DELIVERED'`)
	f("doubleRecord:150", bySQL, doubled,
		`SELECT request_id FROM journal s WHERE NOT EXISTS (SELECT FROM requests r WHERE r.request_id = s.request_id)`)
	f("flipStatus:150", byHTTP, wrong, `SELECT request_id FROM journal WHERE outcome = 'SUCCESS'`)
}

// A server that says 202 before the log has the record loses trades when it is killed.
func TestLoadtestSeesAnEarlyAnswer(t *testing.T) {
	t.Parallel()
	s := newInjected(t, "answerEarly:1")
	s.start(t)
	running := s.loadtest(t, false)
	s.killedUnder(t, running)
	report := s.await(t, running)
	require.Equal(t, loadtest.Fail, report.Verdict, report.Why)
	s.guilty(t, report, report.Reconciliation.Lost, `SELECT request_id FROM journal WHERE reason = 'NOT_DELIVERED'`)
	s.stop(t)
}

// The same kill of the program as it is shipped loses nothing: the test above is red because of the fault.
func TestLoadtestOfTheShippedProgram(t *testing.T) {
	t.Parallel()
	s := newInjected(t, "dropRecord:1") // which it does not know
	s.path = s.build(t)
	s.start(t)
	running := s.loadtest(t, true)
	code := running.Exit(t)
	report := s.report(t, running)
	unharmed(t, report)
	if report.Verdict == loadtest.Void { // the machine was too busy for the load
		t.Log(report.Why)
	} else {
		require.Equal(t, loadtest.Pass, report.Verdict, report.Why)
		require.Zero(t, code)
	}

	running = s.loadtest(t, true)
	s.killedUnder(t, running)
	running.Exit(t)
	report = s.report(t, running)
	unharmed(t, report)
	require.NotZero(t, report.Reconciliation.MayExist, "the kill cut calls off")
	s.stop(t)

	program, err := os.ReadFile(binary(t))
	require.NoError(t, err)
	for _, fault := range []string{"TRADESTORE_INJECT_FAULT", "dropRecord", "doubleRecord", "flipStatus", "answerEarly"} {
		require.False(t, bytes.Contains(program, []byte(fault)), fault)
	}
}

func unharmed(t *testing.T, report *loadtest.Report) {
	t.Helper()
	r := report.Reconciliation
	require.Zero(t, r.Lost.Count+r.Doubled.Count+r.Stuck.Count+r.Wrong.Count, "%+v", r)
	require.Equal(t, r.Accepted, r.Success+r.Failed)
	require.NotZero(t, r.Rows)
}

// newInjected returns a stack of one process that breaks a promise, and soon finds out what was never delivered.
func newInjected(t *testing.T, fault string) *deployment {
	t.Helper()
	s := newDev(t, stack.Database(t))
	s.path = s.build(t, "failpoint")
	s.env = append(s.env, "TRADESTORE_INJECT_FAULT="+fault, "TRADESTORE_ACCEPT_DEADLINE=2s",
		"TRADESTORE_DELIVERY_TIMEOUT=1s",
		"TRADESTORE_ORPHAN_AFTER=6s", "TRADESTORE_ORPHAN_INTERVAL=500ms")
	return s
}

// loadtest starts the load test against the stack. Its limits on time hold on any machine, so that only what became of
// the trades decides.
func (s *deployment) loadtest(t *testing.T, sql bool) *program.Process {
	t.Helper()
	args := []string{"loadtest", "--target", s.API, "--rate", "200", "--duration", "5s", "--warmup", "1s", "--out",
		t.TempDir(),
		"--max-accept-p99", "1m", "--max-final-p99", "1m", "--max-error-rate", "1"}
	var env []string
	if sql {
		env = append(env, "TRADESTORE_DATABASE_URL="+s.Database)
	}
	return launch(t, "loadtest", binary(t), env, args...)
}

// killedUnder kills the stack in the middle of a load test, and starts it again.
func (s *deployment) killedUnder(t *testing.T, running *program.Process) {
	t.Helper()
	db := s.connect(t)
	decided := func() (n int) {
		require.NoError(t, db.QueryRow(t.Context(), `SELECT count(*) FROM journal`).Scan(&n))
		return n
	}
	before := decided()
	require.True(t, poll(t, drainLimit, func() bool { return !running.Running() || decided() > before+200 }))
	require.True(t, running.Running(), "%s", running.Tail())
	s.kill()
	s.start(t)
}

// await waits for a load test that has to end with 1, and reads its report.
func (s *deployment) await(t *testing.T, running *program.Process) *loadtest.Report {
	t.Helper()
	require.Equal(t, 1, running.Exit(t), "%s", running.Tail())
	return s.report(t, running)
}

func (s *deployment) report(t *testing.T, running *program.Process) *loadtest.Report {
	t.Helper()
	var out string
	for i, arg := range running.Args {
		if arg == "--out" {
			out = running.Args[i+1]
		}
	}
	found, err := filepath.Glob(filepath.Join(out, "*", "report.json"))
	require.NoError(t, err)
	require.Len(t, found, 1, "%s", running.Tail())
	text, err := os.ReadFile(found[0])
	require.NoError(t, err)
	var report loadtest.Report
	require.NoError(t, json.Unmarshal(text, &report))
	return &report
}

var namedRequest = regexp.MustCompile(`request ([0-9a-f-]{36})`)

// guilty expects that the offenders are named, that each of them is among the requests that the statement finds, and
// that nothing else is wrong.
func (s *deployment) guilty(t *testing.T, report *loadtest.Report, offenders loadtest.Offenders, statement string) {
	t.Helper()
	r := report.Reconciliation
	require.NotZero(t, offenders.Count, "%+v", r)
	require.Equal(t, offenders.Count, r.Lost.Count+r.Doubled.Count+r.Stuck.Count+r.Wrong.Count, "%+v", r)
	require.NotEmpty(t, offenders.First)
	db := s.connect(t)
	for _, text := range offenders.First {
		named := namedRequest.FindStringSubmatch(text)
		require.NotNil(t, named, text)
		var n int
		require.NoError(t, db.QueryRow(t.Context(),
			fmt.Sprintf(`SELECT count(*) FROM (%s) AS guilty WHERE request_id = $1::uuid`, statement), named[1]).Scan(&n))
		require.Equal(t, 1, n, text)
	}
	t.Logf("%d offenders: %q", offenders.Count, offenders.First)
}
