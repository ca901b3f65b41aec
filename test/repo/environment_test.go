package repo

import (
	"encoding/json"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const cleanEnvironment = "tradestore/test/cleanenv"

// What a user has exported reaches no test: neither the product's settings nor those of libpq, AWS and OpenTelemetry.
func TestEveryTestBinaryClearsItsEnvironment(t *testing.T) {
	out, err := exec.Command("go", "list", "-test", "-json=ImportPath,ForTest,Deps", "./...").Output()
	require.NoError(t, err)
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var p struct {
			ImportPath string
			Deps       []string
		}
		require.NoError(t, dec.Decode(&p))
		if strings.HasSuffix(p.ImportPath, ".test") && p.ImportPath != cleanEnvironment+".test" {
			seen++
			cleared := slices.Contains(p.Deps, cleanEnvironment)
			assert.True(t, cleared, "a test of %s must import %s", p.ImportPath, cleanEnvironment)
		}
	}
	require.Greater(t, seen, 20, "test binaries")
}

func TestTheEnvironmentIsCleared(t *testing.T) {
	cmd := exec.Command("go", "test", "-count=1", "-run", "^TestWhatIsLeft$", "./test/cleanenv")
	cmd.Env = append(os.Environ(), "CLEANENV_TEST=yes", "TRADESTORE_DATABASE_URL=postgres://nobody@127.0.0.1:1/nothing",
		"TRADESTORE_LISTEN=0.0.0.0:80", "PGSERVICE=nowhere", "PGOPTIONS=-c default_transaction_read_only=on",
		"PGSSLROOTCERT=/nowhere", "PGTARGETSESSIONATTRS=standby", "AWS_PROFILE=production", "OTEL_SDK_DISABLED=true",
		"TRADESTORE_TEST_KAFKA_BROKERS=127.0.0.1:1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
}
