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

// Build returns the path of the program with the build tags given, as users have it: at its full speed. It is built
// once per test binary, and for coverage where GOCOVERDIR names a folder (a process that is killed writes none). It
// lies beside the test binary, whose folder `go test` deletes.
func Build(t testing.TB, tags ...string) string {
	t.Helper()
	return buildOnce(t, false, tags)
}

// BuildRace is Build with the race detector, where the test binary has it too. Such a program is many times slower.
func BuildRace(t testing.TB, tags ...string) string {
	t.Helper()
	return buildOnce(t, raceDetector, tags)
}

func buildOnce(t testing.TB, race bool, tags []string) string {
	t.Helper()
	name := strings.Join(append([]string{"tradestore"}, tags...), "-")
	if race {
		name += "-race"
	}
	once, _ := builds.LoadOrStore(name,
		sync.OnceValues(func() (string, error) { return build(name, strings.Join(tags, ","), race) }))
	path, err := once.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func build(name, tags string, race bool) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	out := filepath.Join(filepath.Dir(self), name)
	args := []string{"build", "-o", out, "-tags", tags}
	if race {
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
