package cmd

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthcheckAsksTheRoleItself(t *testing.T) {
	status := http.StatusOK
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"status":"of this test"}` + strings.Repeat(" ", 1<<20)))
		case "/readyz/":
			http.NotFound(w, r)
		case "/moved":
			http.Redirect(w, r, "/readyz", http.StatusFound)
		}
	}))
	defer role.Close()
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1") // reserved for documentation: nobody answers
	t.Setenv("TRADESTORE_LISTEN", role.Listener.Addr().String())
	f := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := output(append([]string{"healthcheck"}, args...)...)
		require.Equal(t, code, got, stderr)
		require.Contains(t, stdout+stderr, want)
		require.Less(t, len(stderr), 20<<10)
	}
	f(exitDone, "ready\n")
	f(exitDone, "ready\n", "--url", role.URL+"/readyz")
	f(exitFailed, "404 Not Found", "--url", role.URL+"/readyz/")
	f(exitFailed, "302 Found", "--url", role.URL+"/moved")
	_, port, err := net.SplitHostPort(role.Listener.Addr().String())
	require.NoError(t, err)
	f(exitDone, "ready\n", "--listen", "0.0.0.0:"+port)
	status = http.StatusServiceUnavailable
	f(exitFailed, `503 Service Unavailable: "{\"status\":\"of this test\"}`)
	role.Close()
	f(exitFailed, "connection refused")
	f(exitUsage, "--listen:", "--listen", "8000")
	f(exitUsage, "--url:", "--url", "localhost:8000")
	f(exitUsage, "--timeout:", "--timeout", "0s")
}

func TestHealthcheckFindsTheAddress(t *testing.T) {
	f := func(listen, want string) {
		t.Helper()
		target, err := (&healthcheckCommand{Listen: listen}).Target()
		if want == "" {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, target)
	}
	f("127.0.0.1:8000", "http://127.0.0.1:8000/readyz")
	f("api:8000", "http://api:8000/readyz")
	f(":8001", "http://127.0.0.1:8001/readyz")
	f("0.0.0.0:8001", "http://127.0.0.1:8001/readyz")
	f("[::]:8001", "http://[::1]:8001/readyz")
	f("[fd00::1]:8001", "http://[fd00::1]:8001/readyz")
	f("127.0.0.1:0", "")
	f("127.0.0.1", "")
	f("", "")
}
