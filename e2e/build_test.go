package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each binary is built once per test run, beside the test binary: `go test` deletes that folder when it ends. It is
// built like the tests themselves: with the race detector where they have it, and for coverage where GOCOVERDIR names
// a folder (a process that is killed writes none).
var (
	shipped  = sync.OnceValues(func() (string, error) { return build("tradestore", "") })
	breaking = sync.OnceValues(func() (string, error) { return build("tradestore-failpoint", "failpoint") })
)

func build(name, tags string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	out := filepath.Join(filepath.Dir(self), name)
	args := []string{"build", "-o", out, "-tags", tags}
	if raceDetector {
		args = append(args, "-race")
	}
	if os.Getenv("GOCOVERDIR") != "" {
		args = append(args, "-cover", "-coverpkg=./...")
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = ".." // the module's root: tests run in the folder of their package
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build %s: %w\n%s", name, err, text)
	}
	return out, nil
}

// binary returns the program as it is shipped.
func binary(t *testing.T) string {
	t.Helper()
	path, err := shipped()
	require.NoError(t, err)
	return path
}

// breakingBinary returns the program with failpoints.
func breakingBinary(t *testing.T) string {
	t.Helper()
	path, err := breaking()
	require.NoError(t, err)
	return path
}
