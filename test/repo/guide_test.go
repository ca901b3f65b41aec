//go:build !production

package repo

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"tradestore/test/program"
	"tradestore/test/stack"
)

// asDocumented runs a block of a document. A stream without an end is left after a while.
const asDocumented = `
curl() {
	local code=0
	local limit=60
	[[ " $* " != *" -N "* ]] || limit=2
	command curl --silent --show-error --max-time $limit --write-out '\n%{http_code}\n' "$@" || code=$?
	[[ $code == 0 || $code == 28 && " $* " == *" -N "* ]]
}
set -e
`

var (
	fenceLine  = regexp.MustCompile("(?m)^```[a-z]*\n")
	statusLine = regexp.MustCompile(`^HTTP/1\.1 (\d{3}) `)
	statusSeen = regexp.MustCompile(`(?m)^(\d{3})$`)
	idSeen     = regexp.MustCompile(`"request_id":"([0-9a-f-]{36})"`)
)

// TestGuideCanBeFollowed runs every curl of the guide, and then of the README, from top to bottom on one stack. Where
// the answer is shown below it, the status has to be that one; any other call has to succeed.
func TestGuideCanBeFollowed(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("there is no curl on this machine")
	}
	api := startDev(t)
	temp := t.TempDir()
	trades := ""
	for _, id := range []string{"N1", "N2"} {
		trades += `{"trade_id":"` + id + `","version":1,"counterparty_id":"CP-1","book_id":"B1",` +
			`"maturity_date":"2099-12-31","created_date":"2026-11-23"}` + "\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(temp, "trades.ndjson"), []byte(trades), 0o600))
	id, ran := "", 0
	for _, document := range []string{"docs/api.md", "README.md"} {
		parts := fenceLine.Split(string(read(t, document)), -1) // text and blocks in turn
		for i, part := range parts {
			if !strings.HasPrefix(part, "curl ") {
				continue
			}
			script := strings.NewReplacer("http://127.0.0.1:8000", api, "REQUEST_ID", id,
				"as_of=2026-11-23T09:00:00Z", "as_of="+time.Now().UTC().Format(time.RFC3339Nano)).Replace(part)
			cmd := exec.Command("bash", "-c", asDocumented+script)
			cmd.Dir = temp
			cmd.Env = append(os.Environ(), "CURSOR="+cursor(t, api))
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s: %s\n%s", document, script, out)
			want := ""
			if i+2 < len(parts) && strings.Contains(script, " -i ") {
				if line := statusLine.FindStringSubmatch(parts[i+2]); line != nil {
					want = line[1]
				}
			}
			statuses := statusSeen.FindAllStringSubmatch(string(out), -1)
			require.NotEmpty(t, statuses, "%s: %s\n%s", document, script, out)
			for _, status := range statuses {
				require.True(t, status[1] == want || want == "" && status[1] < "400", "%s: %s\n%s", document, script, out)
			}
			ran++
			if made := idSeen.FindSubmatch(out); made != nil && strings.Contains(script, " -d '") { // a POST
				id = string(made[1])
				awaitEnd(t, api+"/api/v1/requests/"+id)
			}
		}
	}
	require.Greater(t, ran, 15)
}

// startDev starts `tradestore dev` until the end of the test and returns the address of its API.
func startDev(t *testing.T) string {
	t.Helper()
	dir, err := stack.Dir() // PostgreSQL can use it whoever runs the tests
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	dev := program.Start(t, "dev", program.Build(t), nil,
		"dev", "--data-dir", dir, "--listen", "127.0.0.1:0", "--worker-listen", "127.0.0.1:0")
	t.Cleanup(func() {
		require.NoError(t, dev.Signal(syscall.SIGINT))
		require.Zero(t, dev.Exit(t), dev.Tail())
	})
	require.Eventually(t, func() bool { return strings.Contains(dev.Output(t), "Ctrl-C") }, 5*program.Patience,
		10*time.Millisecond)
	var note struct{ API string }
	require.NoError(t, json.Unmarshal(read(t, filepath.Join(dir, "dev.json")), &note))
	return note.API
}

// cursor returns one for the list without a filter; nothing while there is no second page.
func cursor(t *testing.T, api string) string {
	t.Helper()
	var page struct {
		Next string `json:"next_cursor"`
	}
	getJSON(t, api+"/api/v1/trades?limit=1", &page)
	return page.Next
}

// awaitEnd waits until a request is decided: what a person takes to read on is enough for that.
func awaitEnd(t *testing.T, request string) {
	t.Helper()
	require.Eventually(t, func() bool {
		var state struct{ Status string }
		getJSON(t, request, &state)
		return state.Status == "SUCCESS" || state.Status == "FAILED"
	}, program.Patience, 10*time.Millisecond)
}

func getJSON(t *testing.T, url string, into any) {
	t.Helper()
	answer, err := http.Get(url) //nolint:gosec // of the stack that the test started
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	require.NoError(t, json.NewDecoder(answer.Body).Decode(into))
}
