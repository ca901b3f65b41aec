package dashboards

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

// committed decodes the JSON files of this folder, by name.
func committed(t *testing.T) map[string]model {
	t.Helper()
	plugins.RegisterDefaultPlugins()
	paths, err := filepath.Glob("*.json")
	require.NoError(t, err)
	require.Len(t, paths, len(all), "one file a dashboard")
	decoded := map[string]model{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Empty(t, strictly(text), path)
		var d model
		require.NoError(t, json.Unmarshal(text, &d), path)
		require.NoError(t, d.Validate(), path)
		decoded[path] = d
	}
	return decoded
}

// strictly returns what Grafana's own types do not allow in a dashboard. The SDK returns an error without content when
// all is well, and then has left things out of what it decoded: only the list counts.
func strictly(text []byte) cog.BuildErrors {
	return cog.MakeBuildErrors("file", new(model).UnmarshalJSONStrict(text))
}

func TestStrictDecodingSeesWhatGrafanaDoesNotKnow(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	text, err := os.ReadFile("overview.json")
	require.NoError(t, err)
	f := func(key, where string) {
		t.Helper()
		require.Positive(t, strings.Count(string(text), key), key)
		wrong := strings.Replace(string(text), key, `"surprise": 1, `+key, 1)
		require.ErrorContains(t, strictly([]byte(wrong)), where)
	}
	f(`"uid": "tradestore-overview"`, "Dashboard")
	f(`"gridPos"`, "panels[0]")
	f(`"legendFormat"`, "targets[0]")
	f(`"graphMode"`, "options")
	f(`"lineWidth"`, "custom")
	f(`"allValue"`, "templating")
	require.NotEmpty(t, strictly([]byte("{")))
}

func TestCommittedDashboardsAreWhatTheCodeMakes(t *testing.T) {
	files, err := Files()
	require.NoError(t, err)
	require.Len(t, files, len(all))
	for name, want := range files {
		have, err := os.ReadFile(name)
		require.NoError(t, err, "run `make dashboards`")
		assert.True(t, bytes.Equal(want, have), "%s is not what the code makes: run `make dashboards`", name)
	}
}

// The capacity that is there before anybody enters one is the last that the embedded stack sustained when it was
// measured.
func TestDefaultCapacityIsTheMeasuredOne(t *testing.T) {
	results, err := os.ReadFile("../bench/RESULTS.md")
	require.NoError(t, err)
	_, capacity, _ := strings.Cut(string(results), "\n## Capacity\n")
	_, embedded, _ := strings.Cut(capacity, "### Embedded stack\n")
	embedded, _, _ = strings.Cut(embedded, "\n### ")
	sustained := regexp.MustCompile(`✓ +\S+/s +([0-9,]+)/s`).FindAllStringSubmatch(embedded, -1)
	require.NotEmpty(t, sustained)
	assert.Equal(t, strings.ReplaceAll(sustained[len(sustained)-1][1], ",", ""), knee,
		"change knee, and run `make dashboards`")
}

func TestDashboardsAreMadeTheSameEachTime(t *testing.T) {
	first, err := Files()
	require.NoError(t, err)
	second, err := Files()
	require.NoError(t, err)
	require.Equal(t, first, second)
}

func TestQueriesAreThoseOfTheCommittedPanels(t *testing.T) {
	shown := map[string]int{}
	for _, d := range committed(t) {
		for _, p := range panelsOf(d) {
			for _, expr := range exprsOf(t, p) {
				shown[*d.Uid+"/"+*p.Title+"/"+expr]++
			}
		}
	}
	listed := map[string]int{}
	for _, q := range Queries() {
		if q.Dashboard == "all" {
			continue // TestFrame looks at the marks
		}
		listed[q.Dashboard+"/"+q.Panel+"/"+q.Expr]++
	}
	require.Equal(t, shown, listed)
}

// Grafana ignores what it does not know in these files, so a key in the wrong place shows only when it starts.
func TestProvisioningIsWhatGrafanaReads(t *testing.T) {
	var folders struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Folder, Type    string
			FolderUID             string `yaml:"folderUid"`
			DisableDeletion       bool   `yaml:"disableDeletion"`
			AllowUIUpdates        bool   `yaml:"allowUiUpdates"`
			UpdateIntervalSeconds int    `yaml:"updateIntervalSeconds"`
			Options               struct {
				Path                      string
				FoldersFromFilesStructure bool `yaml:"foldersFromFilesStructure"`
			}
		}
	}
	decodeStrictly(t, "provisioning/dashboards/tradestore.yaml", &folders)
	require.Len(t, folders.Providers, 1)
	assert.Equal(t, "file", folders.Providers[0].Type)
	assert.True(t, filepath.IsAbs(folders.Providers[0].Options.Path))

	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Prune       bool
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
			Editable                     bool
			JSONData                     map[string]any `yaml:"jsonData"`
		}
	}
	decodeStrictly(t, "provisioning/datasources/tradestore.yaml", &sources)
	types := map[string]int{}
	for _, s := range sources.Datasources {
		types[s.Type]++
		assert.Equal(t, s.Type, s.UID, "sources refer to each other by uid")
		assert.Regexp(t, `^\$[A-Z]+_URL$`, s.URL)
	}
	require.Equal(t, map[string]int{"prometheus": 1, "tempo": 1, "loki": 1}, types)
	assert.True(t, sources.Datasources[0].IsDefault)
}
