package services

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

// holdVar makes this test binary start a child, say its pid and panic when its input ends.
const holdVar = "SERVICES_TEST_HOLD"

func TestMain(m *testing.M) {
	if log := os.Getenv(holdVar); log != "" {
		child, err := launch(exec.Command("sleep", "600"), log)
		if err != nil {
			panic(err)
		}
		fmt.Println(child.PID())
		_, _ = os.Stdin.Read(make([]byte, 1))
		panic("on purpose")
	}
	os.Exit(m.Run())
}

// within bounds a start, with the download.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// needJava skips on a laptop without Java or Maven.
func needJava(t *testing.T) string {
	t.Helper()
	java, err := findJava(t.Context())
	if err == nil {
		_, err = exec.LookPath("mvn")
	}
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
	require.NoError(t, err)
	return java
}

func alive(pid int) bool { return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// listens says whether somebody accepts connections there.
func listens(host string, port int) bool {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, fmt.Sprint(port)), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}
