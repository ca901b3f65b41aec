package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "tradestore"

// mayImport says which packages of ours each one imports. The domain stands alone, the two lines know the domain and
// Kafka, adapters know the domain, and only internal/app puts them together. A new package has to find its place here.
var mayImport = map[string][]string{
	"": {"cmd"}, // the command

	"trade":        {},
	"trade/corpus": {}, // for tests
	"migrations":   {},
	"dynamo":       {"trade", "internal/telemetry", "internal/checks"},
	"kafka":        {"trade", "internal/failpoint", "internal/checks"},
	"postgres":     {"trade", "internal/failpoint", "migrations", "internal/checks"},
	"server": {"trade", "internal/failpoint", "kafka", "internal/openapi", "internal/settings",
		"internal/telemetry"},
	"worker": {"trade", "internal/failpoint", "kafka", "internal/settings", "internal/telemetry",
		"internal/checks"},
	"loadtest": {"trade", "internal/apiclient", "internal/proc"},
	"cmd": {"trade", "internal/apiclient", "internal/app", "internal/checks", "internal/dev",
		"internal/dev/embedded", "internal/telemetry", "loadtest", "postgres"},
	"bench": {"trade", "internal/app", "internal/dev/embedded", "internal/proc", "internal/settings",
		"internal/telemetry", "kafka", "loadtest", "postgres", "server", "worker",
		"test/stack/otlp", "test/stack/services"},

	"docs/generate":             {"cmd", "internal/reference"}, // `make docs`
	"dashboards":                {"dashboards/rules"},
	"dashboards/generate":       {"dashboards"}, // `make dashboards`
	"dashboards/rules":          {},
	"dashboards/rules/generate": {"dashboards/rules"}, // `make rules`
	"dashboards/live":           {},                   // tests alone

	"internal/apiclient": {"trade"},
	"internal/app": {"trade", "dynamo", "kafka", "postgres", "server", "worker", "internal/telemetry",
		"internal/checks", "internal/settings"},
	"internal/checks": {"trade"},
	"internal/dev": {"internal/dev/embedded", "internal/apiclient", "internal/proc", "internal/app",
		"internal/settings", "server", "worker"},
	"internal/dev/embedded":     {"internal/proc"},
	"internal/failpoint":        {},
	"internal/openapi":          {},
	"internal/openapi/contract": {"internal/openapi"}, // for tests
	"internal/proc":             {},
	"internal/reference":        {}, // of `make docs`
	"internal/settings":         {},
	"internal/telemetry":        {},

	"test/cleanenv":    {},
	"test/conformance": {"trade"}, // the contracts of the interfaces, as tests
	"test/e2e": {"trade", "kafka", "internal/apiclient", "internal/openapi/contract", "test/stack",
		"internal/dev/embedded"},
	"test/program":        {"internal/proc"},
	"test/repo":           {}, // tests alone
	"test/stack":          {"internal/dev/embedded", "internal/proc", "test/cleanenv", "test/stack/services"},
	"test/stack/services": {"internal/proc"},
	"test/stack/otlp":     {},                                                                // of traces
	"test/stack/promtool": {"test/stack/services"},                                           // `make promtool`
	"test/stack/run":      {"internal/dev/embedded", "internal/proc", "test/stack/services"}, // `make stack`
}

// embeds are the packages that may link the broker and the database that run inside a process.
var embeds = []string{"", "cmd", "internal/dev", "internal/dev/embedded", "test/stack", "test/stack/run", "test/e2e",
	"bench", "docs/generate"}

var inProcess = []string{"github.com/twmb/franz-go/pkg/kfake", "github.com/fergusstrange/embedded-postgres"}

// listed is what the Go tool says of a package, tests left out.
type listed struct {
	ImportPath string
	Imports    []string // directly
	Deps       []string // of these and of theirs
}

// place returns the path below the module, and whether the package is ours.
func place(path string) (string, bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func list(t *testing.T, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, args...)...)
	var failure bytes.Buffer
	cmd.Stderr = &failure
	out, err := cmd.Output()
	require.NoError(t, err, failure.String())
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return packages
		}
		require.NoError(t, err)
		packages = append(packages, p)
	}
}

func TestPackagesImportInOneDirection(t *testing.T) {
	for _, p := range list(t, "./...") {
		name, _ := place(p.ImportPath)
		allowed, known := mayImport[name]
		if !assert.True(t, known, "say in mayImport what %s may import", p.ImportPath) {
			continue
		}
		for _, path := range p.Imports {
			if ours, ok := place(path); ok {
				assert.Contains(t, allowed, ours, "%s must not import %s", p.ImportPath, path)
			}
		}
		for _, path := range inProcess {
			if slices.Contains(p.Deps, path) {
				assert.Contains(t, embeds, name, "%s must not link %s", p.ImportPath, path)
			}
		}
	}
}

func TestDomainImportsNothingButItsDecoder(t *testing.T) {
	for _, path := range list(t, "./trade")[0].Imports {
		if strings.Contains(path, ".") {
			assert.Equal(t, "github.com/goccy/go-json", path)
		}
	}
}

func TestProductionLinksNothingEmbedded(t *testing.T) {
	production := list(t, "-tags", "production", ".")[0].Deps
	require.Contains(t, production, "tradestore/server")
	for _, path := range append(slices.Clone(inProcess), "tradestore/internal/dev", "tradestore/dev/embedded",
		"tradestore/test/stack", "testing") {
		assert.NotContains(t, production, path)
	}
	require.Contains(t, list(t, ".")[0].Deps, inProcess[0], "else this test proves nothing")
}

// Older releases have faults that lose records, rows or bytes. For franz-go it is rule C4: before v1.22.2 a record that
// was never written could be acknowledged.
func TestModulesAreNotOlderThanTheirFixes(t *testing.T) {
	f := func(path, floor string) {
		t.Helper()
		out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
		require.NoError(t, err)
		have := strings.TrimSpace(string(out))
		require.GreaterOrEqual(t, slices.Compare(numbers(t, have), numbers(t, floor)), 0, "%s %s is older than %s", path,
			have, floor)
	}
	f("github.com/twmb/franz-go", "v1.22.2")
	f("github.com/jackc/pgx/v5", "v5.12.0")
	f("github.com/goccy/go-json", "v0.12.0")
}

func numbers(t *testing.T, version string) []int {
	t.Helper()
	parts := strings.Split(strings.TrimPrefix(version, "v"), ".")
	require.Len(t, parts, 3, version)
	n := make([]int, 3)
	for i, part := range parts {
		var err error
		n[i], err = strconv.Atoi(part)
		require.NoError(t, err, version)
	}
	return n
}
