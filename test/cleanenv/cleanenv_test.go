package cleanenv

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestWhatIsLeft is run by test/repo with an environment that has one of each.
func TestWhatIsLeft(t *testing.T) {
	if os.Getenv("CLEANENV_TEST") == "" {
		t.Skip("test/repo runs this test with settings in the environment")
	}
	for _, name := range []string{"TRADESTORE_DATABASE_URL", "TRADESTORE_LISTEN", "PGSERVICE", "PGOPTIONS",
		"PGSSLROOTCERT", "PGTARGETSESSIONATTRS", "AWS_PROFILE", "OTEL_SDK_DISABLED"} {
		_, set := os.LookupEnv(name)
		assert.False(t, set, name)
	}
	assert.Equal(t, "127.0.0.1:1", os.Getenv("TRADESTORE_TEST_KAFKA_BROKERS"))
	assert.NotEmpty(t, os.Getenv("PATH"))
}
