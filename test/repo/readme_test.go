package repo

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	maxReadmeLines = 150
	generatedDirs  = " bin coverage loadtest-report tradestore-data tradestore-stack " // see .gitignore
)

var layoutCell = regexp.MustCompile("(?m)^\\| ([^|]*`[^|]*) \\|")

// TestReadmeIsAMap keeps README.md short enough to read and complete enough to find everything from it.
func TestReadmeIsAMap(t *testing.T) {
	readme := string(read(t, "README.md"))
	assert.LessOrEqual(t, strings.Count(readme, "\n"), maxReadmeLines, "lines of README.md")

	_, rest, found := strings.Cut(readme, "\n## Layout\n")
	require.True(t, found, "README.md has no section Layout")
	layout, _, _ := strings.Cut(rest, "\n## ")
	folders := ""
	for _, row := range layoutCell.FindAllStringSubmatch(layout, -1) {
		folders += row[1]
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() && !strings.HasPrefix(name, ".") && !strings.Contains(generatedDirs, " "+name+" ") {
			assert.Contains(t, folders, "`"+name+"/", "the layout table of README.md has no row for %s/", name)
		}
	}
}

// TestReadmeLinksEveryDocument finds a document that nobody can find from README.md.
func TestReadmeLinksEveryDocument(t *testing.T) {
	readme := string(read(t, "README.md"))
	documents, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, documents)
	for _, document := range append(documents, "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "bench/RESULTS.md") {
		assert.Contains(t, readme, "]("+document+")", "README.md does not link %s", document)
	}
}
