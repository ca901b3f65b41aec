package cmd

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"tradestore/internal/checks"
	"tradestore/test/stack"
)

func TestCheckShowsWhatIsExpectedAndSeen(t *testing.T) {
	t.Setenv("TRADESTORE_DATABASE_URL", stack.Database(t))
	t.Setenv("TRADESTORE_KAFKA_BROKERS", strings.Join(stack.Kafka(t), ","))
	t.Setenv("TRADESTORE_PARTITIONS", "3")
	t.Setenv("TRADESTORE_PROFILE", "single")
	t.Setenv("TRADESTORE_TIMEOUT", "1m")
	code, stdout, stderr := output("check")
	require.Equal(t, exitFailed, code, "before migrate")
	require.Regexp(t, `T1 +topic trades-inbound +there +no such topic +FAIL\n`, stdout)
	require.Regexp(t, `T1 +id of the topic +as recorded +\? \(1\) +unknown\n`, stdout)
	require.Contains(t, stdout, "\n(1) no such topic\n")
	require.Regexp(t, `T6 +version of the schema +\d.*compatible +none: run tradestore migrate +FAIL\n`, stdout)
	require.Regexp(t, `tradestore: of 29 checks 8 failed and \d+ could not be made\n`, stderr)

	code, _, stderr = output("migrate", "--log-format", "json")
	require.Equal(t, exitDone, code, stderr)
	code, stdout, stderr = output("check")
	require.Equal(t, exitDone, code, stdout)
	require.Empty(t, stderr)
	require.Regexp(t, `^RULE +CHECK +EXPECTED +SEEN +RESULT\n`, stdout)
	require.Regexp(t, `T1 +generation of the topic +the newest +1 +ok\n`, stdout)
	require.Regexp(t, `T2 +partitions of the topic +3 +3 +ok\n`, stdout)
	require.Regexp(t, `T3 +replicas of each partition +at least 3 +1 \(profile single\) +skipped\n`, stdout)
	require.Regexp(t, `T4 +auto.create.topics.enable +false +the broker does not know this setting +skipped\n`, stdout)

	code, stdout, _ = output("check", "--json", "--partitions", "4")
	require.Equal(t, exitFailed, code)
	var list []checks.Check
	require.NoError(t, json.Unmarshal([]byte(stdout), &list))
	require.Len(t, list, 29)
	require.Contains(t, list, checks.Compare("T2", "partitions of the topic", "4", "3", false))

	code, stdout, _ = output("check", "--profile", "production")
	require.Equal(t, exitFailed, code)
	require.Regexp(t, `T3 +replicas of each partition +at least 3 +1 +FAIL\n`, stdout)
	require.Regexp(t, `T6 +synchronous_standby_names +a standby +none: .+ +WARN\n`, stdout)
	require.Regexp(t, `T11 +clock against PostgreSQL +within 5s +\d{4}-.+Z here, \d{4}-.+Z there +ok\n`, stdout)

	code, _, stderr = output("check", "--timeout", "0s")
	require.Equal(t, exitUsage, code)
	require.Contains(t, stderr, "--timeout: 0s is not between")
}
