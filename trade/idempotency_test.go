package trade

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestIdempotencyKeysAreReadInBothSpellings(t *testing.T) {
	t.Parallel()
	f := func(in, want string) {
		t.Helper()
		key, err := ParseIdempotencyKey(in)
		require.NoErrorf(t, err, "%q", in)
		assert.Equal(t, IdempotencyKey(want), key)
	}
	f(`a`, "a")
	f(`"a"`, "a")
	f(`8e03978e-40d5-43dd-bc93-6894a57f9324`, "8e03978e-40d5-43dd-bc93-6894a57f9324")
	f(`"8e03978e-40d5-43dd-bc93-6894a57f9324"`, "8e03978e-40d5-43dd-bc93-6894a57f9324")
	f(`a"b\c`, `a"b\c`)
	f(`"a\"b\\c"`, `a"b\c`)
	f(`!~;,=`, `!~;,=`)
	f(strings.Repeat("k", 255), strings.Repeat("k", 255))
	f(`"`+strings.Repeat("k", 255)+`"`, strings.Repeat("k", 255))
	f(`"`+strings.Repeat(`\\`, 255)+`"`, strings.Repeat(`\`, 255))
}

func TestWhatIsNoIdempotencyKeyIsRefused(t *testing.T) {
	t.Parallel()
	f := func(in string) {
		t.Helper()
		key, err := ParseIdempotencyKey(in)
		require.ErrorIsf(t, err, ErrIdempotencyKey, "%q", in)
		assert.Empty(t, key)
	}
	f("")
	f(`"`)
	f(`""`)
	f(`"a`)
	f(`"a"b`)
	f(`"a";p=1`)
	f(`"a\`)
	f(`"a\"`)
	f(`"a\b"`)
	f("a b")
	f(`"a b"`)
	f("a\x00")
	f("a\x7f")
	f("\"a\tb\"")
	f("ключ")
	f("a\xff")
	f(strings.Repeat("k", 256))
	f(`"` + strings.Repeat("k", 256) + `"`)
}

func TestQuotingDoesNotChangeAKey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[!#-~][!-~]{0,254}`).Draw(t, "key")
		bare, err := ParseIdempotencyKey(key)
		require.NoError(t, err)
		quoted, err := ParseIdempotencyKey(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`)
		require.NoError(t, err)
		require.Equal(t, bare, quoted)
	})
}

func TestDerivedIDsAreVersion8AndStable(t *testing.T) {
	t.Parallel()
	id := DeriveRequestID("", "k", 0)
	assert.Equal(t, "1058d4a5-7713-8710-b319-1c827538c845", id.String(),
		"a release that derives other ids would store repeats twice")
	parsed, err := ParseRequestID(id.String())
	require.NoError(t, err)
	assert.Equal(t, id, parsed)
	_, dated := id.Day()
	assert.False(t, dated)

	seen := map[RequestID]bool{}
	f := func(principal string, key IdempotencyKey, attempt int) {
		t.Helper()
		id := DeriveRequestID(principal, key, attempt)
		assert.Falsef(t, seen[id], "%q %q %d", principal, key, attempt)
		seen[id] = true
		assert.Equal(t, byte(8), id[6]>>4)
		assert.Equal(t, byte(2), id[8]>>6)
	}
	for attempt := range 16 {
		f("", "k", attempt)
	}
	f("k", "", 0)
	f("a", "bc", 0)
	f("ab", "c", 0)
	f("", "abc", 0)
	f("", "k\x00\x00\x00\x01", 0)
}

func TestPayloadHashIsOfTheFieldsNotTheirSpelling(t *testing.T) {
	t.Parallel()
	hash := func(doc string) PayloadHash {
		t.Helper()
		parsed, invalid := Decode([]byte(doc))
		require.Nil(t, invalid)
		return HashPayload(&parsed)
	}
	one := hash(`{"trade_id":"T1","version":1,"counterparty_id":"C","book_id":"B",` +
		`"maturity_date":"2031-01-01","created_date":"2026-01-01"}`)
	same := hash(` { "created_date":"2026-01-01","maturity_date":"2031-01-01", "book_id":"\u0042", ` +
		`"counterparty_id":"C","version":1,"trade_id":"T1"}`)
	other := hash(`{"trade_id":"T1","version":1,"counterparty_id":"C","book_id":"b",` +
		`"maturity_date":"2031-01-01","created_date":"2026-01-01"}`)
	assert.Equal(t, one, same)
	assert.NotEqual(t, one, other)
}

func TestNoncesDiffer(t *testing.T) {
	t.Parallel()
	assert.NotEqual(t, NewNonce(), NewNonce())
}

func FuzzParseIdempotencyKey(f *testing.F) {
	long := strings.Repeat("k", MaxIdempotencyKey+1)
	for _, s := range []string{"k", `"k"`, `"a\"b\\"`, `"`, `""`, "two words", long, "\x00", "\u00e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		key, err := ParseIdempotencyKey(s)
		if err != nil {
			require.ErrorIs(t, err, ErrIdempotencyKey)
			require.Empty(t, key)
			return
		}
		require.Regexp(t, `^[!-~]{1,255}$`, string(key))
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(key)) + `"`
		again, err := ParseIdempotencyKey(quoted)
		require.NoError(t, err)
		require.Equal(t, key, again, "one key in its quoted spelling")
	})
}
