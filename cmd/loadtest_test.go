package cmd

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/loadtest"
)

func TestHelpOfLoadtest(t *testing.T) {
	code, help, _ := output("loadtest", "--help")
	require.Equal(t, exitDone, code)
	for _, text := range []string{
		"--rate=1000", "--duration=60s", "--warmup=5s", `--generator="auto"`, "--max-accept-p99=100ms",
		"$TRADESTORE_MAX_ACCEPT_P99",
		"--max-final-p99=1s", "--max-error-rate=0.001", "--drain-timeout=60s", `--out="./loadtest-report"`, "--find-capacity",
		"Load", "Objectives",
		"tradestore loadtest --target http://127.0.0.1:8000",
	} {
		require.Contains(t, help, text)
	}
}

func TestMistakesInLoadtest(t *testing.T) {
	f := func(args string, want ...string) {
		t.Helper()
		code, stdout, stderr := output(append([]string{"loadtest", "--target", "http://127.0.0.1:1"},
			strings.Fields(args)...)...)
		require.Equal(t, exitUsage, code)
		require.Empty(t, stdout)
		for _, text := range append(want, "tradestore loadtest: cannot use these settings:",
			"'tradestore loadtest --help' lists every setting") {
			require.Contains(t, stderr, text)
		}
	}
	f("--rate fast --duration long", `--rate: expected a float but got "fast"`, "--duration: expected duration")
	f("--rate 0 --stages 5 --generator k6", "--rate: 0 is not between", `--stages: stage "5" has no duration`,
		`--generator: "k6" is not one of auto, vegeta, light`)
	f("--seed -1", "--seed: ")
	f("--target ftp://h --database-url "+goodURL+"/x --worker-url h:1", "--target: not a URL like",
		"--worker-url: not a URL like")
	f("--find-capacity --stages 5/5s", "--stages: --find-capacity chooses the rates itself")

	code, _, stderr := output("loadtest", "--worker-url", "http://127.0.0.1:1")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--worker-url: belongs to a --target")
	_, _, stderr = output("loadtest", "--target", "", "--rate", "0")
	require.Equal(t, !hasDev, strings.Contains(stderr, "--target: required, because this build has no embedded stack"))
}

func TestLoadtestOfATargetThatIsDown(t *testing.T) {
	notReady := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "database: unavailable", http.StatusServiceUnavailable)
	}))
	defer notReady.Close()
	f := func(target, want string) {
		t.Helper()
		code, stdout, stderr := output("loadtest", "--target", target, "--out", t.TempDir())
		require.Equal(t, exitFailed, code)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "tradestore: the target is not ready (--target): ")
		require.Contains(t, stderr, want)
		require.Equal(t, 1, strings.Count(stderr, "\n"))
	}
	f("http://127.0.0.1:1", "refused")
	f(notReady.URL, "503 Service Unavailable: database: unavailable")
}

// A target that answers everything with 200 keeps no promise: exit code 1, and a report that says so.
func TestLoadtestOfSomethingElse(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer other.Close()
	out := t.TempDir()
	code, stdout, stderr := output("loadtest", "--target", other.URL, "--out", out, "--rate", "20", "--duration", "1s",
		"--warmup", "0s", "--json")
	require.Equal(t, exitFailed, code)
	require.NotContains(t, stderr, "tradestore: ", "the report says why")
	var r loadtest.Report
	require.NoError(t, json.Unmarshal([]byte(stdout), &r))
	require.Equal(t, loadtest.Fail, r.Verdict)
	require.NotEmpty(t, r.Why)
	require.Contains(t, r.Settings, loadtest.Setting{Name: "rate", Value: "20"})
}
