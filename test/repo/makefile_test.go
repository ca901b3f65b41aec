package repo

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// What the Makefile stamps into the program is what the program says of itself.
func TestTheMakefileStampsTheVersion(t *testing.T) {
	t.Parallel()
	stamps := []string{"GO=go", "VERSION=v7.6.5-4-gdef", "COMMIT=0123456789abcdef"}
	line, err := exec.Command("make", append([]string{"--no-print-directory", "-n", "build"}, stamps...)...).Output()
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "tradestore")
	require.Contains(t, string(line), " -o tradestore ")
	build := exec.Command("sh", "-c", strings.Replace(string(line), " -o tradestore ", " -o '"+program+"' ", 1))
	said, err := build.CombinedOutput()
	require.NoError(t, err, "%s", said)
	text, err := exec.Command(program, "version").Output()
	require.NoError(t, err)
	require.Regexp(t, `^tradestore v7\.6\.5-4-gdef\ncommit     0123456789abcdef\n`, string(text))
}
