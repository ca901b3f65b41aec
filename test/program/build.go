// Package program builds the command for tests, and runs it as a process.
package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// builds holds what this test binary has built, by build tags.
var builds sync.Map // string -> func() (string, error)

// Build returns the path of the program, built once per test binary with the tags given and like the tests themselves:
// with the race detector where they have it, and for coverage where GOCOVERDIR names a folder (a process that is killed
// writes none). It lies beside the test binary, whose folder `go test` deletes.
func Build(t testing.TB, tags ...string) string {
	t.Helper()
	name := strings.Join(append([]string{"tradestore"}, tags...), "-")
	once, _ := builds.LoadOrStore(name,
		sync.OnceValues(func() (string, error) { return build(name, strings.Join(tags, ",")) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

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
	cmd := exec.Command("go", append(args, "tradestore")...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build %s: %w\n%s", name, err, text)
	}
	return out, nil
}
