package repo

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"tradestore/cmd"
	"tradestore/internal/reference"
)

// The documents are part of the product: what they name must exist.

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence      = regexp.MustCompile("(?ms)^```.*?\\n```$")
	notInSlugs = regexp.MustCompile("[^a-z0-9 _-]")
	ruleID     = regexp.MustCompile(`\b[PSAECBIRKT][1-9][0-9]?\b`)
	foreign    = regexp.MustCompile("(?:docker compose|curl) [^`\\n]*") // their flags are not ours
	flagName   = regexp.MustCompile(`--[a-z][a-z0-9-]+`)
	code       = regexp.MustCompile(`Code += "([A-Z_]+)"`)
	codeInText = regexp.MustCompile(`\b[A-Z]+(?:_[A-Z]+)+\b`)
	ruleHome   = regexp.MustCompile(`(?m)^(?:- \*\*|\| )([PSAECBIRKT][1-9][0-9]?)\b`)
)

// noSource are folders that the program and its tools write.
var noSource = []string{"tradestore-data", "coverage", "bin", "loadtest-report"}

// files returns the files of the repository with the ending given, outside of folders that hold no source.
func files(t *testing.T, ending string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || slices.Contains(noSource, d.Name())):
			return filepath.SkipDir
		case strings.HasSuffix(path, ending):
			found = append(found, path)
		}
		return nil
	}))
	require.NotEmpty(t, found)
	return found
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

// anchors returns the names under which the headings of a document can be linked, as GitHub makes them.
func anchors(document []byte) map[string]bool {
	found := map[string]bool{}
	for _, h := range heading.FindAllSubmatch(fence.ReplaceAll(document, nil), -1) {
		slug := notInSlugs.ReplaceAll(bytes.ToLower(h[1]), nil)
		found[string(bytes.ReplaceAll(slug, []byte(" "), []byte("-")))] = true
	}
	return found
}

func TestLinksResolve(t *testing.T) {
	for _, document := range files(t, ".md") {
		text := read(t, document)
		for _, m := range link.FindAllSubmatch(fence.ReplaceAll(text, nil), -1) {
			target := string(m[1])
			if strings.Contains(target, "://") {
				continue
			}
			path, anchor, _ := strings.Cut(target, "#")
			to := document
			if path != "" {
				to = filepath.Join(filepath.Dir(document), path)
			}
			info, err := os.Stat(to)
			if !assert.NoError(t, err, "%s links to %s", document, target) || anchor == "" || info.IsDir() {
				continue
			}
			assert.Contains(t, anchors(read(t, to)), anchor, "%s links to %s", document, target)
		}
	}
}

// Comments name rules by id; the reader finds each of them in the design.
func TestRulesInCommentsAreDefined(t *testing.T) {
	defined := map[string]bool{}
	for _, m := range ruleHome.FindAllSubmatch(read(t, "docs/design.md"), -1) {
		assert.False(t, defined[string(m[1])], "docs/design.md defines rule %s twice", m[1])
		defined[string(m[1])] = true
	}
	sources := append(files(t, ".go"), files(t, ".sql")...)
	for _, source := range sources {
		for n, line := range bytes.Split(read(t, source), []byte("\n")) {
			_, comment, ok := bytes.Cut(line, []byte("//"))
			if !ok {
				_, comment, _ = bytes.Cut(line, []byte("-- "))
			}
			for _, id := range ruleID.FindAll(comment, -1) {
				assert.True(t, defined[string(id)], "%s:%d names rule %s, which docs/design.md does not define", source, n+1, id)
			}
		}
	}
}

// commands returns the flags of every subcommand of this build by name, with their defaults.
func commands(t *testing.T) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	model, err := cmd.Model()
	require.NoError(t, err)
	for _, command := range model.Children {
		found[command.Name] = map[string]string{}
		for _, flag := range command.Flags {
			found[command.Name][flag.Name] = flag.Default
		}
	}
	return found
}

// docs/configuration.md lists every flag of every command: it is what 'make docs' writes.
func TestConfigurationIsGenerated(t *testing.T) {
	model, err := cmd.Model()
	require.NoError(t, err)
	if len(commands(t)["dev"]) == 0 {
		t.Skip("a production build has no dev, whose flags the document lists")
	}
	written := string(read(t, "docs/configuration.md"))
	require.Equal(t, string(reference.Configuration(model)), written, "run 'make docs'")
	for command, flags := range commands(t) {
		for name, value := range flags {
			if name == "help" {
				continue
			}
			if value != "" {
				value = "`" + value + "`"
			}
			row := "(?m)^\\| `--" + name + "` \\|.*\\| " + regexp.QuoteMeta(value) + " \\| [a-z, ]*\\b" + command + "\\b"
			assert.Regexp(t, row, written)
		}
	}
}

// Commands that take the same thing take the same default.
func TestSharedFlagsHaveOneDefault(t *testing.T) {
	all := commands(t)
	for _, name := range []string{"topic", "partitions", "kafka-group", "outcome-retention", "accept-deadline"} {
		for command, flags := range all {
			if value, ok := flags[name]; ok {
				assert.Equal(t, all["worker"][name], value, "--%s of %s", name, command)
			}
		}
	}
	assert.Equal(t, all["server"]["listen"], all["healthcheck"]["listen"])
	if dev, ok := all["dev"]; ok {
		assert.Equal(t, all["server"]["listen"], dev["listen"])
		assert.Equal(t, all["worker"]["listen"], dev["worker-listen"])
	}
}

// A flag that a document names exists.
func TestFlagsInDocumentsExist(t *testing.T) {
	known := map[string]bool{"--help": true}
	for _, flags := range commands(t) {
		for name := range flags {
			known["--"+name] = true
		}
	}
	if len(commands(t)["dev"]) == 0 {
		t.Skip("a production build has no dev, whose flags the documents name")
	}
	documents := []string{"README.md", "docs/api.md", "docs/cli.md", "docs/configuration.md", "docs/design.md",
		"docs/load-testing.md", "docs/logs.md", "docs/metrics.md", "docs/tracing.md"}
	if _, err := os.Stat("docs/operations.md"); err == nil {
		documents = append(documents, "docs/operations.md")
	}
	for _, document := range documents {
		for _, name := range flagName.FindAllString(string(foreign.ReplaceAll(read(t, document), nil)), -1) {
			assert.True(t, known[name], "%s names %s, which is no flag", document, name)
		}
	}
}

// The API guide explains every code that the service can answer with, and no other.
func TestGuideExplainsEveryCode(t *testing.T) {
	guide := read(t, "docs/api.md")
	known := map[string]bool{}
	for _, source := range []string{"trade/code.go", "server/problem.go"} {
		for _, m := range code.FindAllSubmatch(read(t, source), -1) {
			known[string(m[1])] = true
			assert.Regexp(t, `\b`+string(m[1])+`\b`, string(guide), "docs/api.md does not explain %s", m[1])
		}
	}
	require.Greater(t, len(known), 20)
	for _, name := range codeInText.FindAllString(string(fence.ReplaceAll(guide, nil)), -1) {
		assert.True(t, known[name] || strings.HasPrefix(name, "TRADESTORE_"),
			"docs/api.md explains %s, which no one answers with", name)
	}
}
