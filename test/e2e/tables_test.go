package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The checker is red when the tables themselves are spoiled, not only the evidence in its unit tests.
func TestCheckReadsTheTables(t *testing.T) {
	t.Parallel()
	s := newRoles(t, embeddedStores(t), 1, 1)
	s.start(t)
	require.NoError(t, InstallAudit(t.Context(), s.Database))
	s.run(t.Context(), t, load{clients: 8, posts: 400, hot: 5})
	s.check(t)
	s.roles[1].proc.Terminate(t) // positions are about to be moved under it
	f := func(rules []string, spoil, repair string) {
		t.Helper()
		s.sql(t, spoil)
		ev, err := Gather(t.Context(), s.Endpoints, s.client)
		require.NoError(t, err)
		report := Check(s.ledger, ev, OrphansAllowed)
		require.Subset(t, report.Broken(), rules, "%s: %s", spoil, report)
		s.sql(t, repair)
	}
	f([]string{"I3"}, `UPDATE trades SET book_id = 'B-1x'`, `UPDATE trades SET book_id = 'B-1'`)
	f([]string{"I3"}, `UPDATE trades SET maturity_date = maturity_date - 1`,
		`UPDATE trades SET maturity_date = maturity_date + 1`)
	f([]string{"I3"}, `UPDATE trades SET version = version + 100`, `UPDATE trades SET version = version - 100`)
	f([]string{"I4"}, `UPDATE journal SET outcome = 'FAILED', reason = 'INVALID_RECORD' WHERE outcome = 'SUCCESS'`,
		`UPDATE journal SET outcome = 'SUCCESS', reason = NULL WHERE reason = 'INVALID_RECORD'`)
	f([]string{"I4"}, `UPDATE journal SET "offset" = "offset" + 1`, `UPDATE journal SET "offset" = "offset" - 1`)
	f([]string{"E7"},
		`INSERT INTO dead_letter SELECT 0, now(), 0, topic_id, NULL, 'x', 'x', 'x' FROM ingest_offsets WHERE partition = 0`,
		`DELETE FROM dead_letter`)
	f([]string{"I11"}, `UPDATE ingest_offsets SET next_offset = next_offset + 1`, `SELECT 1`)
	f([]string{"I1", "P1"}, `TRUNCATE requests, journal`, `SELECT 1`)
}
