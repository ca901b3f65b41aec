package server

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"tradestore/trade"
)

func TestCursorIsReadBackAndNothingElseIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := trade.Key{
			TradeID: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`).Draw(t, "id"),
			Version: rapid.Int32Min(1).Draw(t, "version"),
		}
		scope := rapid.String().Draw(t, "scope")
		cursor := string(appendTradeCursor(nil, scope, key))
		require.LessOrEqual(t, len(cursor), maxCursor)
		got, err := parseTradeCursor(cursor, scope)
		require.NoError(t, err)
		require.Equal(t, key, got)
		_, err = parseTradeCursor(cursor, scope+"x")
		require.ErrorIs(t, err, errCursor)

		at := rapid.IntRange(0, len(cursor)-1).Draw(t, "at")
		with := rapid.Byte().Draw(t, "with")
		if changed := cursor[:at] + string([]byte{with}) + cursor[at+1:]; changed != cursor {
			_, err = parseTradeCursor(changed, scope)
			require.ErrorIs(t, err, errCursor)
		}
		_, err = parseTradeCursor(cursor[:at], scope)
		require.ErrorIs(t, err, errCursor)
	})
	for _, bad := range []trade.Key{{}, {TradeID: "T1"}, {TradeID: "T1", Version: -1}, {TradeID: "=1", Version: 1}} {
		_, err := parseTradeCursor(string(appendTradeCursor(nil, "", bad)), "")
		assert.ErrorIs(t, err, errCursor)
	}
	_, err := parseTradeCursor(string(appendCursor(nil, cursorOfTrades, "", []byte("abc"))), "")
	require.ErrorIs(t, err, errCursor)
	for _, bad := range []string{string(appendVersionCursor(nil, "", 0)), string(appendVersionCursor(nil, "", -1)),
		string(appendVersionCursor(nil, "T1", 1)), string(appendCursor(nil, cursorOfVersions, "", []byte("abc")))} {
		_, err = parseVersionCursor(bad, "")
		assert.ErrorIs(t, err, errCursor)
	}
	version, err := parseVersionCursor(string(appendVersionCursor(nil, "T1", 7)), "T1")
	require.NoError(t, err)
	assert.EqualValues(t, 7, version)
}

// Whatever a client sends for a cursor, it is read without a panic, and what is read can be a position.
func FuzzCursor(f *testing.F) {
	f.Add("AQAAAAFUMQ", "")
	f.Add(string(appendTradeCursor(nil, "&latest=true", trade.Key{TradeID: "T1", Version: 1})), "&latest=true")
	f.Fuzz(func(t *testing.T, cursor, scope string) {
		key, err := parseTradeCursor(cursor, scope)
		if err == nil && (!isTradeID(key.TradeID) || string(appendTradeCursor(nil, scope, key)) != cursor) {
			t.Fatalf("%q is read as %v", cursor, key)
		}
	})
}
