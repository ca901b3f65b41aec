//go:build !production

package cmd

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHelpOfDev(t *testing.T) {
	code, help, _ := output("dev", "--help")
	require.Equal(t, exitDone, code)
	for _, text := range []string{
		`--listen="127.0.0.1:8000"`, `--worker-listen="127.0.0.1:8001"`, `--data-dir="./tradestore-data"`, "--kafka-port=0",
		"--postgres-port=0",
		"--database-url=", "--log-level", "--log-format", "$TRADESTORE_DATA_DIR",
	} {
		require.Contains(t, help, text)
	}
}

func TestDevSaysInOneLineWhichFlagIsWrong(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	f := func(code int, want string, args ...string) {
		t.Helper()
		got, stdout, stderr := output(append([]string{"dev", "--data-dir", t.TempDir()}, args...)...)
		require.Equal(t, code, got)
		require.Empty(t, stdout)
		require.Contains(t, stderr, want)
	}
	f(exitFailed, "choose another with --listen\n", "--listen", taken.Addr().String())
	f(exitFailed, "choose another with --worker-listen\n", "--listen", "127.0.0.1:0", "--worker-listen",
		taken.Addr().String())
	f(exitUsage, "--kafka-port:", "--kafka-port", "70000")
	f(exitUsage, "--lanes: 0 is not between", "--lanes", "0")

	_, _, stderr := output("dev", "--data-dir", t.TempDir(), "--listen", taken.Addr().String())
	require.Equal(t, 1, strings.Count(stderr, "\n"))
}
