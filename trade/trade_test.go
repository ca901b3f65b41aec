package trade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	_ "tradestore/test/cleanenv"
)

func TestKeyLess(t *testing.T) {
	t.Parallel()
	f := func(a, b Key, want bool) {
		t.Helper()
		require.Equal(t, want, a.Less(b))
		require.Equal(t, want, b.Compare(a) > 0)
		require.Equal(t, a == b, a.Compare(b) == 0)
	}
	f(Key{"A", 1}, Key{"A", 1}, false)
	f(Key{"A", 1}, Key{"A", 2}, true)
	f(Key{"A", 2}, Key{"A", 1}, false)
	f(Key{"A", 9}, Key{"B", 1}, true)
	f(Key{"B", 1}, Key{"A", 9}, false)
	f(Key{"A", 10}, Key{"A", 9}, false) // versions are numbers, not text
	f(Key{"A", 9}, Key{"A1", 1}, true)
	f(Key{"Z", 1}, Key{"a", 1}, true) // bytes, not a language's order
	f(Key{"A-1", 1}, Key{"A.1", 1}, true)
	f(Key{}, Key{"0", 1}, true)
	require.Equal(t, Key{"T-1", 7}, goodTrade.Key())
}

func TestExpired(t *testing.T) {
	t.Parallel()
	f := func(maturity, today Date, want bool) {
		t.Helper()
		trade := Trade{MaturityDate: maturity}
		require.Equal(t, want, trade.Expired(today))
	}
	f(100, 99, false)
	f(100, 100, false)
	f(100, 101, true)
	f(-1, 0, true)
}

func TestStatusTerminal(t *testing.T) {
	t.Parallel()
	f := func(s Status, want bool) {
		t.Helper()
		require.Equal(t, want, s.Terminal())
	}
	f(Pending, false)
	f(Success, true)
	f(Failed, true)
	f("", false)
	f("success", false)
}

func TestAcceptedOn(t *testing.T) {
	t.Parallel()
	f := func(at time.Time, want string) {
		t.Helper()
		require.Equal(t, want, (&Request{AcceptedAt: at}).AcceptedOn().String())
		require.Equal(t, want, (&RequestState{AcceptedAt: at}).AcceptedOn().String())
		require.Equal(t, want, (&Decision{RequestState: RequestState{AcceptedAt: at}}).AcceptedOn().String())
	}
	f(time.Date(2026, 11, 22, 23, 59, 59, 999_999_000, time.UTC), "2026-11-22")
	f(time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), "2026-11-23")
	f(time.Date(2026, 11, 23, 0, 30, 0, 0, time.FixedZone("east", 3600)), "2026-11-22")
}

func TestInvalidError(t *testing.T) {
	t.Parallel()
	f := func(invalid Invalid, want string) {
		t.Helper()
		require.EqualError(t, &invalid, want)
	}
	f(Invalid{InvalidTrade, []Violation{{"book_id", FieldFormat, "a"}}}, "INVALID_TRADE: book_id: a")
	two := []Violation{{"book_id", FieldFormat, "a"}, {"", FieldUnknown, "b"}}
	f(Invalid{InvalidTrade, two}, "INVALID_TRADE: book_id: a; b")
	f(Invalid{MalformedJSON, []Violation{{"", FieldFormat, "at byte 1"}}}, "MALFORMED_JSON: at byte 1")
	f(Invalid{Code: InvalidTrade}, "INVALID_TRADE: ")
}
