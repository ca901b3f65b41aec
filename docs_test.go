package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The documents are part of the product: what they name must exist.

var (
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.+)$`)
	fence      = regexp.MustCompile("(?ms)^```.*?^```$")
	notInSlugs = regexp.MustCompile("[^a-z0-9 _-]")
	ruleID     = regexp.MustCompile(`\b[PSAECBIRKT][1-9][0-9]?\b`)
	ruleHome   = regexp.MustCompile(`(?m)^(?:- \*\*|\| )([PSAECBIRKT][1-9][0-9]?)\b`)
)

// files returns the files of the repository with the ending given, outside of folders that hold no source.
func files(t *testing.T, ending string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "tradestore-data" || d.Name() == "coverage" || d.Name() == "bin"):
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
