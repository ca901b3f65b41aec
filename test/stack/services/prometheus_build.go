package services

import (
	"context"
	_ "embed" // prometheus.mod and .sum
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Prometheus and its promtool are built from a module of their own, so that what they depend on stays out of ours. To
// move to another version, in the root of the repository:
//
//	go get -modfile=test/stack/services/prometheus.mod -tool github.com/prometheus/prometheus/cmd/...@VERSION
//
//go:embed prometheus.mod
var prometheusMod string

//go:embed prometheus.sum
var prometheusSum string

// prometheusFlags leave out the discovery of cloud services, which halves the build time. The module has no user
// interface.
var prometheusFlags = []string{"-tags", "remove_all_sd", "-ldflags", "-s -w"}

const buildLimit = 5 * time.Minute // 100 s on two cores that have nothing else to do

// FetchPrometheus returns the folder with the programs prometheus and promtool. The first time on a machine they are
// built, which takes some minutes. cache may be empty. Errors: ErrMissing.
func FetchPrometheus(ctx context.Context, cache string) (dir string, err error) {
	text := prometheusMod + prometheusSum + strings.Join(prometheusFlags, " ")
	dir, err = recipe{kind: "tools", name: "prometheus", text: text, fill: buildPrometheus}.ensure(ctx, cache)
	if err != nil {
		return "", fmt.Errorf("%w: cannot build Prometheus: %w", ErrMissing, err)
	}
	return dir, nil
}

func buildPrometheus(ctx context.Context, dir string) error {
	compiler, err := exec.LookPath("go")
	if err != nil {
		return fmt.Errorf("no Go found: %w", err)
	}
	for name, text := range map[string]string{"go.mod": prometheusMod, "go.sum": prometheusSum} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, buildLimit,
		fmt.Errorf("it takes longer than %v; the next try goes on from there", buildLimit))
	defer cancel()
	// Flags that the caller has set are not meant for this module.
	args := append([]string{"GOFLAGS=", "GOWORK=off", compiler, "build", "-o", dir}, prometheusFlags...)
	return runTool(ctx, dir, "env", append(args, "tool")...)
}
