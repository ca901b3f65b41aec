package cmd

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"tradestore/trade"
)

// A schema that was changed by hand makes a dead letter of a good trade. It is replayed too early, fails again and is
// not replayed in a loop; then it is stored, once, and the old requests stay what they were.
func testReplay(t *testing.T, s liveStack) {
	db, err := pgx.Connect(t.Context(), s.Database)
	require.NoError(t, err)
	defer db.Close(context.Background())
	exec := func(statement string) {
		t.Helper()
		_, err := db.Exec(t.Context(), statement)
		require.NoError(t, err)
	}
	count := func(query string) (n int) {
		t.Helper()
		require.NoError(t, db.QueryRow(t.Context(), query).Scan(&n))
		return n
	}
	letters := func(args ...string) (ran, []letter) {
		t.Helper()
		got := try(t, t.Context(), "replay", "",
			append([]string{"--database-url", s.Database, "--url", s.API, "--rate", "1000", "--json"}, args...)...)
		var all []letter
		for decoder := json.NewDecoder(strings.NewReader(got.stdout)); decoder.More(); {
			var l letter
			require.NoError(t, decoder.Decode(&l))
			all = append(all, l)
		}
		return got, all
	}
	exec(`ALTER TABLE trades ADD CONSTRAINT by_hand CHECK (trade_id <> 'REPLAY-1')`)
	first := post(t, s, tradeJSON("REPLAY-1", 4))
	require.Equal(t, exitFailed, try(t, t.Context(), "status", "", first, "--watch", "--url", s.API).code)

	got, all := letters()
	require.Equal(t, 0, got.code, got)
	require.Len(t, all, 1)
	require.Equal(t, []any{first, "REPLAY-1", int32(4), "INVALID_RECORD", planSubmit, ""},
		[]any{all[0].RequestID, all[0].TradeID, all[0].Version, all[0].Reason, all[0].Plan, all[0].ReplayOf})
	require.JSONEq(t, tradeJSON("REPLAY-1", 4), string(all[0].Value))
	require.Contains(t, got.stderr, "1 can be submitted (--submit), 0 stored already, 0 refused; nothing was changed")
	require.Equal(t, 1, count(`SELECT count(*) FROM journal WHERE request_id = '`+first+`' OR replay_of IS NOT NULL`))

	got, all = letters("--submit", "--request-id", first)
	require.Equal(t, exitFailed, got.code, got)
	require.Equal(t, trade.Failed, all[0].Result.Status)
	require.Equal(t, "INVALID_RECORD", all[0].Result.Code)
	second := all[0].Result.RequestID
	require.NotEqual(t, first, second)
	require.Equal(t, 1, count(`SELECT count(*) FROM journal WHERE request_id = '`+second+`' AND replay_of = '`+first+`'`))

	exec(`ALTER TABLE trades DROP CONSTRAINT by_hand`)
	got, all = letters("--submit", "--all")
	require.Equal(t, exitFailed, got.code, got)
	require.Len(t, all, 2)
	require.Equal(t, second, all[0].Result.RequestID, "the same key, the same request")
	require.Equal(t, trade.Failed, all[0].Result.Status)
	require.Equal(t, []string{second, first, planRefuse}, []string{all[1].RequestID, all[1].ReplayOf, all[1].Plan})
	require.Contains(t, all[1].Why, "--again")

	got, all = letters("--submit", "--again", "--request-id", second)
	require.Equal(t, 0, got.code, got)
	require.Equal(t, trade.Success, all[0].Result.Status)
	third := all[0].Result.RequestID
	require.Equal(t, 1, count(`SELECT count(*) FROM journal WHERE request_id = '`+third+`' AND replay_of = '`+second+`'`))
	require.Equal(t, 1, count(`SELECT count(*) FROM trades WHERE trade_id = 'REPLAY-1' AND version = 4`))
	require.Equal(t, exitFailed, try(t, t.Context(), "status", "", first, "--url", s.API).code,
		"the old status stays what it was")

	before := count(`SELECT count(*) FROM journal`)
	got, all = letters("--submit", "--again", "--all")
	require.Equal(t, 0, got.code, got)
	require.Equal(t, []string{planStored, planStored}, []string{all[0].Plan, all[1].Plan})
	require.Equal(t, before, count(`SELECT count(*) FROM journal`))

	testChoice(t, exec, letters)
	got = try(t, t.Context(), "replay", "", "--database-url", s.Database)
	require.Contains(t, got.stdout, "refused: its value is no trade: MALFORMED_JSON")
	require.Contains(t, got.stdout, `\u001b[2J`)
	require.Regexp(t, `(?m)^1  +\d+h0m\d+s ago  +\S+ ago  +MADE_UP: old$`, got.stdout)
	require.NotRegexp(t, `[^\n -~]`, got.stdout)
}

// testChoice inserts dead letters that no replay may take, and chooses among them.
func testChoice(t *testing.T, exec func(string), letters func(...string) (ran, []letter)) {
	insert := func(partition, offset, age, id, detail, value string) {
		exec(`INSERT INTO dead_letter VALUES (` + offset + `, now() - interval '` + age + `', ` + partition + `,
			(SELECT topic_id FROM ingest_offsets LIMIT 1), ` + id + `, 'MADE_UP', E'` + detail + `', ` + value + `)`)
	}
	good := `convert_to('` + tradeJSON("REPLAY-2", 1) + `', 'UTF8')`
	insert("0", "900001", "2 hours", "NULL", `no one \x1b[2J`, good)
	insert("1", "900002", "3 hours", "'"+someID+"'", "garbage", `'\xff00'`)
	insert("1", "900003", "20 days", "'"+someID+"'", "old", good)
	insert("2", "900004", "4 hours", "'"+someID+"'", "nothing", "NULL")
	insert("2", "900005", "5 hours", "'"+someID+"'", "much", "convert_to(repeat(' ', 70000), 'UTF8')")
	f := func(args string, details ...string) {
		t.Helper()
		_, all := letters(strings.Fields(args)...)
		var got []string
		for _, l := range all {
			require.Equal(t, planRefuse, l.Plan, l)
			got = append(got, l.Detail)
		}
		require.ElementsMatch(t, details, got)
	}
	const noOne = "no one \x1b[2J"
	f("--reason MADE_UP", noOne, "garbage", "old", "nothing", "much")
	f("--reason garb", "garbage")
	f("--min-age 90m", noOne, "garbage", "old", "nothing", "much")
	f("--min-age 90m --max-age 10h --partition 1", "garbage")
	f("--min-age 90m --partition 0,2", noOne, "nothing", "much")
	f("--request-id "+someID, "garbage", "old", "nothing", "much")
	f("--max-age 1ns")
	_, all := letters("--submit", "--reason", "MADE_UP")
	for _, l := range all {
		require.Nil(t, l.Result)
	}
	_, all = letters("--again", "--reason", "old") // the journal has no such request
	require.Equal(t, planSubmit, all[0].Plan)
}

func TestMistakesInReplay(t *testing.T) {
	f := func(want, args string) {
		t.Helper()
		got := try(t, t.Context(), "replay", "",
			append([]string{"--database-url", "postgres://u:s3cret@127.0.0.1:1/x"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, got.code, got)
		require.Contains(t, got.stderr, want)
	}
	f("--database-url: required", "--database-url=")
	f("--submit: choose some, or say --all", "--submit")
	f("--rate: 0 is not", "--rate 0")
	f("--max-age: 1h0m0s is not longer than --min-age 2h0m0s", "--max-age 1h --min-age 2h")
	f("--request-id: a request id is", "--request-id 7")
	f("--give-up-after:", "--give-up-after 0s")

	got := try(t, t.Context(), "replay", "", "--database-url", "postgres://u:s3cret@127.0.0.1:1/x")
	require.Equal(t, exitUnknown, got.code)
	require.Contains(t, got.stderr, "cannot read dead letters")
	require.NotContains(t, got.stderr, "s3cret")
}

func TestReplayKeepsToItsRate(t *testing.T) {
	r := &replayer{cfg: &replayCommand{Rate: 4}}
	before := time.Now()
	require.True(t, r.waitForTurn(t.Context()))
	require.WithinDuration(t, before.Add(time.Second/4), r.next, time.Minute)
	require.True(t, r.next.After(before.Add(time.Second/4)))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	r.next = time.Now().Add(time.Hour)
	require.False(t, r.waitForTurn(ended))
}
