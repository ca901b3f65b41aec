package trade

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A stored version is written like "1a@3": version 1 with book a, stored at second 3; a tilde marks one that replaces.
func storedAt(words []string) (all []StoredAt) {
	for _, w := range words {
		s := StoredAt{Trade: Trade{Version: int32(w[0] - '0'), BookID: w[1:2]}, At: time.Unix(int64(w[3]-'0'), 0)}
		s.Replaces = len(w) > 4
		all = append(all, s)
	}
	return all
}

func TestAsOf(t *testing.T) {
	t.Parallel()
	list := func(words ...string) []string { return words }
	f := func(second int64, now, journal []string, want ...string) {
		t.Helper()
		got, err := AsOf(time.Unix(second, 0), storedAt(now), storedAt(journal))
		if len(want) == 1 && want[0] == "?" {
			require.ErrorIs(t, err, ErrForgotten)
			return
		}
		require.NoError(t, err)
		var books []string
		for _, tr := range got {
			books = append(books, tr.BookID)
		}
		require.Equal(t, want, books)
	}
	now, journal := list("1b@3", "2d@7"), list("1a@1", "1b@3~", "2c@5", "2d@7~")
	f(0, now, journal)
	f(1, now, journal, "a")
	f(2, now, journal, "a")
	f(3, now, journal, "b")
	f(5, now, journal, "b", "c")
	f(6, now, journal, "b", "c")
	f(7, now, journal, "b", "d")
	f(9, now, nil, "b", "d") // what is stored since then needs no journal

	// The oldest rows are forgotten.
	f(4, now, list("2c@5", "2d@7~"), "b")
	f(2, now, list("2c@5", "2d@7~"), "?")
	f(2, now, list("1b@3~", "2c@5", "2d@7~"), "?")
	f(2, list("1b@3"), list("1b@3")) // it is known to be the first
	f(6, now, list("2d@7~"), "?")
	f(6, now, nil, "?")

	// In the order of the log, whatever the clocks of two workers said.
	f(4, list("1c@6"), list("1a@4", "1b@3~", "1c@6~"), "b")
}
